"""Models as files for other runtimes, each with its contract inside, and the runtimes that restore with them."""
