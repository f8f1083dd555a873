"""The figures of the result files, by network. Nothing here is computed anew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from pages.sources import ROOT
from parity.compare import Comparison
from parity.report.result import nearest

PROBES = (
    " (training)",
    " (large)",
    " (draws at thresholds)",
    " (single example)",
    " (returned)",
    " (ties)",
    " (without a class)",
)
"""What `parity` adds to the name of a stage or a gradient that it asks about again."""


class Results:
    """What the newest folders in `results/` hold."""

    @cached_property
    def verify(self) -> Mapping[str, Any]:
        """The document of `parity verify`."""
        return _document("verify-cpu-*/verify.json")

    @cached_property
    def reproduce(self) -> Mapping[str, Any]:
        """The document of `mnistport reproduce`."""
        return _document("reproduce-cpu-*/reproduce.json")

    def lockstep(self, network: str) -> Mapping[str, Any]:
        """The document of `parity lockstep`."""
        return _document(f"lockstep-cpu-*/{network}-float64/lockstep.json")

    def recipe(self, network: str) -> Mapping[str, Any]:
        """The row of `mnistport reproduce` for a network."""
        (row,) = (row for row in self.reproduce["results"] if row["network"] == network)
        return row  # type: ignore[no-any-return]

    def runs(self, network: str) -> list[Mapping[str, Any]]:
        """The runs behind that row."""
        runs = self.reproduce["runs"]
        return [run for run in runs if run["settings"]["network"] == network]

    def claims(self, network: str) -> list[Mapping[str, Any]]:
        """Every answer of `parity verify` for a network."""
        return [row for row in self.verify["results"] if row["network"] == network]

    def figure(self, network: str, dtype: str, asked: str) -> str:
        """The comparison nearest its bound, as `4e-16 ≤ 2e-12`.

        Args:
            network: The network.
            dtype: The precision.
            asked: "check/NAME" for all that a check compares, "gradient/NAME" for that of
                a variable, "stage/NAME" for a stage. "" is returned for a check that is
                not asked in this precision.

        Raises:
            ValueError: Nothing was compared, or a claim fails.
        """
        kind, name = asked.split("/", 1)
        if kind == "check":
            found = self._comparisons(network, dtype, name)
            if not found:
                return ""
        else:
            check, begins = KINDS[kind]
            found = [
                comparison
                for comparison in self._comparisons(network, dtype, check)
                if _without_probe(comparison.name) == begins + name
            ]
        worst = nearest(found)
        if worst is None or not all(comparison.passed for comparison in found):
            raise ValueError(f"{network}: {asked} in {dtype}: {len(found)} comparisons")
        if all(comparison.max_abs == 0.0 == comparison.bound for comparison in found):
            return "="
        return f"{_short(worst.max_abs)} ≤ {_short(worst.bound)}"

    def stages(self, network: str) -> set[str]:
        """The stages that `parity verify` compares."""
        found = self._comparisons(network, "float64", "forward")
        return {_without_probe(comparison.name) for comparison in found}

    def gradients(self, network: str) -> set[str]:
        """The variables whose gradients `parity verify` compares."""
        found = self._comparisons(network, "float64", "gradients")
        names = {_without_probe(comparison.name) for comparison in found}
        return {name.removeprefix(KINDS["gradient"][1]) for name in names}

    def _comparisons(self, network: str, dtype: str, check: str) -> list[Comparison]:
        return [
            Comparison.from_json(comparison)
            for claim in self.claims(network)
            if claim["check"] == check and claim["dtype"] == dtype
            for comparison in claim["comparisons"]
        ]


KINDS = {"stage": ("forward", ""), "gradient": ("gradients", "d loss / d ")}
"""The check that compares such a thing, and how its names begin."""


def epochs(values: Sequence[Sequence[float]]) -> Iterator[float]:
    """The mean over the seeds of the loss of each epoch."""
    for of_one in zip(*values, strict=True):
        yield sum(of_one) / len(of_one)


def _without_probe(name: str) -> str:
    while name.endswith(PROBES):
        name = name[: name.rindex(" (")]
    return name


def _short(value: float | None) -> str:
    return "0" if value == 0.0 else f"{value:.0e}"


def _document(pattern: str) -> Mapping[str, Any]:
    """The one result file that a pattern names.

    Raises:
        ValueError: There is none, or there are several.
    """
    files = sorted((ROOT / "results").glob(pattern))
    if len(files) != 1:
        raise ValueError(f"results/{pattern}: expected one file, found {len(files)}")
    document: Mapping[str, Any] = json.loads(files[0].read_text())
    return document
