"""Classic TensorFlow 1 MNIST tutorials, reproduced in PyTorch Lightning."""

__version__ = "0.1.0"
