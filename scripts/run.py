"""The first five minutes: train two tutorials, score them, prove them equal to TF1, print one table.

Uses MNIST if it is on disk (MNISTPORT_DATA) or can be downloaded, else the embedded digits.
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

RUNS = {"softmax": 1_000, "hvass": 1_000}
"""Network and the optimizer steps it is trained for here (hvass' whole recipe has 10,000)."""


def train(name: str, steps: int) -> tuple[Score, str]:
    """Train and test one network; its score on the test set, and the data set's name."""
    print(f"\n{name}: {steps:,} steps", flush=True)
    pl.seed_everything(0, verbose=False)
    data, module = (
        MnistData(network=name),
        Classifier(network=name, steps_per_execution=100),
    )
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
    """`parity verify` on both networks; its exit status and results."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "verify.json"
        status = cli.main(["verify", *RUNS, "--json", str(file)])
        return status, json.loads(file.read_text())["results"] if file.is_file() else []


def worst(results: list[dict[str, Any]], name: str, dtype: str) -> str:
    """Number of comparisons, and the largest difference of any that was judged by a bound."""
    mine = [
        result
        for result in results
        if (result["network"], result["dtype"]) == (name, dtype)
    ]
    judged = [comparison for result in mine for comparison in result["comparisons"]]
    held = all(result["passed"] for result in mine) and bool(judged)
    nearest = max(
        (c for c in judged if c["bound"] and c["max_abs"] is not None),
        key=lambda c: c["max_abs"] / c["bound"],
    )
    return (
        f"{'ok' if held else 'FAILS'}, {nearest['max_abs']:.0e} of {nearest['bound']:.0e}"
    )


def main() -> int:
    """Train, prove, and lay both side by side."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    scores = {name: train(name, steps) for name, steps in RUNS.items()}
    print(
        "\nThe same networks against TensorFlow 1, identical weights on both sides:",
        flush=True,
    )
    status, results = prove()
    if not results:
        return status
    print(
        f"\n{'network':9} {'steps':>6}  {'test accuracy':21} {'equal to TF1, float64':26} float32"
    )
    for name, (score, data) in scores.items():
        accuracy = f"{score.accuracy:.4f} on {data}"
        proofs = f"{worst(results, name, 'float64'):26} {worst(results, name, 'float32')}"
        print(f"{name:9} {RUNS[name]:>6,}  {accuracy:21} {proofs}")
    print("(largest difference of the comparison nearest its bound, of what is allowed)")
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"run: {error}", file=sys.stderr)
        sys.exit(2)
