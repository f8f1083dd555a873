"""Finds which TF1 variable is which torch tensor, by running both sides.

Names decide nothing. Both sides are filled with numbers for which it does not matter
which weight is which. Then the gradients of two weights that correspond hold the same
numbers, in some order. The order tells the layout. What was found is filled with random
numbers, so that more can be told, and so on. Rows are given only if in the end both sides
agree on loss, output and each gradient with random numbers in all weights.
"""

from parity.mapping.pair import Pair
from parity.mapping.search import Found, find
from parity.mapping.written import lines

__all__ = ["Found", "Pair", "find", "lines"]
