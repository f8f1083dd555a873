"""The ladder of proof: every check as a record. Importing this imports no check, and neither NumPy nor torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from mnistport.errors import UserError

if TYPE_CHECKING:
    from parity.case import Case
    from parity.compare import Comparison
    from parity.reference import Data, Reference


@dataclass(frozen=True)
class Need:
    """What a reference must give before a check can be asked of it.

    Attributes:
        text: What it gives, as it stands in the reference.
        given: Whether this reference and its data do.
    """

    text: str
    given: Callable[[Reference, Data], bool]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One claim about a port.

    Attributes:
        name: Its name on the command line, and its function's.
        claim: What is proven if it holds, in a line.
        precisions: In which it can be asked.
        quick: Whether it is asked where nothing else is said.
        needs: What only some references give.
        module: The file in `parity/checks/`, where it is not called like the check.
    """

    name: str
    claim: str
    precisions: Sequence[str] = ("float64", "float32")
    quick: bool = False
    needs: Sequence[Need] = ()
    module: str = ""

    def __call__(self, case: Case) -> list[Comparison]:
        """Ask it of a case; every comparison that was made."""
        function = getattr(
            import_module(f"parity.checks.{self.module or self.name}"), self.name
        )
        return cast("list[Comparison]", function(case))

    def lacking(self, reference: Reference, data: Data) -> list[str]:
        """What this reference does not give, and the check needs."""
        return [need.text for need in self.needs if not need.given(reference, data)]


ORIGINAL = Need("Data(original=...)", lambda reference, data: data.original is not None)
TRAINER = Need(
    "Reference(trainer=...)", lambda reference, data: reference.trainer is not None
)

FREE_RUNNING = ("float64",)
"""The precision in which free runs can be compared. In float32 rounding at a ReLU sends a unit one way or the other
and parts two sound runs, TF1's own two included: what is left after 50 steps says nothing."""

CHECKS = (
    Check(
        name="data",
        claim="every batch of three epochs, and the step into the fourth, is the original's, pixel for pixel",
        needs=(ORIGINAL,),
    ),
    Check(
        name="initialisation",
        claim="every initial distribution is TF1's own",
    ),
    Check(
        name="weights",
        claim="the weight map is complete, and every tensor is laid the right way round",
        quick=True,
    ),
    Check(
        name="forward",
        claim="every named stage is the same, in evaluation and in training mode",
        quick=True,
    ),
    Check(
        name="loss",
        claim="the loss is the same, also on weights so large that probabilities round to 0 and 1",
        quick=True,
        module="forward",
    ),
    Check(
        name="gradients",
        claim="every trainable variable's gradient is the same",
        quick=True,
    ),
    Check(
        name="step",
        claim="a step of the optimizer changes weights and slots alike, and so do ten",
        quick=True,
    ),
    Check(
        name="lockstep",
        claim="fifty steps of the tutorial's training stay together in a bare loop",
        precisions=FREE_RUNNING,
    ),
    Check(
        name="trainer",
        claim="ten steps of the port's real Trainer are TF1's (in float32: the first step)",
        quick=True,
        needs=(TRAINER, ORIGINAL),
    ),
    Check(
        name="long_trainer",
        claim="fifty steps of the port's real Trainer are TF1's",
        precisions=FREE_RUNNING,
        needs=(TRAINER, ORIGINAL),
        module="trainer",
    ),
    Check(
        name="accuracy",
        claim="on weights TF1 has trained, every test example gets the same output and the same class",
        quick=True,
    ),
    Check(
        name="checkpoint",
        claim="a TF1 checkpoint survives the way to us and back, and training may change sides in between",
    ),
)
"""In the order they are asked: a later one assumes that the earlier ones hold."""


def get(name: str) -> Check:
    """The check of this name.

    Raises:
        UserError: There is none.
    """
    for check in CHECKS:
        if check.name == name:
            return check
    raise UserError(
        f"no check is called {name!r}; there are {', '.join(check.name for check in CHECKS)}"
    )
