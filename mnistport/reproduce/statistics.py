"""What the results of a few runs say about the accuracy of a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from mnistport.network import Network, Published
from mnistport.reproduce.result import RunResult

ALLOWED_STANDARD_ERRORS = 3.0
"""An accuracy that is lower than the published one by more than this is not enough."""
Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution, for 95 % intervals."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All runs of one network with the same options, on one data set.

    Attributes:
        network: The name of the network.
        row: The same, and the options.
        data: The name of the data set.
        steps: Optimizer steps of each run.
        whole: Whether the runs were whole recipes, not cut short.
        accuracies: Final test accuracy (0..1), one for each seed.
        total: Test images.
        published: The published accuracy (0..1). None if there is none for this data set.
        quote: The authors' own words for the published accuracy, or "".
        decimals: How many decimals of it the authors give, as a fraction.
        epoch_losses: Mean loss of each epoch, in nats: one sequence for each seed.
        published_losses: The published mean losses, in nats. Empty if there are none for
            this data set.
        seconds: Training time of each run.
    """

    network: str
    row: str
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
        """The mean accuracy of the seeds, 0..1."""
        return fmean(self.accuracies)

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the accuracies (n - 1). None for a single seed."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean accuracy, for `total` images."""
        return wilson(self.mean, self.total)

    @property
    def standard_errors(self) -> float | None:
        """Mean minus published accuracy, in standard errors of the published one."""
        if self.published is None:
            return None
        return (self.mean - self.published) / self.published_standard_error

    @property
    def published_standard_error(self) -> float:
        """The binomial standard error of the published accuracy, for `total` images."""
        accuracy = self.published or 0.0
        return math.sqrt(accuracy * (1.0 - accuracy) / self.total)

    @property
    def verdict(self) -> str:
        """Whether the runs reach the published accuracy, in words.

        "reached": the mean is at most three standard errors below the published accuracy.
        "rounds to it": it is lower, but rounded to the authors' decimals it is the same.
        "NOT REACHED": it is lower, and not the same when rounded.
        "cut short", "nothing to compare with": there is no comparison.
        """
        if not self.whole:
            return "cut short"
        errors = self.standard_errors
        if errors is None:
            return "nothing to compare with"
        if errors >= -ALLOWED_STANDARD_ERRORS:
            return "reached"
        if round(self.mean, self.decimals) == self.published:
            return "rounds to it"
        return "NOT REACHED"


def wilson(fraction: float, count: int) -> tuple[float, float]:
    """The 95 % score interval of a fraction (0..1) seen in `count` independent trials.

    Returns (lower end, upper end). Source: E. B. Wilson, "Probable inference, the law of
    succession, and statistical inference", 1927.
    """
    scale = 1.0 + Z_95**2 / count
    middle = (fraction + Z_95**2 / (2 * count)) / scale
    variance = fraction * (1.0 - fraction) / count + Z_95**2 / (4 * count**2)
    half_width = Z_95 * math.sqrt(variance) / scale
    return middle - half_width, middle + half_width


def summarise(network: Network, runs: Sequence[RunResult]) -> Summary:
    """Summarise the finished runs of one row, of which there must be one or more.

    Published figures are for MNIST. On other data sets the summary has none.
    """
    first = runs[0]
    published = _published_figures(network, first.data)
    accuracy = published.get("test accuracy")
    losses = published.get("loss per epoch")
    return Summary(
        network=network.name,
        row=first.settings.row,
        data=first.data,
        steps=first.steps,
        whole=first.settings.max_steps is None,
        accuracies=[run.accuracy for run in runs],
        total=first.total,
        published=None if accuracy is None else float(accuracy.value),  # type: ignore[arg-type]
        quote="" if accuracy is None else accuracy.quote,
        decimals=4 if accuracy is None else accuracy.decimals,
        epoch_losses=[run.epoch_losses for run in runs],
        published_losses=() if losses is None else losses.value,  # type: ignore[arg-type]
        seconds=[run.seconds for run in runs],
    )


def _published_figures(network: Network, data: str) -> dict[str, Published]:
    """The published figures for this data set, by what was measured."""
    if data != "mnist":
        return {}
    return {figure.what: figure for figure in network.published}
