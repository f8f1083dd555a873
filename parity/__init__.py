"""Proof that a PyTorch port equals its TensorFlow 1 original.

Both sides are compared in their outputs, gradients, optimizer steps and accuracy.
"""
