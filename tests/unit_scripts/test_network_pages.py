"""The pages of the networks: they are what the script writes, and nothing is left out."""

import copy
import re

import pytest
from pages import sources, texts
from pages.figures import Results
from pages.rows import Rows
from pages.words import WORDS

from mnistport.overview import GLANCES

ROOT = sources.ROOT


@pytest.fixture(scope="module")
def pages(script):
    return dict(script.pages())


def test_the_committed_pages_are_what_the_script_writes(pages):
    differ = [str(file) for file, text in pages.items() if read(file) != text]
    assert not differ, "run python scripts/network_pages.py"
    in_folder = {file.relative_to(ROOT) for file in (ROOT / "docs/networks").iterdir()}
    assert in_folder == {file for file in pages if file.parts[0] == "docs"}


def test_there_is_a_page_for_each_network_in_each_language(pages):
    names = {file.name for file in pages}
    assert {f"{name}.md" for name in GLANCES} < names
    assert {f"{name}.ko.md" for name in GLANCES} < names


def test_both_languages_have_the_same_words():
    assert WORDS["en"].keys() == WORDS["ko"].keys()


def test_both_languages_show_the_same_code_and_figures(pages):
    for name in GLANCES:
        english, korean = (
            re.findall(r"`[^`\n]*[=(][^`\n]*`|\d\S+ ≤ \S+", text)
            for text in (tables(pages, f"{name}.md"), tables(pages, f"{name}.ko.md"))
        )
        assert len(english) > 10
        assert english == korean


def test_every_link_leads_to_a_page(pages):
    for file, text in pages.items():
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)\)", text)
        assert links
        for link in links:
            assert (ROOT / file.parent / link).exists(), f"{file}: {link}"


def test_a_figure_is_that_of_the_result_nearest_its_bound():
    results = made_up(
        comparison("C1", 1e-15, 1e-12),
        comparison("C1 (large) (training)", 3e-13, 1e-12),
        comparison("C10", 9e-13, 1e-12),
    )
    assert results.figure("some", "float64", "stage/C1") == "3e-13 ≤ 1e-12"
    assert results.figure("some", "float64", "check/forward") == "9e-13 ≤ 1e-12"


def test_only_what_is_equal_bit_for_bit_is_called_equal():
    equal = made_up(comparison("x", 0.0, 0.0), comparison("y", 0.0, 0.0))
    assert equal.figure("some", "float64", "check/forward") == "="
    near = made_up(comparison("x", 0.0, 0.0), comparison("y", 0.0, 1e-12))
    assert near.figure("some", "float64", "check/forward") == "0 ≤ 1e-12"


def test_a_claim_that_fails_is_not_shown_as_a_figure():
    results = made_up(comparison("C1", 2e-12, 1e-12, passed=False))
    with pytest.raises(ValueError, match="stage/C1 in float64"):
        results.figure("some", "float64", "stage/C1")


def test_a_stage_that_was_not_compared_is_refused():
    with pytest.raises(ValueError, match="0 comparisons"):
        made_up(comparison("C1", 0.0, 1.0)).figure("some", "float64", "stage/C2")


@pytest.fixture
def rows():
    return Rows("softmax", Results(), WORDS["en"])


SHOWN = """x y_ | |
W b | self.fc init/self.fc.weight init/self.fc.bias | gradient/W gradient/b
y | logits | stage/logits
cross_entropy loss optimizer | |"""


def test_a_page_that_shows_everything_is_made(rows):
    table = rows.table(SHOWN)
    rows.refuse_what_is_left()
    assert table[3].startswith(
        "| `W = tf.Variable(tf.zeros([784, 10]))`<br>`b = tf.Variable(tf.zeros([10]))` "
        "| `self.fc = Dense(784, 10)`<br>`nn.init.zeros_(self.fc.weight)`<br>"
    )


@pytest.mark.parametrize(
    ("words", "instead", "missing"),
    [
        ("x y_", "x", "parity/references/softmax.py: not shown: y_"),
        (" init/self.fc.bias", "", "networks/softmax.py: not shown: init/self.fc.bias"),
        (" gradient/b", "", "softmax: shows"),
        ("stage/logits", "", "softmax: shows"),
        ("gradient/b", "gradient/W", "softmax: shows"),
    ],
)
def test_what_a_page_leaves_out_is_noticed(rows, words, instead, missing):
    rows.table(SHOWN.replace(words, instead))
    with pytest.raises(ValueError, match=re.escape(missing)):
        rows.refuse_what_is_left()


def test_a_line_is_not_shown_twice(rows):
    with pytest.raises(ValueError, match="no line is left that sets 'x'"):
        rows.table(SHOWN.replace("y_", "x"))


def test_an_option_is_shown_with_its_default():
    file = "mnistport/networks/hvass.py"
    assert sources.default(file, "__init__", "fc_size") == "fc_size=128"
    assert sources.default(file, "__init__", "activation") == 'activation="relu"'
    assert sources.default(file, "forward", "fc_size") is None


@pytest.mark.parametrize("text", ["@en\nwords", "@ko\n말", "@en\na\n@rows\n@ko\n말"])
def test_words_in_one_language_are_refused(tmp_path, text):
    file = tmp_path / "text.md"
    file.write_text(text)
    with pytest.raises(ValueError, match="has no counterpart"):
        texts.read(file)


def test_each_language_gets_its_words_and_what_both_show(tmp_path):
    file = tmp_path / "text.md"
    file.write_text("@en\nwords\n\n@ko\n말\n@rows\na | b | c\n")
    kinds = {
        language: [
            (block.kind, block.text)
            for block in texts.in_language(texts.read(file), language)
        ]
        for language in texts.LANGUAGES
    }
    assert kinds == {
        "en": [("en", "words"), ("rows", "a | b | c")],
        "ko": [("ko", "말"), ("rows", "a | b | c")],
    }


def read(file) -> str:
    path = ROOT / file
    return path.read_text() if path.exists() else ""


def tables(pages, name: str) -> str:
    (text,) = (text for file, text in pages.items() if file.name == name)
    return "\n".join(line for line in text.splitlines() if line.startswith("|"))


REAL = Results()


def comparison(name: str, max_abs: float, bound: float, *, passed: bool = True):
    made = copy.deepcopy(REAL.claims("softmax")[0]["comparisons"][0])
    over = 0 if passed else 1
    given = {"name": name, "max_abs": max_abs, "bound": bound, "passed": passed}
    return made | given | {"num_over": over}


def made_up(*comparisons) -> Results:
    """Results of the check `forward` of a network called "some"."""
    results = Results()
    claim = {"network": "some", "check": "forward", "dtype": "float64"}
    claim |= {"comparisons": list(comparisons), "passed": True}
    results.__dict__["verify"] = {"results": [claim]}  # what is cached is not read
    return results
