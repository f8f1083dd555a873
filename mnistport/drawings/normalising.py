"""Makes ink into an image such as MNIST's: 28 x 28, the digit centred by its mass.

Same as MNIST: The digit is scaled into a box of 20 x 20 pixels and keeps its shape. Its
grey comes from the scaling. The box is moved by whole pixels, so that the centre of mass
is in pixel 14 of 0 to 27, as in MNIST's own images (those of the first 1,000 tests are).
Different from MNIST: Strokes that would be thinner than MNIST's are made thicker, since
a thin pen would otherwise leave nearly nothing. Spots beside the digit are left out.
Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from mnistport.data.idx import SIDE
from mnistport.drawings.reading import Ink
from mnistport.errors import UserError

BOX = 20
"""Rows and columns that the digit fills at most."""
STROKE = 2.4
"""The mean width of MNIST's strokes, in pixels of the box. See `stroke_width`."""
THINNEST = 1.7
"""Strokes that are thinner than this get `STROKE`."""
SPOT = 0.06
"""Parts with less than this share of the largest part's ink are no part of the digit."""

Pixels = npt.NDArray[np.uint8]


def as_mnist(ink: Ink) -> Pixels:
    """Make an image such as MNIST's.

    Args:
        ink: `[H, W]`, from 0 for ground to 1.

    Returns:
        uint8 `[28, 28]`, from 0 for ground to 255.

    Raises:
        UserError: There is no digit.
    """
    digit = _cropped(_without_spots(ink))
    digit = _thick_enough(digit)
    return _centred(_scaled(digit))


def threshold(ink: Ink) -> float:
    """The value between ground and ink that parts both best.

    Source: N. Otsu, "A threshold selection method from gray-level histograms", 1979.
    """
    counts, edges = np.histogram(ink, 128, (0.0, 1.0))
    middles = (edges[:-1] + edges[1:]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * middles)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = sums / below - (sums[-1] - sums) / above
        between = below * above * apart**2
    return float(edges[1 + int(np.nanargmax(between))])


def stroke_width(digit: Ink) -> float:
    """The mean width of strokes, in pixels: twice the area, divided by the outline."""
    shape = np.pad(digit > 0.5 * digit.max(), 1)
    outline = sum(np.count_nonzero(shape != np.roll(shape, 1, axis)) for axis in (0, 1))
    # Steps along a slanted line are longer than the line: on average by 4 / pi.
    return float(2 * shape.sum() / max(1.0, outline * math.pi / 4))


def _without_spots(ink: Ink) -> Ink:
    """The ink without noise, and without small parts and what comes in at the border."""
    from scipy import ndimage

    level = threshold(ink)
    parts, count = ndimage.label(ink > level, np.ones((3, 3)))
    if not count:
        raise UserError("no digit was found: there is no stroke in it")
    numbers = np.arange(1, count + 1)
    masses = ndimage.sum_labels(ink, parts, numbers)
    rim = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    inside = ~np.isin(numbers, rim)
    if not (inside & (masses > SPOT * masses.max())).any():
        inside[:] = True
    largest = masses[inside].max()
    kept = numbers[inside & (masses >= SPOT * largest)]
    near = ndimage.binary_dilation(np.isin(parts, kept), iterations=2)
    # Down to half of the threshold it is the edge of a stroke, and below it is noise.
    return np.where(near & (ink > 0.5 * level), ink, 0.0)


def _cropped(ink: Ink) -> Ink:
    """The smallest rectangle with all ink."""
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if not rows.size:
        raise UserError("no digit was found: there is no stroke in it")
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _thick_enough(digit: Ink) -> Ink:
    """The digit with strokes that are as thick as MNIST's once it is scaled."""
    from scipy import ndimage

    scale = BOX / max(digit.shape)
    width = stroke_width(digit)
    if width * scale >= THINNEST:
        return digit
    radius = (STROKE / scale - width) / 2
    whole = math.ceil(radius)
    rows, columns = np.mgrid[-whole : whole + 1, -whole : whole + 1]
    disk = rows**2 + columns**2 <= radius**2
    return np.asarray(ndimage.grey_dilation(np.pad(digit, whole), footprint=disk))


def _scaled(digit: Ink) -> Pixels:
    """The digit in the box: its longer side is 20 pixels. Its shape is kept."""
    height, width = digit.shape
    scale = BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray((255 * digit / digit.max()).round().astype(np.uint8))
    resized = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _centred(digit: Pixels) -> Pixels:
    """The digit in 28 x 28 pixels. Its centre of mass is in their middle."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    mass = digit.astype(np.float64)
    places = []
    for axis, length in enumerate(digit.shape):
        weight = mass.sum(1 - axis)
        centre = float((weight * (np.arange(length) + 0.5)).sum() / weight.sum())
        first = math.ceil(SIDE / 2 - centre)
        places.append(min(max(first, 0), SIDE - length))
    top, left = places
    image[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return image
