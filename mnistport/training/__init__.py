"""Training in Lightning.

One module trains every network, in chunks of optimizer steps, and prints the lines that
the tutorials print.
"""
