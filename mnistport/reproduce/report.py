"""The report of `mnistport reproduce`: a Markdown page, a JSON document and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median, stdev
from types import MappingProxyType
from typing import Any

from mnistport.reproduce.result import RunResult, losses_to_json
from mnistport.reproduce.statistics import ALLOWED_STANDARD_ERRORS, Summary

COLUMNS = (
    "network",
    "data",
    "steps",
    "seeds",
    "test accuracy",
    "deviation",
    "95 % interval",
    "published",
    "apart",
    "verdict",
    "time",
)
NOTES = (
    "Test accuracy: the mean of the seeds. Deviation: their standard deviation (n - 1).",
    "95 % interval: the binomial interval (Wilson) for a test set of this size.",
    "Apart: mean minus published accuracy, in standard errors of the published one for",
    "this many test images. Down to -3 counts as reached.",
    "Rounds to it: the mean is lower than that, but the authors give so few digits that",
    "they would have given this mean as the same figure.",
    "Time: the median time of training, including the tutorial's own reports.",
)


def markdown(
    summaries: Sequence[Summary],
    facts: Mapping[str, Any],
    failed: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The whole page: command, table, notes, loss curves, and where the runs were made.

    Args:
        summaries: One for each row, in the order of the rows.
        facts: What the runs were made on, by name. "command" must be one of them.
        failed: Why a run failed, by the name of the run.
    """
    command = f"`{facts['command']}`"
    lines = ["# Whole recipes", "", command, "", *table(summaries, failed), "", *NOTES]
    with_curve = [summary for summary in summaries if summary.published_losses]
    if with_curve:
        lines += ["", "## Mean loss of each epoch, against the published", ""]
    for summary in with_curve:
        lines += [summary.row, "", *_loss_table(summary), ""]
    listed = [f"- {name}: {value}" for name, value in facts.items() if name != "command"]
    return "\n".join([*lines, "", "Made on:", "", *listed, ""])


def table(
    summaries: Sequence[Summary], failed: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """The lines of a Markdown table with a row for each network and set of options.

    Below it is a line for each run that failed.
    """
    head = _markdown_row(COLUMNS)
    line = f"|{'---|' * len(COLUMNS)}"
    rows = [_markdown_row(_cells(summary)) for summary in summaries]
    not_made = [f"- {name} FAILED: {reason}" for name, reason in failed.items()]
    return [head, line, *rows, *([""] if failed else []), *not_made]


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(summary: Summary) -> list[str]:
    """A row of the table, in the order of COLUMNS."""
    low, high = summary.interval
    errors = summary.standard_errors
    return [
        summary.row,
        summary.data,
        f"{summary.steps:,}",
        str(len(summary.accuracies)),
        f"{summary.mean:.4f}",
        "" if summary.deviation is None else f"{summary.deviation:.4f}",
        f"{low:.4f} - {high:.4f}",
        _published_accuracy(summary),
        "" if errors is None else f"{errors:+.1f}",
        summary.verdict,
        clock(median(summary.seconds)),
    ]


def _published_accuracy(summary: Summary) -> str:
    """The authors' words if there are any, otherwise the figure."""
    if summary.published is None:
        return ""
    return summary.quote or f"{summary.published:.4f}"


def _loss_table(summary: Summary) -> list[str]:
    """A table of the published losses and ours, with a column for each epoch.

    It ends with the shortest of the runs, or with the published losses.
    """
    curves = [summary.published_losses, *summary.epoch_losses]
    num_epochs = min(len(curve) for curve in curves)
    published, *seeds = (curve[:num_epochs] for curve in curves)
    ours = list(zip(*seeds, strict=True))  # for each epoch the losses of all seeds
    means = [fmean(losses) for losses in ours]
    deviations = [f"{stdev(losses):.4f}" if len(losses) > 1 else "" for losses in ours]
    quotients = [mean / loss for mean, loss in zip(means, published, strict=True)]
    return [
        _markdown_row(["epoch", *(str(epoch + 1) for epoch in range(num_epochs))]),
        f"|{'---|' * (num_epochs + 1)}",
        _markdown_row(["published", *(f"{loss:.4f}" for loss in published)]),
        _markdown_row(["ours", *(f"{mean:.4f}" for mean in means)]),
        _markdown_row(["deviation", *deviations]),
        _markdown_row(
            ["ours / published", *(f"{quotient:.2f}" for quotient in quotients)]
        ),
    ]


def document(
    summaries: Sequence[Summary],
    runs: Sequence[RunResult],
    facts: Mapping[str, Any],
    failed: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The values of `reproduce.json` (schema 1). A loss that is not finite is None."""
    return {
        "schema": 1,
        "environment": dict(facts),
        "failed": dict(failed),
        "results": [_summary_as_json(summary) for summary in summaries],
        "runs": [run.to_json() for run in runs],
    }


def _summary_as_json(summary: Summary) -> dict[str, Any]:
    return {
        **asdict(summary),
        "epoch_losses": [losses_to_json(losses) for losses in summary.epoch_losses],
        "mean": summary.mean,
        "deviation": summary.deviation,
        "interval_95": summary.interval,
        "standard_errors_apart": summary.standard_errors,
        "verdict": summary.verdict,
    }


def plot(summaries: Sequence[Summary], file: Path) -> None:
    """Draw the results, and save the picture. The suffix of `file` names the format.

    Above are the final test accuracies and the published ones. Below is a panel for each
    network with the loss of each epoch. Networks with a single epoch have no panel.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with_curve = [summary for summary in summaries if len(summary.epoch_losses[0]) > 1]
    num_columns = min(3, max(1, len(with_curve)))
    num_rows = math.ceil(len(with_curve) / num_columns)
    heights_inch = [1.0 + 0.3 * len(summaries)]
    if num_rows:
        heights_inch.append(2.6 * num_rows)
    figure = pyplot.figure(figsize=(10, sum(heights_inch)), layout="constrained")
    parts = figure.subfigures(
        len(heights_inch), 1, squeeze=False, height_ratios=heights_inch
    )
    _plot_accuracies(parts[0, 0].subplots(), summaries)
    if num_rows:
        _plot_loss_panels(parts[1, 0], with_curve, num_rows, num_columns)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def _plot_accuracies(axes: Any, summaries: Sequence[Summary]) -> None:
    """A row for each network: a dot for each seed, a cross for the published figure."""
    published = [summary for summary in summaries if summary.published is not None]
    for row, summary in enumerate(summaries):
        errors_percent = [100.0 * (1.0 - accuracy) for accuracy in summary.accuracies]
        label = None if row else "ours, a dot a seed"
        rows = [row] * len(errors_percent)
        axes.plot(errors_percent, rows, "o", color="tab:blue", markersize=4, label=label)
        if summary.published is not None:
            _plot_published_accuracy(axes, row, summary, labelled=summary is published[0])
    names = [summary.row for summary in summaries]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xscale="log", ylim=(len(summaries) - 0.4, -0.6))
    axes.set_xlabel(f"test images classified wrong, % ({summaries[0].data})", fontsize=9)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="x", labelsize=7, which="both")
    axes.grid(axis="x", alpha=0.3, which="both")
    axes.legend(
        frameon=False,
        fontsize=8,
        ncols=2,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        borderaxespad=0.0,
    )


def _plot_published_accuracy(
    axes: Any,
    row: int,
    summary: Summary,
    *,
    labelled: bool,
) -> None:
    """A cross, with three standard errors to either side."""
    assert summary.published is not None
    axes.errorbar(
        100.0 * (1.0 - summary.published),
        row + 0.25,
        xerr=100.0 * ALLOWED_STANDARD_ERRORS * summary.published_standard_error,
        label="published, and three standard errors" if labelled else None,
        fmt="x",
        color="black",
        markersize=5,
        linewidth=0.8,
        capsize=2,
    )


def _plot_loss_panels(
    part: Any,
    summaries: Sequence[Summary],
    num_rows: int,
    num_columns: int,
) -> None:
    """A grid with a panel for each network. Panels that are left over are removed."""
    panels = list(part.subplots(num_rows, num_columns, squeeze=False).flat)
    for axes in panels[len(summaries) :]:
        axes.remove()
    for axes, summary in zip(panels[: len(summaries)], summaries, strict=True):
        _plot_losses(axes, summary)
    part.supxlabel("epoch", fontsize=9)
    part.supylabel("mean training loss of the epoch, nats", fontsize=9)


def _plot_losses(axes: Any, summary: Summary) -> None:
    """A line for each seed, and a cross for each published figure."""
    for number, losses in enumerate(summary.epoch_losses):
        label = None if number else f"ours ({len(summary.epoch_losses)})"
        epochs = range(1, len(losses) + 1)
        axes.plot(epochs, losses, color="tab:blue", linewidth=1, label=label)
    if summary.published_losses:
        losses = summary.published_losses
        epochs = range(1, len(losses) + 1)
        axes.plot(epochs, losses, "x", color="black", markersize=4, label="published")
    axes.set(yscale="log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.tick_params(labelsize=7, which="both")
    axes.grid(alpha=0.3)
    axes.set_title(summary.row, fontsize=9)
    axes.legend(frameon=False, fontsize=7)


def clock(seconds: float) -> str:
    """A duration as h:mm:ss, or in seconds with one decimal if it is under a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
