"""Tables with a line of TensorFlow 1, the line of PyTorch, and the figure of the proof.

A row of a text is `names | names | names`: the lines of TF1's side, those of ours, and
what is compared there. See `Rows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pages import sources
from pages.figures import Results
from parity.references import recipes

DTYPES = ("float64", "float32")
BASES = {"three_minute_rmsprop": "three_minute_adam"}
"""Networks whose lines are those of another network."""
CLASSES = ("__init__", "forward")


class Rows:
    """Makes the tables of a page, and sees that nothing is shown twice or left out.

    TF1's names: `x` (a line that sets x), `def/f`, `endpoints/x` (an argument of
    `Endpoints`), `default/x` (an option of `build`), `call/f` (the first call of f),
    `recipe/x` (a number of the tutorial's recipe). Ours: `self.x`, `x`, `for`, `def/f`,
    `default/x` (an option of the module), `network/x` and `recipe/x` (arguments of the
    records). Compared: `stage/x`, `gradient/x`, `check/x`.

    Args:
        network: The network's name.
        results: Where the figures are.
        words: The words of the page's language.
    """

    def __init__(self, network: str, results: Results, words: Mapping[str, str]) -> None:
        self.network, self.results, self.words = network, results, words
        base = BASES.get(network, network)
        self.theirs = [f"parity/references/{name}.py" for name in (network, base)]
        self.ours = [f"mnistport/networks/{name}.py" for name in (network, base)]
        self.tf1 = sources.Statements(self.theirs[-1], ["build"])
        self.torch = sources.Statements(self.ours[-1], CLASSES)
        self.compared: list[str] = []

    def table(self, text: str) -> list[str]:
        """The table of a block of rows."""
        lines = [self.words["head"], "|---|---|---|"]
        for row in text.splitlines():
            theirs, ours, compared = (part.split() for part in row.split("|"))
            code = [
                _lines([self._theirs(name) for name in theirs]),
                _lines([self._ours(name) for name in ours]),
            ]
            for asked in compared or [""]:
                lines.append(f"| {' | '.join([*code, self._proof(asked)])} |")
                code = ["", ""]  # what else is compared stands below it
            self.compared += compared
        return lines

    def aside(self, text: str) -> None:
        """Take lines that the page does not show, `theirs | ours`."""
        theirs, ours = text.split("|")
        for name in theirs.split():
            self.tf1.leave_out(name)
        for name in ours.split():
            self.torch.leave_out(name)

    def refuse_what_is_left(self) -> None:
        """See that each line, stage and gradient is shown, and no figure twice.

        Raises:
            ValueError: Something is not shown, or twice.
        """
        for side in (self.tf1, self.torch):
            if side.left():
                raise ValueError(f"{side.file}: not shown: {', '.join(side.left())}")
        for kind, known in {
            "stage": self.results.stages(self.network),
            "gradient": self.results.gradients(self.network),
        }.items():
            asked = [one for one in self.compared if one.startswith(f"{kind}/")]
            if sorted(asked) != sorted(f"{kind}/{name}" for name in known):
                raise ValueError(
                    f"{self.network}: shows {asked}, and there are {sorted(known)}"
                )

    def _theirs(self, name: str) -> str:
        kind, _, rest = name.partition("/")
        if kind == "endpoints":
            return _found(name, sources.keyword(self.theirs[-1], "Endpoints", rest))
        if kind == "default":
            return _found(name, sources.default(self.theirs[-1], "build", rest))
        if kind == "call":
            return sources.call(self.theirs[0], rest)
        if kind == "recipe":
            value: Any = getattr(recipes.of(self.network), rest)
            return f"{rest}={getattr(value, '__name__', None) or repr(value)}".replace(
                "'", '"'
            )
        return self.tf1.take(name)

    def _ours(self, name: str) -> str:
        kind, _, rest = name.partition("/")
        if kind == "default":
            return _found(name, sources.default(self.ours[-1], "__init__", rest))
        if kind in ("network", "recipe"):
            calls = {"network": ["Network"], "recipe": ["replace", "Recipe"]}[kind]
            found = [
                sources.keyword(file, call, rest) for file in self.ours for call in calls
            ]
            return _found(name, next((text for text in found if text), None))
        return self.torch.take(name)

    def _proof(self, asked: str) -> str:
        """What is compared, and the figures of both precisions below it."""
        if not asked:
            return ""
        kind, _, rest = asked.partition("/")
        code = rest if "/" in rest else f"`{rest}`"  # in code, it would look like a file
        name = self.words[asked if kind == "check" else kind].format(name=code)
        return "<br>".join([name, *(self._figure(dtype, asked) for dtype in DTYPES)])

    def _figure(self, dtype: str, asked: str) -> str:
        figure = self.results.figure(self.network, dtype, asked)
        if figure == "=":
            return self.words["exact"]
        return figure.replace(" ", "\u00a0") or self.words["not asked"]


def _found(name: str, text: str | None) -> str:
    if text is None:
        raise ValueError(f"nothing is called {name!r}")
    return text


def _lines(texts: list[str]) -> str:
    """Code in a cell of a table, each line by itself. Indents are kept."""
    lines = []
    for line in "\n".join(texts).splitlines():
        code = line.lstrip()
        lines.append("&nbsp;" * (len(line) - len(code)) + f"`{code}`")
    return "<br>".join(lines)
