"""All checks, as records, in the order in which they are asked.

This file imports neither the checks themselves nor NumPy nor torch.
"""

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
    """A part of a reference without which a check cannot be asked.

    Attributes:
        text: The part, as it is written in the reference.
        given: A function: (reference, data) -> whether they have this part.
    """

    text: str
    given: Callable[[Reference, Data], bool]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One claim about a port.

    Attributes:
        name: The name on the command line. The check's function has the same name.
        claim: The claim, in one line.
        precisions: The precisions in which it can be asked.
        because: Why it is not asked in the other precision. "" if it is.
        quick: Whether it is asked by default.
        needs: The parts that it needs and that only some references have.
        module: The file in `parity/checks/`, if it has another name than the check.
    """

    name: str
    claim: str
    precisions: Sequence[str] = ("float64", "float32")
    because: str = ""
    quick: bool = False
    needs: Sequence[Need] = ()
    module: str = ""

    def __call__(self, case: Case) -> list[Comparison]:
        """Run the check on a case. Returns all comparisons."""
        module = import_module(f"parity.checks.{self.module or self.name}")
        function = getattr(module, self.name)
        return cast("list[Comparison]", function(case))

    def lacking(self, reference: Reference, data: Data) -> list[str]:
        """The parts that the check needs and this reference lacks."""
        return [need.text for need in self.needs if not need.given(reference, data)]


ORIGINAL = Need("Data(original=...)", lambda reference, data: data.original is not None)
TRAINER = Need(
    "Reference(trainer=...)", lambda reference, data: reference.trainer is not None
)

DRAWS = Need(
    "dropouts whose numbers its Trainer(draws=...) tells",
    lambda reference, data: (
        bool(reference.draws)
        and reference.trainer is not None
        and reference.trainer.draws is not None
    ),
)
COMMANDS = Need(
    "Reference(commands=...)", lambda reference, data: reference.commands is not None
)
RECIPE = Need(
    "Reference(recipe=...)", lambda reference, data: reference.recipe is not None
)

WHOLE = Need("Data(recipe_steps=...)", lambda reference, data: data.recipe_steps > 0)
EPOCHS = Need(
    "Data(steps_per_epoch=...)", lambda reference, data: data.steps_per_epoch > 0
)

FREE_RUNS = "rounding parts free float32 runs, TF1's own included"
"""Why free runs are compared in float64 only.

In float32, rounding decides whether a ReLU passes a unit near zero. So two correct runs
drift apart, even two runs of TF1. After 50 steps their difference says nothing."""

CHECKS = (
    Check(
        name="data",
        claim="every batch of three epochs, and the step into the fourth, is the "
        "original's, pixel for pixel",
        needs=(ORIGINAL, EPOCHS),
    ),
    Check(
        name="recipe",
        claim="rate, batch, steps, stream, split, scaling, dropouts, every image and "
        "label are the tutorial's, whose numbers and reader are the other side's own",
        precisions=("float32",),
        because="the numbers are the same in every precision",
        quick=True,
        needs=(RECIPE,),
    ),
    Check(
        name="draws",
        claim="the dropouts' random numbers are uniform, and others for every image, "
        "unit, layer, step and seed",
        precisions=("float32",),
        because="the numbers are the same in every precision",
        quick=True,
        needs=(DRAWS,),
    ),
    Check(
        name="initialisation",
        claim="every initial distribution is TF1's own",
    ),
    Check(
        name="weights",
        claim="the weight map is complete, and every tensor has the right orientation",
        quick=True,
    ),
    Check(
        name="forward",
        claim="every named stage is the same, in evaluation and in training mode",
        quick=True,
    ),
    Check(
        name="loss",
        claim="the loss is the same, also on weights so large that probabilities round "
        "to 0 and 1",
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
        claim="a step of the optimizer changes weights and slots alike, and so do ten "
        "(in float32: the first, and the eleventh from TF1's state)",
        quick=True,
    ),
    Check(
        name="lockstep",
        claim="fifty steps of the tutorial's training stay together in a bare loop",
        precisions=("float64",),
        because=FREE_RUNS,
    ),
    Check(
        name="trainer",
        claim="ten steps of the port's real Trainer are TF1's (in float32: the first, "
        "and the eleventh from TF1's state)",
        needs=(TRAINER, ORIGINAL),
    ),
    Check(
        name="long_trainer",
        claim="fifty steps of the port's real Trainer are TF1's",
        precisions=("float64",),
        because=FREE_RUNS,
        needs=(TRAINER, ORIGINAL),
        module="trainer",
    ),
    Check(
        name="accuracy",
        claim="on weights trained by TF1, every test example gets the same output and "
        "the same class (in float32: where rounding cannot decide the class)",
        quick=True,
    ),
    Check(
        name="product",
        claim="each step that `fit` takes, over the end of a chunk and of an epoch, is "
        "TF1's from the same state; `test` and `predict` print TF1's count and classes "
        "(in float32: of all test images)",
        quick=True,
        needs=(COMMANDS, TRAINER, ORIGINAL),
    ),
    Check(
        name="every_image",
        claim="`test` and `predict` print TF1's count and classes of all test images",
        precisions=("float64",),
        because="`product` asks it in float32",
        needs=(COMMANDS, TRAINER),
        module="printed",
    ),
    Check(
        name="late_steps",
        claim="single steps of `fit` late in the recipe, up to its last, are TF1's",
        needs=(COMMANDS, TRAINER, ORIGINAL, RECIPE, WHOLE),
    ),
    Check(
        name="checkpoint",
        claim="a TF1 checkpoint survives conversion to our formats and back, and "
        "training may change sides in between (in float64, with a trainer)",
    ),
)
"""The checks, in the order in which they are asked.

Each assumes that the earlier ones hold."""


def get(name: str) -> Check:
    """The check with this name.

    Raises:
        UserError: There is none.
    """
    for check in CHECKS:
        if check.name == name:
            return check
    names = ", ".join(check.name for check in CHECKS)
    raise UserError(f"no check is called {name!r}; there are {names}")
