"""The command `mnistport export`: a trained network in formats that others read."""
