"""Whole recipes, trained from several seeds and compared with the published results."""
