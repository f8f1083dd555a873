"""What a batch must be, to be scored or classified, and one line for one that is not.

A user's own loader may give anything. Without these checks, labels of another shape would
be counted several times, and other mistakes would end somewhere in torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mnistport.data.idx import NUM_CLASSES
from mnistport.errors import UserError

NUM_PIXELS = 28 * 28

PIXELS = f"pixels [N, {NUM_PIXELS}], floating-point numbers from 0 to 1"
LABELS = f"labels [N], whole numbers from 0 to {NUM_CLASSES - 1}"


def pixels_and_labels(batch: Any) -> tuple[Tensor, Tensor]:
    """The two parts of a batch that is to be scored. See `checked`.

    Raises:
        UserError: It is something else.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise UserError(
            f"the batch is {_described(batch)}; expected (pixels, labels): "
            f"{PIXELS}; {LABELS}"
        )
    return checked(*batch)


def pixels_alone(batch: Any) -> Tensor:
    """The pixels of a batch that is to be classified, with labels or without.

    Raises:
        UserError: There are none.
    """
    pixels = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(pixels, Tensor):
        raise UserError(
            f"the batch is {_described(batch)}; expected {PIXELS}, alone or as the first "
            "part of (pixels, labels)"
        )
    return _checked_pixels(pixels)


def checked(pixels: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Pixels and labels that belong together, the labels as int64.

    Args:
        pixels: What should be the images, `[N, 784]`, in any floating-point precision.
        labels: What should be their classes, `[N]`, of any type of whole numbers.

    Raises:
        UserError: They are something else.
    """
    pixels = _checked_pixels(pixels)
    if not isinstance(labels, Tensor) or not _are_whole(labels) or labels.ndim != 1:
        raise UserError(
            f"the labels are {_described(labels)}; expected {LABELS}"
            f"{_remedy_for_labels(labels)}"
        )
    if len(labels) != len(pixels):
        raise UserError(
            f"there are {len(labels)} labels for {len(pixels)} images; "
            "expected one for each"
        )
    labels = labels.long()
    lowest, highest = torch.stack(labels.aminmax()).tolist()
    if lowest < 0 or highest >= NUM_CLASSES:
        raise UserError(f"the labels go from {lowest} to {highest}; expected {LABELS}")
    return pixels, labels


def _checked_pixels(pixels: Any) -> Tensor:
    if (
        not isinstance(pixels, Tensor)
        or not pixels.is_floating_point()
        or pixels.ndim != 2
        or pixels.shape[1] != NUM_PIXELS
    ):
        raise UserError(
            f"the pixels are {_described(pixels)}; expected {PIXELS}"
            f"{_remedy_for_pixels(pixels)}"
        )
    if not len(pixels):
        raise UserError("the batch has no image; expected at least one")
    return pixels


def _remedy_for_pixels(pixels: Any) -> str:
    """What makes them right, where it is clear."""
    if not isinstance(pixels, Tensor):
        return ""
    images = pixels.ndim > 2 and pixels.shape[1:].numel() == NUM_PIXELS
    flatten = ".flatten(1)" if images else ""
    divide = " / 255" if pixels.dtype == torch.uint8 else ""
    return f"; give pixels{flatten}{divide}" if flatten or divide else ""


def _remedy_for_labels(labels: Any) -> str:
    """What makes them right, where it is clear."""
    if not isinstance(labels, Tensor):
        return ""
    if labels.ndim == 2 and labels.shape[1] == NUM_CLASSES:
        return "; give labels.argmax(1) if they are one-hot"
    flatten = ".flatten()" if labels.ndim == 2 and labels.shape[1] == 1 else ""
    convert = "" if _are_whole(labels) else ".long()"
    return f"; give labels{flatten}{convert}" if flatten or convert else ""


def _are_whole(labels: Tensor) -> bool:
    fractional = labels.is_floating_point() or labels.is_complex()
    return not fractional and labels.dtype != torch.bool


def _described(value: Any) -> str:
    """What was given, in a few words."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, (tuple, list)) and len(value) <= 4:
        return f"({', '.join(_described(item) for item in value)})"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)} items"
    return "None" if value is None else f"a {type(value).__name__}"
