"""What a handful of runs says about an accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from mnistport.network import Network

ALLOWED_STANDARD_ERRORS = 3.0
"""An accuracy this far below the published one is not the published one."""
Z_95 = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A network's runs, all on one data set.

    Attributes:
        network: Its name.
        data: The data set.
        steps: Optimizer steps of each run.
        whole: Whether that is the whole recipe.
        accuracies: Final test accuracy of each seed, in 0..1.
        total: Test images.
        published: The published accuracy; None where there is none, or not on this data set.
        quote: The authors' words for it.
        decimals: How many of it they give.
        epoch_losses: Mean loss of each epoch, one list a seed, in nats.
        published_losses: The published ones; empty where there are none, or not on this data set.
        seconds: Training time of each run.
    """

    network: str
    data: str
    steps: int
    whole: bool
    accuracies: Sequence[float]
    total: int
    published: float | None
    quote: str
    decimals: int
    epoch_losses: Sequence[Sequence[float]]
    published_losses: Sequence[float]
    seconds: Sequence[float]

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds."""
        return fmean(self.accuracies)

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the seeds (n - 1); None for one seed."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, from the number of test images."""
        return wilson(self.mean, self.total)

    @property
    def standard_errors(self) -> float | None:
        """How far the mean is above the published accuracy, in standard errors of the published one."""
        if self.published is None:
            return None
        return (self.mean - self.published) / self.published_standard_error

    @property
    def published_standard_error(self) -> float:
        """What the size of the test set leaves open of the published accuracy (binomial)."""
        known = self.published or 0.0
        return math.sqrt(known * (1.0 - known) / self.total)

    @property
    def verdict(self) -> str:
        """Whether the published accuracy is reached; or, where it is given in few digits, is what ours rounds to."""
        if not self.whole:
            return "cut short"
        errors = self.standard_errors
        if errors is None:
            return "nothing to compare with"
        if errors >= -ALLOWED_STANDARD_ERRORS:
            return "reached"
        return "rounds to it" if round(self.mean, self.decimals) == self.published else "NOT REACHED"


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share (0..1) seen in `count` independent trials.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    scale = 1.0 + Z_95**2 / count
    middle = (share + Z_95**2 / (2 * count)) / scale
    half = Z_95 * math.sqrt(share * (1.0 - share) / count + Z_95**2 / (4 * count**2)) / scale
    return middle - half, middle + half


def summarise(network: Network, runs: Sequence[dict[str, Any]]) -> Summary:
    """A network's finished runs, in one. Published figures are for MNIST and nothing else."""
    first = runs[0]
    published = {one.what: one for one in network.published} if first["data"] == "mnist" else {}
    accuracy, losses = published.get("test accuracy"), published.get("loss per epoch")
    return Summary(
        network=network.name,
        data=first["data"],
        steps=first["steps"],
        whole=first["settings"]["max_steps"] is None,
        accuracies=[run["correct"] / run["total"] for run in runs],
        total=first["total"],
        published=float(accuracy.value) if accuracy is not None else None,  # type: ignore[arg-type]
        quote=accuracy.quote if accuracy is not None else "",
        decimals=accuracy.decimals if accuracy is not None else 4,
        epoch_losses=[[math.nan if loss is None else loss for loss in run["epoch_losses"]] for run in runs],
        published_losses=losses.value if losses is not None else (),  # type: ignore[arg-type]
        seconds=[run["seconds"] for run in runs],
    )
