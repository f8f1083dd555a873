"""Reads the files that TensorFlow 1 left behind, without TensorFlow and without torch."""
