"""One module a command: options, one function of the other rooms, what to print, exit code."""
