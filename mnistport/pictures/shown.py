"""The figure that a notebook shows by itself."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure that is a cell's result is shown as a picture.

    matplotlib's own figure is shown only where pyplot, or `%matplotlib inline`, has told
    the notebook how.
    """

    def _repr_png_(self) -> bytes:
        """The picture, which is what IPython asks for."""
        png = BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()
