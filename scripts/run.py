"""Train two tutorials, test them, prove them equal to TF1, and print one table.

This is what `make run` does. The data is MNIST if its files are in the folder
MNISTPORT_DATA or can be downloaded, and scikit-learn's digits otherwise.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from mnistport.errors import UserError
from mnistport.training.datamodule import MnistData
from mnistport.training.evaluation import Score
from mnistport.training.module import Classifier
from parity import cli
from parity.compare import Comparison
from parity.report.result import nearest

RUNS = {"softmax": 1_000, "hvass": 1_000}
"""Each network, and its optimizer steps here. The whole recipe of hvass has 10,000."""


def train(name: str, steps: int) -> tuple[Score, str]:
    """Train and test a network; its score on the test set, and the data set's name."""
    print(f"\n{name}: {steps:,} steps", flush=True)
    pl.seed_everything(0, verbose=False)
    data = MnistData(network=name)
    module = Classifier(network=name, steps_per_execution=100)
    trainer = pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    assert module.last_score is not None
    return module.last_score, data.name


def prove() -> tuple[int, list[dict[str, Any]]]:
    """Run `parity verify` on both networks; its exit status and its results."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "verify.json"
        status = cli.main(["verify", *RUNS, "--json", str(file)])
        return status, json.loads(file.read_text())["results"] if file.is_file() else []


def verdict(results: list[dict[str, Any]], name: str, dtype: str) -> str:
    """Whether a network's claims hold, and the comparison nearest to its bound."""
    asked = (name, dtype)
    mine = [one for one in results if (one["network"], one["dtype"]) == asked]
    worst = nearest(Comparison.from_json(c) for one in mine for c in one["comparisons"])
    if worst is None:
        return "nothing was compared"
    held = "ok" if all(one["passed"] for one in mine) else "FAILS"
    found = "not comparable" if worst.max_abs is None else f"{worst.max_abs:.0e}"
    return f"{held}, {found} of {worst.bound:.0e}"


def main() -> int:
    """Train, prove, and print both in one table."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    scores = {name: train(name, steps) for name, steps in RUNS.items()}
    print("\nThe same networks and TensorFlow 1, with identical weights:", flush=True)
    status, results = prove()
    if not results:
        return status
    proofs = f"{'equal to TF1, float64':26} float32"
    print(f"\n{'network':9} {'steps':>6}  {'test accuracy':21} {proofs}")
    for name, (score, data) in scores.items():
        accuracy = f"{score.accuracy:.4f} on {data}"
        wide, narrow = (verdict(results, name, dtype) for dtype in ("float64", "float32"))
        print(f"{name:9} {RUNS[name]:>6,}  {accuracy:21} {wide:26} {narrow}")
    print("(of the comparison nearest to its bound: largest difference, and the bound)")
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"run: {error}", file=sys.stderr)
        sys.exit(2)
