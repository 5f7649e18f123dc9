"""Training from the command line: the LightningCLI, checks before heavy imports, run folders, one-line errors."""
