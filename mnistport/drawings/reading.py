"""Reads a picture file as ink: how far each pixel is from the ground behind it.

H and W are the rows and columns of the picture, after it was made smaller.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from mnistport.errors import UserError

Ink = npt.NDArray[np.float64]

LONGEST_SIDE = 320
"""Rows or columns of a picture in hand. A digit needs no more than that."""
MOST_PIXELS = 100_000_000
"""A larger picture is refused. One of this size takes some 400 MB of memory."""
BORDER = 0.04
"""The share of a side that counts as the border, which shows the ground."""


def read_ink(path: Path) -> Ink:
    """Read a picture of a digit in any format, size and colour that Pillow knows.

    Dark ink on a light ground, light ink on a dark one, and ink on a transparent ground
    are understood. A photograph is turned as its camera says. The brightness of the
    ground may change slowly, as under a lamp.

    Returns:
        `[H, W]`, from 0 for ground to 1 for the strongest ink.

    Raises:
        UserError: The file cannot be read as a picture, or all of it has one colour.
    """
    grey = _smaller(_opened(path))
    ink = _above_ground(grey)
    strongest = float(np.quantile(ink, 0.999))
    if strongest < 0.08:
        raise UserError(
            f"{path}: no digit was found: everything has nearly the same brightness"
        )
    clipped: Ink = np.clip(ink / strongest, 0.0, 1.0)
    return clipped


def _opened(path: Path) -> Image.Image:
    """The picture, turned upright, on a ground that is not transparent, in grey."""
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if not path.is_file():
        raise UserError(f"{path}: not a file; name a picture such as digit.png")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path)
        with opened as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise UserError(
                    f"{path}: {picture.width} x {picture.height} pixels are more than "
                    f"{MOST_PIXELS:,}; make the picture smaller"
                )
            picture.draft("RGB", (2 * LONGEST_SIDE, 2 * LONGEST_SIDE))
            return _on_a_ground(ImageOps.exif_transpose(picture))
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path}: not a picture that can be read; save it as PNG or JPEG"
        ) from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: the picture is too large; make it smaller") from error
    except Exception as error:  # a decoder met a damaged file
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path}: the picture cannot be read ({reason})") from error


def _on_a_ground(picture: Image.Image) -> Image.Image:
    """Grey, 0 to 255. Transparent parts become as far from the ink as possible."""
    if picture.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        values = np.asarray(picture, np.float64)
        top = max(float(values.max()), 1.0)
        return Image.fromarray((255 * values.clip(0) / top).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("L")
    whole = picture.convert("RGBA")
    alpha = np.asarray(whole.getchannel("A"), np.float64)
    grey = np.asarray(whole.convert("RGB").convert("L"), np.float64)
    ink_is_dark = (grey * alpha).sum() <= 127.5 * alpha.sum()
    ground = 255 if ink_is_dark else 0
    share = alpha / 255.0
    return Image.fromarray((grey * share + ground * (1 - share)).astype(np.uint8))


def _smaller(picture: Image.Image) -> Ink:
    """The brightness `[H, W]`, 0 to 1, with at most `LONGEST_SIDE` rows and columns."""
    scale = LONGEST_SIDE / max(picture.size)
    if scale < 1:
        size = (
            max(1, round(picture.width * scale)),
            max(1, round(picture.height * scale)),
        )
        picture = picture.resize(size, Image.Resampling.BOX, reducing_gap=3.0)
    return np.asarray(picture, np.float64) / 255.0


def _above_ground(grey: Ink) -> Ink:
    """How far each pixel is from the ground behind it, which may change slowly."""
    from scipy import ndimage

    border = max(1, round(BORDER * min(grey.shape)))
    frame = np.ones(grey.shape, bool)
    frame[border:-border, border:-border] = False
    level = float(np.median(grey[frame]))
    darker, lighter = level - grey.min(), grey.max() - level
    if lighter > darker:
        grey = 1.0 - grey  # light ink on a dark ground
    # No stroke is as wide as a third of the picture, so the largest value near each
    # pixel is that of the ground.
    near = max(3, max(grey.shape) // 3)
    ground = ndimage.grey_closing(grey, (near, near), mode="nearest")
    ground = ndimage.gaussian_filter(ground, near / 6, mode="nearest")
    ink: Ink = np.clip(ground - grey, 0.0, None)
    return ink
