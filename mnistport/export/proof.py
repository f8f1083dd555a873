"""The comparison of an export, loaded by its own consumer, with the network.

It sees names and NumPy arrays only. The order is: names, shapes, dtypes, finiteness,
values. What differs is refused, and whoever writes the export then removes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from mnistport.data.sources import load, scale
from mnistport.errors import UserError
from mnistport.export.trained import Trained

Array: TypeAlias = NDArray[Any]
Answer: TypeAlias = Callable[[Array], Array]
"""An export as its consumer runs it: pixels `[N, 784]` -> scores `[N, 10]`."""

OWN_ERROR_TIMES = 4
"""How many times as far as torch's float32 another program may be off from float64."""
FLOOR_ULP = 32
"""How far it may be off at least, in ulp of the largest score.

Both figures are those with which `parity` judges a float32 port: two programs that sum
in other orders are draws of one distribution, and one of them may come close by chance.
"""

BATCHES = (1, 2, 61)
"""Images in each batch. Their number must not be frozen in an export."""


class Compared(NamedTuple):
    """What was found.

    Attributes:
        images: The number of images.
        largest: The largest |score of the export - score in float64|.
        allowed: The largest that is allowed.
    """

    images: int
    largest: float
    allowed: float

    def __str__(self) -> str:
        sizes = ", ".join(map(str, BATCHES[:-1])) + f" and {BATCHES[-1]}"
        images = f"the scores of {self.images} images, in batches of {sizes}"
        if self.allowed == 0:
            return f"{images}, are equal bit for bit"
        return (
            f"{images}, are off from float64 by {self.largest:.0e} at most; allowed: "
            f"{self.allowed:.0e}"
        )


@cache
def images(scaling: str) -> Array:
    """Images that an export is asked about: float32 `[64, 784]` in [0, 1].

    40 are handwritten digits that come inside scikit-learn. 24 are noise, which has a
    value in every pixel, also at the rim, where digits have none.
    """
    digits = load("digits").test.images[:40].reshape(40, 784)
    noise = np.random.default_rng(0).integers(0, 256, (24, 784), dtype=np.uint8)
    how: Any = scaling
    return scale(np.concatenate([digits, noise]), how)


def refuse_other_scores(
    consumer: str,
    trained: Trained,
    answer: Answer,
    *,
    exact: bool = False,
) -> Compared:
    """Compare the scores of an export with those of the network.

    Args:
        consumer: The program that has loaded the export, for messages.
        trained: The network.
        answer: The export, as its consumer runs it.
        exact: Whether the same kernels run, so that every bit must be the same.
            Otherwise both are compared with the network in float64.

    Raises:
        UserError: A score differs by more than is allowed.
    """
    pixels = images(trained.network.recipe.scaling)
    parts = np.split(pixels, np.cumsum(BATCHES)[:-1])
    theirs = np.concatenate([trained.scores(torch.from_numpy(x)).numpy() for x in parts])
    ours = np.concatenate([_asked(consumer, answer, part) for part in parts])
    _refuse_other_form(consumer, "scores", ours, theirs)
    if exact:
        refuse_other_bits(consumer, "scores", ours, theirs)
        return Compared(len(pixels), 0.0, 0.0)
    true = _in_float64(trained, pixels)
    largest, own = _off(ours, true), _off(theirs, true)
    ulp = float(np.spacing(np.abs(true).max().astype(np.float32)))
    allowed = OWN_ERROR_TIMES * own + FLOOR_ULP * ulp
    if not largest <= allowed:  # a NaN is not
        raise UserError(
            f"{consumer}: its scores are off from the network in float64 by "
            f"{largest:.2g}, and torch's by {own:.2g}; allowed: {allowed:.2g}. "
            "The export is wrong, and was not written"
        )
    return Compared(len(pixels), largest, allowed)


def refuse_other_tensors(
    consumer: str, ours: Mapping[str, Array], theirs: Mapping[str, Array]
) -> None:
    """Compare named tensors, which are copied and not computed, bit for bit.

    Args:
        consumer: The program that has loaded the export, for messages.
        ours: The tensors in the export.
        theirs: Those of the network.

    Raises:
        UserError: A name is missing or added, or a tensor differs.
    """
    if not theirs or set(ours) != set(theirs):
        names = ", ".join(sorted(set(ours) ^ set(theirs))) or "none"
        raise UserError(
            f"{consumer}: these tensors are on one side only: {names}. "
            "The export is wrong, and was not written"
        )
    for name, array in theirs.items():
        _refuse_other_form(consumer, name, ours[name], array)
        refuse_other_bits(consumer, name, ours[name], array)


def _asked(consumer: str, answer: Answer, pixels: Array) -> Array:
    """The export's answer to one batch."""
    found = answer(pixels)
    if len(found) != len(pixels):
        raise UserError(
            f"{consumer}: {len(found)} rows of scores for {len(pixels)} images. "
            "The export is wrong, and was not written"
        )
    return found


def _refuse_other_form(consumer: str, name: str, ours: Array, theirs: Array) -> None:
    forms = [(array.dtype.name, list(array.shape)) for array in (ours, theirs)]
    if forms[0] != forms[1]:
        raise UserError(
            f"{consumer}: {name} is {forms[0]}, and in the network {forms[1]}. "
            "The export is wrong, and was not written"
        )
    if theirs.dtype.kind == "f" and not np.isfinite(theirs).all():
        raise UserError(
            f"{name} of the network has values that are infinite or NaN, so nothing can "
            "be compared; export an earlier checkpoint"
        )


def refuse_other_bits(consumer: str, name: str, ours: Array, theirs: Array) -> None:
    """Refuse arrays of one form whose bytes differ anywhere."""
    if np.ascontiguousarray(ours).tobytes() != np.ascontiguousarray(theirs).tobytes():
        different = int((ours != theirs).sum())
        raise UserError(
            f"{consumer}: {different:,} of {theirs.size:,} values of {name} differ from "
            "the network's. The export is wrong, and was not written"
        )


def _in_float64(trained: Trained, pixels: Array) -> Array:
    net = deepcopy(trained.net).double()
    with torch.no_grad():
        scores: Array = net(torch.from_numpy(pixels).double()).numpy()
    return scores


def _off(scores: Array, true: Array) -> float:
    """The largest difference. NaN if there is one."""
    return float(np.abs(scores - true).max())
