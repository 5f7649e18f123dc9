"""One module a command: parse, build, Trainer.<verb>."""
