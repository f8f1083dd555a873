"""The README's Python, executed in a notebook, with each kind of progress bar."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
QUIET = "import logging, warnings; warnings.simplefilter('ignore')"
RICH = """
from pytorch_lightning.callbacks import RichProgressBar
trainer = pl.Trainer(
    max_steps=2, limit_val_batches=0, logger=False, callbacks=[RichProgressBar()]
)
trainer.fit(Classifier("hvass", options={"fc_size": 4}), datamodule=data)
print("rich", trainer.global_step)
"""
TQDM = """
from pytorch_lightning.callbacks import TQDMProgressBar
trainer = pl.Trainer(
    max_steps=2, limit_val_batches=0, logger=False, callbacks=[TQDMProgressBar()]
)
trainer.fit(Classifier("hvass", options={"fc_size": 4}), datamodule=data)
print("tqdm", trainer.global_step)
"""
OWN = """
import torch
from torch.utils.data import DataLoader, TensorDataset

loader = DataLoader(TensorDataset(torch.rand(20, 784), torch.arange(20) % 10), 5)
print("own", len(torch.cat(trainer.predict(module, loader))))
"""
REFUSED = """
try:
    trainer.fit(module, loader)
except ValueError as error:
    print("refused:", error)
"""


def python_of_the_readme() -> str:
    text = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return block


def shown(cell) -> str:
    """What a cell printed or displayed, as text."""
    parts = [output.get("text", "") for output in cell.outputs]
    parts += [output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "".join(parts)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The cells of the notebook, executed in an empty folder by a kernel of its own."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    sources = [QUIET, python_of_the_readme(), RICH, TQDM, OWN, REFUSED]
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    folder = str(tmp_path_factory.mktemp("notebook"))
    nbclient.NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": folder}}
    ).execute()
    return notebook.cells[1:]


pytestmark = pytest.mark.slow


def test_the_readmes_python_trains_and_prints_the_tutorials_lines(cells):
    text = shown(cells[0])
    first = re.search(r"Accuracy on Test-Set: \d+\.\d% \(\d+ / 297\)", text)
    assert first and first.start() < text.index("Optimization Iteration:      1, ")
    assert text.count("Time usage: 0:00:0") == 2  # after 1 and after 100 steps
    assert "test/accuracy" in text


@pytest.mark.parametrize(("cell", "bar"), [(1, "rich"), (2, "tqdm")])
def test_hvass_prints_two_lines_at_once_under_a_progress_bar(cells, cell, bar):
    text = shown(cells[cell])
    assert f"{bar} 2" in text
    assert re.search(r"Time usage: 0:00:0\d", text)
    assert text.count("Accuracy on Test-Set: ") == 2  # before and after the first step


def test_the_frames_of_a_bar_are_seen_in_a_notebook(cells):
    assert "Epoch 0: 100%" in shown(cells[2])


def test_ones_own_loader_is_classified(cells):
    assert "own 20" in shown(cells[3])


def test_what_cannot_work_is_refused_in_one_line(cells):
    text = shown(cells[4]).strip()
    assert text.startswith("refused: Classifier trains on the batches of its recipe")
    assert "\n" not in text
