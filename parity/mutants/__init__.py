"""Faults that are planted on purpose: they show what the checks notice.

`layers.py`      faults in single layers
`training.py`    faults in the loss, the optimizer and the tables of names
`operations.py`  automatic faults for any port
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.case import Case
from parity.mutants.layers import of_layers
from parity.mutants.mutant import Mutant, Outcome, outcome
from parity.mutants.operations import of_operations
from parity.mutants.training import of_the_loss, of_the_map, of_the_optimizer

__all__ = ["Mutant", "Outcome", "mutants_of", "outcome"]


def mutants_of(case: Case) -> Iterator[Mutant]:
    """All faults that can be planted in a port."""
    yield from of_layers(case)
    yield from of_the_loss(case)
    yield from of_the_optimizer(case)
    yield from of_the_map(case)
    yield from of_operations(case)
