"""Which test accuracy a whole recipe ends with on MNIST. This imports no torch."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from statistics import fmean, stdev
from textwrap import fill
from typing import NamedTuple

from mnistport import networks
from mnistport.arguments import Parser
from mnistport.errors import UserError
from mnistport.overview import GLANCES
from mnistport.plugins import no_such_name

WIDTH = 80
FEWEST_SEEDS = 3
"""From fewer runs nothing is said of how much they scatter."""

T_975 = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""The 97.5 % quantile of Student's t distribution, by degrees of freedom."""


class Measured(NamedTuple):
    """Whole recipes that were trained on MNIST, one for each seed.

    Attributes:
        steps: Optimizer steps of the recipe.
        accuracies: The test accuracy (0..1) at the end of each run.
    """

    steps: int
    accuracies: tuple[float, ...]

    @property
    def range(self) -> tuple[float, float] | None:
        """Where 95 % of further runs end. None if the seeds are too few.

        This is the prediction interval of a normal distribution: the mean, plus and minus
        t * deviation * sqrt(1 + 1 / seeds).
        """
        seeds = len(self.accuracies)
        if seeds < FEWEST_SEEDS:
            return None
        reach = T_975[seeds - 1] * stdev(self.accuracies) * math.sqrt(1 + 1 / seeds)
        mean = fmean(self.accuracies)
        return mean - reach, mean + reach


FOLDER = "results/reproduce-cpu-torch2.14.1"
MEASURED = {
    "softmax_beginners": Measured(1_000, (0.9178, 0.9195, 0.9194)),
    "softmax": Measured(1_000, (0.9178, 0.9195, 0.9194)),
    "deep": Measured(20_000, (0.9923,)),
    "hvass": Measured(10_000, (0.987, 0.987, 0.9866)),
    "three_minute_adam": Measured(8_250, (0.991,)),
    "three_minute_rmsprop": Measured(8_250, (0.99, 0.9921, 0.9914)),
    "three_minute_layers": Measured(8_250, (0.9907,)),
    "convnet": Measured(42_900, (0.9891,)),
}
"""What `FOLDER` in the repository holds. A test compares the two."""


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line of `expected`."""
    options = Parser(
        prog="mnistport expected",
        description="Say which test accuracy a network's whole recipe ends with on "
        "MNIST, and in which range other seeds are expected to end.",
    )
    options.add_argument("network", metavar="NAME", help="see `mnistport list`")
    return options


def show_expected(name: str) -> int:
    """Print what a network's whole recipe ends with. Returns the exit status.

    Raises:
        UserError: There is no such network.
    """
    if name not in networks.names():
        raise UserError(no_such_name("network", name, networks.names()))
    for line in lines(name):
        print(fill(line, WIDTH))
    return 0


def lines(name: str) -> list[str]:
    """What is known of a network's recipe, in sentences."""
    if name not in MEASURED:
        return [f"{name} is a plug-in; nothing was measured for it here."]
    measured, glance = MEASURED[name], GLANCES[name]
    listed = ", ".join(f"{accuracy:.4f}" for accuracy in measured.accuracies)
    return [
        f"{name} is trained for {glance.recipe} on MNIST.",
        f"Its authors give a test accuracy of {glance.published}.",
        f"Here the whole recipe, with {_seeds(measured)}, ended at {listed} ({FOLDER}).",
        _in_words(name, measured),
    ]


def _in_words(name: str, measured: Measured) -> str:
    if measured.range is None:
        return f"The range of other seeds cannot be said: {_too_few(name, measured)}."
    low, high = measured.range
    return (
        f"Of other seeds, 95 % are expected to end between {low:.4f} and {high:.4f}, if "
        "their accuracies have a normal distribution."
    )


def _seeds(measured: Measured) -> str:
    count = len(measured.accuracies)
    return "1 seed" if count == 1 else f"{count} seeds"


def _too_few(name: str, measured: Measured) -> str:
    return (
        f"{_seeds(measured)} of {name} cannot tell how much they scatter; "
        f"`mnistport reproduce {name} --seeds {FEWEST_SEEDS}` trains {FEWEST_SEEDS}"
    )


def verdict(
    name: str, accuracy: float, *, steps: int, data: str, differing: Sequence[str]
) -> str:
    """Whether a run's accuracy lies in the range of the recipe, or why that is unknown.

    Args:
        name: The network.
        accuracy: Its test accuracy, 0..1.
        steps: The optimizer steps it was trained for.
        data: The name of the data set.
        differing: What else differs from the recipe, in words.
    """
    if name not in MEASURED:
        return f"nothing was measured for {name}, to which this could be compared"
    measured = MEASURED[name]
    reasons = []
    if data != "mnist":
        reasons.append(f"on {data}, not MNIST")
    if steps != measured.steps:
        reasons.append(f"after {steps:,} steps, not {measured.steps:,}")
    if reasons := [*reasons, *differing]:
        return (
            "whether this is what the recipe ends with cannot be said: it was reached "
            f"{'; '.join(reasons)}"
        )
    if measured.range is None:
        (known, *_) = measured.accuracies
        return (
            "whether this is in the range of the recipe's seeds cannot be said: "
            f"{_too_few(name, measured)} (that seed ended at {known:.4f})"
        )
    low, high = measured.range
    where = "in" if low <= accuracy <= high else "below" if accuracy < low else "above"
    return (
        f"this is {where} the range that {_seeds(measured)} of the whole recipe predict, "
        f"{low:.4f} to {high:.4f} for 95 % of the seeds"
    )
