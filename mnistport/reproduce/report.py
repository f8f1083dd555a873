"""The runs of `mnistport reproduce` as a Markdown page, a JSON document and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from mnistport.reproduce.statistics import ALLOWED_STANDARD_ERRORS, Summary

COLUMNS = ("data", "steps", "seeds", "test accuracy", "deviation", "95 % interval", "published", "apart", "verdict")
NOTES = (
    "Test accuracy is the mean over the seeds, deviation their standard deviation (n - 1). The interval is the 95 %",
    "binomial one (Wilson) for a test set of this size. Apart: mean minus published, in standard errors of the",
    "published figure on that many images; down to -3 counts as reached. Rounds to it: further below, but the authors",
    "give so few digits that they would have given this mean as the same figure. Time: training with the tutorial's",
    "own reports, median.",
)


def markdown(summaries: Sequence[Summary], environment: Mapping[str, Any]) -> str:
    """The whole page."""
    lines = ["# Whole recipes", "", f"`{environment['command']}`", "", *table(summaries), "", *NOTES]
    with_curve = [summary for summary in summaries if summary.published_losses]
    if with_curve:
        lines += ["", "## Mean loss of each epoch, against the published", ""]
    for summary in with_curve:
        lines += [f"{summary.network}", "", *_curve(summary), ""]
    facts = [f"- {name}: {value}" for name, value in environment.items() if name != "command"]
    return "\n".join([*lines, "", "Made on:", "", *facts, ""])


def table(summaries: Sequence[Summary]) -> list[str]:
    """One row a network."""
    head = ("network", *COLUMNS, "time")
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(_row(s))} |" for s in summaries)]


def _row(summary: Summary) -> list[str]:
    low, high = summary.interval
    errors = summary.standard_errors
    published = "" if summary.published is None else summary.quote or f"{summary.published:.4f}"
    return [
        summary.network,
        summary.data,
        f"{summary.steps:,}",
        str(len(summary.accuracies)),
        f"{summary.mean:.4f}",
        "" if summary.deviation is None else f"{summary.deviation:.4f}",
        f"{low:.4f} - {high:.4f}",
        published,
        "" if errors is None else f"{errors:+.1f}",
        summary.verdict,
        clock(median(summary.seconds)),
    ]


def _curve(summary: Summary) -> list[str]:
    """Epoch by epoch: published, our mean, our deviation over the seeds, their quotient."""
    epochs = range(min(len(summary.published_losses), *(len(losses) for losses in summary.epoch_losses)))
    ours = [[losses[epoch] for losses in summary.epoch_losses] for epoch in epochs]
    rows = {
        "published": [f"{summary.published_losses[epoch]:.4f}" for epoch in epochs],
        "ours": [f"{fmean(losses):.4f}" for losses in ours],
        "deviation": [f"{stdev(losses):.4f}" if len(losses) > 1 else "" for losses in ours],
        "ours / published": [f"{fmean(ours[epoch]) / summary.published_losses[epoch]:.2f}" for epoch in epochs],
    }
    head = f"| epoch | {' | '.join(str(epoch + 1) for epoch in epochs)} |"
    return [head, f"|{'---|' * (len(epochs) + 1)}", *(f"| {name} | {' | '.join(row)} |" for name, row in rows.items())]


def document(
    summaries: Sequence[Summary], runs: Sequence[Mapping[str, Any]], environment: Mapping[str, Any]
) -> dict[str, Any]:
    """As `reproduce.json` holds it (schema 1)."""
    results = [
        {
            **asdict(summary),
            "epoch_losses": [
                [loss if math.isfinite(loss) else None for loss in losses] for losses in summary.epoch_losses
            ],
            "mean": summary.mean,
            "deviation": summary.deviation,
            "interval_95": summary.interval,
            "standard_errors_apart": summary.standard_errors,
            "verdict": summary.verdict,
        }
        for summary in summaries
    ]
    return {"schema": 1, "environment": dict(environment), "results": results, "runs": list(runs)}


def plot(summaries: Sequence[Summary], file: Path) -> None:
    """Above: final test accuracies against the published ones. Below, a panel a network: the loss of each epoch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves = [summary for summary in summaries if len(summary.epoch_losses[0]) > 1]
    columns = min(3, max(1, len(curves)))
    rows = -(-len(curves) // columns)
    figure = pyplot.figure(figsize=(10, 1.0 + 0.3 * len(summaries) + 2.6 * rows), layout="constrained")
    parts = figure.subfigures(2 if rows else 1, 1, squeeze=False, height_ratios=_heights(len(summaries), rows))
    _accuracies(parts[0, 0].subplots(), summaries)
    if rows:
        grid = parts[1, 0].subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(curves) :]:
            axes.remove()
        for axes, summary in zip(grid.flat[: len(curves)], curves, strict=True):
            _losses(axes, summary)
        parts[1, 0].supxlabel("epoch", fontsize=9)
        parts[1, 0].supylabel("mean training loss of the epoch, nats", fontsize=9)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def _heights(networks: int, rows: int) -> list[float]:
    return [1.0 + 0.3 * networks, *([2.6 * rows] if rows else [])]


def _accuracies(axes: Any, summaries: Sequence[Summary]) -> None:
    """A row a network: a dot a seed; the published figure with three standard errors either side."""
    known = [summary for summary in summaries if summary.published is not None]
    for row, summary in enumerate(summaries):
        wrong = [100.0 * (1.0 - accuracy) for accuracy in summary.accuracies]
        axes.plot(
            wrong, [row] * len(wrong), "o", color="tab:blue", markersize=4, label=None if row else "ours, a dot a seed"
        )
        if summary.published is not None:
            spread = 100.0 * ALLOWED_STANDARD_ERRORS * summary.published_standard_error
            style = {"fmt": "x", "color": "black", "markersize": 5, "linewidth": 0.8, "capsize": 2}
            label = "published, and three standard errors" if summary is known[0] else None
            axes.errorbar(100.0 * (1.0 - summary.published), row + 0.25, xerr=spread, label=label, **style)
    axes.set_yticks(range(len(summaries)), [summary.network for summary in summaries], fontsize=8)
    axes.set(xscale="log", ylim=(len(summaries) - 0.4, -0.6))
    axes.set_xlabel(f"test images classified wrong, % ({summaries[0].data})", fontsize=9)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="x", labelsize=7, which="both")
    axes.grid(axis="x", alpha=0.3, which="both")
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.0)


def _losses(axes: Any, summary: Summary) -> None:
    """A line a seed, and the published figures."""
    for number, losses in enumerate(summary.epoch_losses):
        label = None if number else f"ours ({len(summary.epoch_losses)})"
        axes.plot(range(1, len(losses) + 1), losses, color="tab:blue", linewidth=1, label=label)
    if summary.published_losses:
        epochs = range(1, len(summary.published_losses) + 1)
        axes.plot(epochs, summary.published_losses, "x", color="black", markersize=4, label="published")
    axes.set(yscale="log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=7, which="both")
    axes.grid(alpha=0.3)
    axes.set_title(summary.network, fontsize=9)
    axes.legend(frameon=False, fontsize=7)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or with one decimal under a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
