"""Measure everything there is to measure on a GPU, in one call of some minutes.

python scripts/bench_cuda.py [NAME ...] [--out DIR] [--steps 2000]

1. parted: do a run by the graph engine and one by the eager engine end with the same
   weights, in float64 and float32, with dropout on?
2. speed: milliseconds per step, of eager, graph, graph with TF32, and graph with bf16.
3. recipes: whole recipes with logging and the final test; their seconds, without and with
   start-up, and the test accuracy.

Writes bench_cuda.json and bench_cuda.md after each network of each part. Exit status 1 if
the engines' weights differ by more than BOUNDS, or if a measurement failed: also where
graph was asked for and the eager engine took the steps. TensorFlow and jsonargparse need
not be installed.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

# So that mnistport need not be installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Timer
from pytorch_lightning.loggers import CSVLogger

from mnistport import networks
from mnistport.environment import environment
from mnistport.step import Eager
from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier

BOUNDS = {"64-true": 1e-12, "32-true": 1e-5}
"""The largest |difference| of any weight after 50 steps, by precision.

Both engines call the same kernels, so most often it is 0.
"""

WAYS = ("eager", "graph", "graph, TF32", "graph, bf16")
ACCELERATOR = "gpu"


class Clock(Callback):
    """Times the steps after the first chunk, in which a graph is recorded.

    Raises RuntimeError during the run if another engine than the one asked for takes
    them.
    """

    counts_chunks = True

    def __init__(self, engine: str) -> None:
        self.asked = engine

    def on_train_start(self, *_: Any) -> None:
        """Start anew."""
        self.marks: list[tuple[int, float]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any
    ) -> None:
        """Note the time; the chunk's losses are on the host by now."""
        self.marks.append((trainer.global_step, time.perf_counter()))
        if isinstance(module.engine, Eager) != (self.asked == "eager"):
            raise RuntimeError(
                f"asked for {self.asked}, "
                f"but the steps were taken by {type(module.engine).__name__}"
            )

    @property
    def milliseconds(self) -> float:
        """Per step."""
        (begin, start), (end, stop) = self.marks[0], self.marks[-1]
        return 1e3 * (stop - start) / (end - begin)


def run(
    name: str,
    engine: str,
    steps: int | None,
    precision: str = "32-true",
    *,
    tf32: bool = False,
) -> tuple[Classifier, Clock, Timer]:
    """Train a network, with a logger.

    Without `steps` its whole recipe, and then the test.
    """
    pl.seed_everything(0, verbose=False)
    clock, timer = Clock(engine), Timer()
    module, data = Classifier(name, engine=engine, tf32=tf32), MnistData(name)  # type: ignore[arg-type]
    whole = module.network.recipe
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator=ACCELERATOR,
            devices=1,
            precision=precision,  # type: ignore[arg-type]
            max_steps=(whole.steps or -1) if steps is None else steps,
            max_epochs=(whole.epochs or -1) if steps is None else -1,
            limit_val_batches=0,
            log_every_n_steps=100,
            logger=CSVLogger(folder),
            callbacks=[clock, timer],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        trainer.fit(module, datamodule=data)
        if steps is None:
            trainer.test(module, datamodule=data, verbose=False)
    return module, clock, timer


def parted(name: str, precision: str) -> dict[str, Any]:
    """Compare eager with graph after 50 steps, with deterministic kernels."""
    torch.backends.cudnn.deterministic = True
    eager, graph = (
        run(name, engine, 50, precision)[0].net.state_dict()
        for engine in ("eager", "graph")
    )
    torch.backends.cudnn.deterministic = False
    # NaN if any of them is.
    far = float(
        torch.stack(
            [(eager[key] - graph[key]).abs().max().double() for key in eager]
        ).max()
    )
    shown = far if math.isfinite(far) else None
    return {
        "network": name,
        "precision": precision,
        "max_abs": shown,
        "holds": far <= BOUNDS[precision],
    }


def speed(name: str, steps: int) -> dict[str, Any]:
    """Milliseconds per step of each engine and option."""
    made = (
        run(name, "eager", max(200, steps // 4)),
        run(name, "graph", steps),
        run(name, "graph", steps, tf32=True),
        run(name, "graph", steps, "bf16-mixed"),
    )
    times = {
        way: clock.milliseconds for way, (_, clock, _) in zip(WAYS, made, strict=True)
    }
    return {"network": name, "milliseconds": times}


def recipe(name: str) -> dict[str, Any]:
    """Train the whole recipe by graph, with logging and the final test.

    Start-up is everything before the first step.
    """
    start = time.perf_counter()
    module, clock, timer = run(name, "graph", None)
    whole, score = time.perf_counter() - start, module.last_score
    assert score is not None
    seconds = {stage: timer.time_elapsed(stage) for stage in ("train", "test")}  # type: ignore[arg-type]
    return {
        "network": name,
        "steps": clock.marks[-1][0],
        "seconds": sum(seconds.values()),
        "seconds_by_stage": seconds,
        "seconds_with_start_up": whole,
        "test_accuracy": score.correct / score.total,
        "test_images": score.total,
    }


def page(document: dict[str, Any]) -> str:
    """The three parts as Markdown."""
    made_on = document["environment"]
    lines = [
        f"# On {made_on['gpu']}",
        "",
        f"`{made_on['command']}`, torch {made_on['torch']}",
        "",
    ]
    lines += [
        "| graph and eager after 50 steps | precision | largest difference | |",
        "|---|---|---|---|",
    ]
    for row in document["parted"]:
        verdict = "ok" if row["holds"] else "DIFFER"
        far = "not finite" if row["max_abs"] is None else f"{row['max_abs']:.1e}"
        lines.append(f"| {row['network']} | {row['precision']} | {far} | {verdict} |")
    lines += ["", f"| ms per step | {' | '.join(WAYS)} |", f"|{'---|' * (len(WAYS) + 1)}"]
    for row in document["speed"]:
        times = [f"{row['milliseconds'][way]:.3f}" for way in WAYS]
        lines.append(f"| {row['network']} | {' | '.join(times)} |")
    lines += [
        "",
        "| whole recipe | steps | training and test | of it training | with start-up "
        "| test accuracy |",
    ]
    lines += ["|---|---|---|---|---|---|"]
    for row in document["recipes"]:
        times = [
            row["seconds"],
            row["seconds_by_stage"]["train"],
            row["seconds_with_start_up"],
        ]
        shown = " | ".join(f"{seconds:.2f} s" for seconds in times)
        accuracy = f"{row['test_accuracy']:.4f} of {row['test_images']:,}"
        lines.append(f"| {row['network']} | {row['steps']:,} | {shown} | {accuracy} |")
    lines += [
        f"\n{row['part']} of {row['network']} FAILED: {row['error']}"
        for row in document["failed"]
    ]
    seconds = sum(row["seconds"] for row in document["recipes"])
    lines.append(f"\nAll of them: {seconds:.1f} s of training and test.")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print, and write after each network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", metavar="NAME")
    parser.add_argument(
        "--steps", type=int, default=2000, help="of a timed run, at least 1000"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench_cuda"))
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench_cuda: torch sees no CUDA device here", file=sys.stderr)
        return 2
    if args.steps < 1000:
        parser.error("--steps: at least 1000, or there is nothing to time")
    names = args.networks or list(networks.BUILT_IN)
    command = shlex.join(["python", "scripts/bench_cuda.py", *sys.argv[1:]])
    made_on = {
        **environment(),
        "gpu": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "command": command,
    }
    document: dict[str, Any] = {
        "environment": made_on,
        "parted": [],
        "speed": [],
        "recipes": [],
        "failed": [],
    }
    parts = {
        "parted": lambda name: [parted(name, precision) for precision in BOUNDS],
        "speed": lambda name: [speed(name, args.steps)],
        "recipes": lambda name: [recipe(name)],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    for part, measure in parts.items():
        for name in names:
            try:
                rows = measure(name)
            except Exception as error:  # the rest is still measured
                traceback.print_exc()
                document["failed"].append(
                    {
                        "part": part,
                        "network": name,
                        "error": f"{type(error).__name__}: {error}",
                    }
                )
                rows = []
            document[part] += rows
            print(*rows, sep="\n", flush=True)
            (args.out / "bench_cuda.json").write_text(
                json.dumps(document, indent=1) + "\n"
            )
            (args.out / "bench_cuda.md").write_text(page(document))
    return (
        0
        if all(row["holds"] for row in document["parted"]) and not document["failed"]
        else 1
    )


if __name__ == "__main__":
    sys.exit(main())
