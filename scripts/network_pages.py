"""Write a page for each network, in English and Korean, and the tables in both READMEs.

    python scripts/network_pages.py

The pages are in `docs/networks/`, their words in `scripts/pages/networks/`. The lines of
code are read from the two sides of each network, and the figures from `results/`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from pages import figures, sources, texts
from pages.rows import Rows
from pages.words import WORDS

from mnistport import networks
from mnistport.overview import GLANCES

HERE = Path(__file__).parent
PAGES = Path("docs") / "networks"
READMES = {"en": Path("README.md"), "ko": Path("README.ko.md")}
BEGIN, END = "<!-- networks: begin -->", "<!-- networks: end -->"
RESULTS = figures.Results()


def main() -> None:
    """Write all pages."""
    for file, text in pages():
        path = sources.ROOT / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def pages() -> Iterator[tuple[Path, str]]:
    """Each page, as its path in the checkout and its text."""
    for language in texts.LANGUAGES:
        ending = "md" if language == "en" else f"{language}.md"
        for name in GLANCES:
            yield PAGES / f"{name}.{ending}", page(name, language)
        yield PAGES / f"index.{ending}", index(language)
    for language, file in READMES.items():
        yield file, readme((sources.ROOT / file).read_text(), language)


def page(name: str, language: str) -> str:
    """The page of a network in a language.

    Raises:
        ValueError: A line, a stage or a gradient is shown twice or not at all.
    """
    words = WORDS[language]
    rows = Rows(name, RESULTS, words)
    parts = []
    for block in texts.in_language(
        texts.read(HERE / "pages/networks" / f"{name}.md"), language
    ):
        if block.kind == language:
            parts.append(block.text)
        elif block.kind == "rows":
            parts.append("\n".join(rows.table(block.text)))
        elif block.kind == "aside":
            rows.aside(block.text)
        elif block.kind in BLOCKS:
            parts.append(BLOCKS[block.kind](name, language))
        else:
            raise ValueError(f"{name}: there is no block @{block.kind}")
    rows.refuse_what_is_left()
    other = words["other"].format(name=name)
    title, *rest = parts
    return "\n\n".join([title, other, *rest, "---", words["made"]]) + "\n"


def facts(name: str, language: str) -> str:
    """What the network is, as a table."""
    words, network, glance = WORDS[language], networks.get(name), GLANCES[name]
    recipe = network.recipe
    length = "steps" if recipe.steps is not None else "epochs"
    training = words[length].format(
        steps=recipe.steps, epochs=recipe.epochs, batch=recipe.batch_size
    )
    rows = {
        "tutorial": network.source.title,
        "program": network.source.where,
        "parameters": glance.parameters,
        "optimizer": glance.optimizer,
        "training": training,
        "published": glance.published,
    }
    head, *lines = (_row([words[key], value]) for key, value in rows.items())
    return "\n".join([head, "|---|---|", *lines])


def commands(name: str, language: str) -> str:
    """The commands that train and prove the network."""
    return "\n".join(
        [
            "```console",
            f".venv/bin/mnistport fit --config {name}",
            f".venv/bin/parity verify {name}",
            "```",
        ]
    )


def reading(name: str, language: str) -> str:
    """How the tables are read."""
    (block,) = texts.in_language(texts.read(HERE / "pages" / "reading.md"), language)
    return block.text


def verified(name: str, language: str) -> str:
    """How many claims hold."""
    words, made_on = WORDS[language], RESULTS.verify["environment"]
    claims = RESULTS.claims(name)
    failed = sum(not claim["passed"] for claim in claims)
    held = words["some fail"].format(failed=failed) if failed else words["all hold"]
    return words["verified"].format(
        **{key: made_on[key] for key in ("command", "commit", "torch", "tensorflow")},
        claims=len(claims),
        comparisons=sum(len(claim["comparisons"]) for claim in claims),
        held=held,
    )


def measured(name: str, language: str) -> str:
    """What the whole recipe reaches, and how far the two sides stay together."""
    words, row = WORDS[language], RESULTS.recipe(name)
    made_on = RESULTS.reproduce["environment"]
    low, high = row["interval_95"]
    deviation = row["deviation"]
    seconds = statistics.median(row["seconds"])
    cells = [
        f"{row['steps']:,}",
        str(len(row["accuracies"])),
        f"{row['mean']:.4f}",
        "" if deviation is None else f"{deviation:.4f}",
        f"{low:.4f} – {high:.4f}",
        row["quote"] or f"{row['published']:.4f}",
        f"{seconds:.1f} s" if seconds < 60 else _minutes(seconds),
    ]
    distance = row["standard_errors_apart"]
    side = words["above"] if distance > 0 else words["below"]
    judged = words["distance"].format(distance=abs(distance), side=side)
    parts = [
        words["recipe"].format(
            processor=made_on["processor"], threads=made_on["threads"]
        ),
        "\n".join([words["measured head"], "|---|---|---|---|---|---|---|", _row(cells)]),
        f"{words['interval']} {judged} {words[row['verdict']]}",
        *_on_the_way(name, language),
        *_losses(name, language),
        _lockstep(name, language),
    ]
    return "\n\n".join(parts)


def index(language: str) -> str:
    """The page that leads to the others."""
    words = WORDS[language]
    title = f"# {words['index title']}"
    parts = [title, words["index other"], words["index"], networks_table(language)]
    return "\n\n".join([*parts, "---", words["made"]]) + "\n"


def readme(text: str, language: str) -> str:
    """A README with the table of the networks between its marks.

    Raises:
        ValueError: The marks are not there.
    """
    before, begins, rest = text.partition(BEGIN)
    _, ends, after = rest.partition(END)
    if not (begins and ends):
        raise ValueError(f"{READMES[language]}: there is no {BEGIN} with {END} behind it")
    table = networks_table(language, f"{PAGES}/")
    return "\n".join([before + BEGIN, table, END + after])


def networks_table(language: str, folder: str = "") -> str:
    """All networks with links to their pages, which are in this folder."""
    words = WORDS[language]
    ending = "md" if language == "en" else f"{language}.md"
    lines = []
    for name, glance in GLANCES.items():
        cells = [
            f"[{name}]({folder}{name}.{ending})",
            networks.get(name).source.title,
            glance.parameters,
            glance.optimizer,
            glance.published,
            f"{100 * RESULTS.recipe(name)['mean']:.2f} %",
        ]
        lines.append(_row(cells))
    return "\n".join([words["index head"], "|---|---|---|---|---|---|", *lines])


def _on_the_way(name: str, language: str) -> Iterator[str]:
    """The accuracies at the stages of the recipe, where it has any."""
    words, runs = WORDS[language], RESULTS.runs(name)
    steps = [*runs[0]["test_accuracies"]]
    if not steps or networks.get(name).recipe.steps is None:
        return
    means = [
        statistics.mean(run["test_accuracies"][step] for run in runs) for step in steps
    ]
    yield words["stages"]
    yield "\n".join(
        [
            _row([words["step"], *(f"{int(step):,}" for step in steps)]),
            f"|{'---|' * (len(steps) + 1)}",
            _row([words["accuracy"], *(f"{mean:.4f}" for mean in means)]),
        ]
    )


def _losses(name: str, language: str) -> Iterator[str]:
    """The losses of the epochs beside the published ones, where there are any."""
    words, row = WORDS[language], RESULTS.recipe(name)
    published = row["published_losses"]
    if not published:
        return
    ours = [*figures.epochs(row["epoch_losses"])]
    yield words["losses"]
    yield "\n".join(
        [
            _row([words["epoch"], words["the book"], words["ours"]]),
            "|---|---|---|",
            *(
                _row([str(number), f"{theirs:.4f}", f"{mean:.4f}"])
                for number, (theirs, mean) in enumerate(
                    zip(published, ours, strict=True), 1
                )
            ),
        ]
    )


def _lockstep(name: str, language: str) -> str:
    """How far the two sides are apart after a training beside each other."""
    document = RESULTS.lockstep(name)
    weights, same, total = 0.0, 0, 0
    variables = RESULTS.gradients(name)
    for comparison in document["comparisons"]:
        if comparison["name"] in variables:
            weights = max(weights, comparison["max_abs"])
        if comparison["name"].startswith("class, "):
            total = comparison["count"]
            same = total - comparison["num_different"]
    if not weights or not total:
        raise ValueError(f"{name}: the lock-step result compares no weights or classes")
    return WORDS[language]["lockstep"].format(
        command=document["environment"]["command"],
        steps=document["steps"],
        whole=RESULTS.recipe(name)["steps"],
        weights=weights,
        same=same,
        total=total,
        **document["accuracy"],
    )


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _minutes(seconds: float) -> str:
    """A duration as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


BLOCKS = {
    "facts": facts,
    "commands": commands,
    "reading": reading,
    "verified": verified,
    "measured": measured,
}

if __name__ == "__main__":
    main()
