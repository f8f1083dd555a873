"""Proof that a PyTorch port equals its TensorFlow 1 original: outputs, gradients, optimizer steps, accuracy."""
