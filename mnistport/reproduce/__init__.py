"""Whole recipes, trained from several seeds and laid beside what their authors published."""
