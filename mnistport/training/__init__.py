"""Training in Lightning: one module for every network, chunks of steps, the tutorials' printed lines."""
