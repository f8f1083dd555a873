"""The command `mnistport plot`."""
