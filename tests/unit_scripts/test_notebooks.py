"""The notebooks: they are what the script writes, and they run to their end.

The slow tests execute them with few steps on the embedded digits. The code of a notebook
is the same in both languages, so the English one is executed.
"""

import ast
import base64
import json
import re
from io import BytesIO

import pytest
from pages import sources
from PIL import Image

ROOT = sources.ROOT
FEW_STEPS = {
    "hvass": 'SOURCE = "digits"\nSTAGES = (1, 2, 3, 101)',
    "deep": 'SOURCE = "digits"\nSTEPS = 2\nBY_HAND = 2',
}
PICTURES = {"hvass": 13, "deep": 6}
WITH_OPTIMIZER_STATE = {"hvass": 126, "deep": 126}


@pytest.fixture(scope="module")
def notebooks(script):
    pytest.importorskip("nbformat")
    return {file: json.loads(text) for file, text in script.notebooks()}


def test_the_committed_notebooks_are_what_the_script_writes(script):
    differ = [
        str(file)
        for file, text in script.notebooks()
        if not (ROOT / file).exists() or (ROOT / file).read_text() != text
    ]
    assert not differ, "run python scripts/notebooks.py"
    in_folder = {file.relative_to(ROOT) for file in (ROOT / script.NOTEBOOKS).iterdir()}
    assert in_folder == {file for file, _ in script.notebooks()}


def test_both_languages_have_the_same_code(notebooks):
    for name in FEW_STEPS:
        english, korean = (
            [
                source
                for kind, source in cells(notebooks, name, language)
                if kind == "code"
            ]
            for language in ("en", "ko")
        )
        assert len(english) > 10
        assert english == korean


def test_a_notebook_is_plain_python_and_holds_no_outputs(notebooks):
    for notebook in notebooks.values():
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                ast.parse("".join(cell["source"]))
                assert cell["outputs"] == []
                assert cell["execution_count"] is None


def test_the_korean_notebooks_are_korean(notebooks):
    for name in FEW_STEPS:
        for kind, source in cells(notebooks, name, "ko"):
            assert kind == "code" or re.search("[가-힣]", source)


@pytest.fixture(scope="module", params=FEW_STEPS)
def executed(request, script, tmp_path_factory):
    """A notebook, executed in an empty folder, and its name."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.reads(script.notebook(request.param, "en"), 4)
    (numbers,) = (cell for cell in notebook.cells if "tags" in cell.metadata)
    numbers.source = FEW_STEPS[request.param]
    folder = str(tmp_path_factory.mktemp("notebook"))
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": folder}}
    ).execute()
    return request.param, [
        output for cell in notebook.cells for output in cell.get("outputs", [])
    ]


@pytest.mark.slow
@pytest.mark.tf
def test_a_notebook_shows_its_pictures(executed):
    name, outputs = executed
    shown = [
        output["data"]["image/png"]
        for output in outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(shown) == PICTURES[name]
    for png in shown:
        assert Image.open(BytesIO(base64.b64decode(png))).width >= 480


@pytest.mark.slow
@pytest.mark.tf
def test_a_notebook_ends_with_the_proof(executed):
    name, outputs = executed
    text = "".join(output.get("text", "") for output in outputs)
    proof = re.findall(r"^(\w+) +(\d+) compared; worst \S+, \S+ allowed$", text, re.M)
    asked = ["weights", "forward", "loss", "gradients", "step"]
    assert [check for check, _ in proof] == asked
    assert int(proof[-1][1]) == WITH_OPTIMIZER_STATE[name]
    assert "the same class: 297 of 297 images" in text
    last = re.search(r"right: TensorFlow 1 (\d+), PyTorch (\d+)\n$", text)
    assert last
    assert last[1] == last[2]


@pytest.mark.slow
@pytest.mark.tf
def test_a_notebook_prints_the_tutorials_lines(executed):
    name, outputs = executed
    text = "".join(output.get("text", "") for output in outputs)
    if name == "hvass":
        assert text.count("Accuracy on Test-Set: ") == 5
        assert re.search(r"Optimization Iteration:    101, Training Accuracy: ", text)
    else:
        assert text.count("step 0, training accuracy ") == 2  # by hand, by the Trainer
    errors = [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert errors == []


def cells(notebooks, name: str, language: str) -> list[tuple[str, str]]:
    """The kind and the source of each cell."""
    (notebook,) = (
        notebook
        for file, notebook in notebooks.items()
        if file.name == f"{name}.{language}.ipynb"
    )
    return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
