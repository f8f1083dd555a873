"""Measure one of the three loops that `bench_training.py` compares, and print JSON.

python scripts/bench_side.py tf1|bare|fit NAME STEPS

Each loop runs in a process of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

SKIPPED = 0.2
"""This first part of the steps is not timed: memory grows, threads start."""

Loop = Callable[[int], float]
"""Takes so many steps; the seconds that one of those that are timed takes."""


def peak_mib() -> float:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tf1(name: str) -> tuple[Loop, float]:
    """The tutorial's loop: its input program, its train op, and the lines it prints.

    What `fit` scores on the way is scored here, too. Returns the loop, and the memory
    that torch takes in this process. The tutorial did not import torch.
    """
    import numpy as np

    from parity import tf1 as tensorflow

    tensorflow.load()
    before = peak_mib()
    import torch  # noqa: F401  # what is imported next needs it

    torch_mib = peak_mib() - before

    from mnistport import networks
    from mnistport.network import BatchAccuracy, SampledAccuracy
    from parity import references
    from parity.references import originals
    from parity.sides import Theirs

    # The tutorials draw from NumPy's global generator and never save or restore its
    # state.
    originals._GlobalSeed = lambda seed: contextlib.nullcontext()  # type: ignore[assignment,misc]
    np.random.seed(0)
    reference = references.get(name)
    data = reference.data(0)
    feeds, test = data.original(), data.evaluation  # type: ignore[misc]
    theirs = Theirs(reference, "float32", 0)
    end, run = theirs.endpoints, theirs.session.run
    run(theirs.program.initializer)
    reports, output = networks.get(name).recipe.reports, end.stages[reference.output]

    def feed(batch: Any) -> dict[Any, Any]:
        return {end.feeds[key]: value for key, value in batch.items()}

    def score(images: Any, size: int = 256) -> None:
        for first in range(0, len(images["x"]), size):
            part = {key: value[first : first + size] for key, value in images.items()}
            run(output, {**feed(part), **end.evaluation})

    def report(step: int, batch: Any) -> None:
        for one in reports:
            if isinstance(one, BatchAccuracy) and step % one.every == 0:
                score(batch)
            epoch_ends = (step + 1) % data.steps_per_epoch == 0
            if isinstance(one, SampledAccuracy) and epoch_ends:
                score({key: value[: one.num_images] for key, value in test.items()})
                score(test)

    def loop(steps: int) -> float:
        skipped = int(steps * SKIPPED)
        for step in range(steps):
            if step == skipped:
                start = time.perf_counter()
            batch = next(feeds)
            run(end.train_op, {**feed(batch), **end.training})
            report(step, batch)
        return (time.perf_counter() - start) / (steps - skipped)

    return loop, torch_mib


def bare(name: str) -> tuple[Loop, float]:
    """The step that `fit` takes, by the same engine, but without Lightning and reports.

    The engine is called once for each step.
    """
    import torch

    from mnistport import networks
    from mnistport.draws import KeyedDraws
    from mnistport.process import set_up_for_training
    from mnistport.speed import engine_for
    from mnistport.step import Step
    from mnistport.training.datamodule import MnistData

    set_up_for_training()
    torch.manual_seed(0)
    network = networks.get(name)
    data = MnistData(name)
    data.setup()
    (pixels, labels), size = data.train, network.recipe.batch_size
    module = network.module()
    step = Step(
        module=module,
        loss=lambda output, labels: network.loss(output, labels).sum() / size,
        optimizer=network.recipe.optimizer(module.parameters()),
        draws=KeyedDraws(module, 0, size, slice(None)),
        pixels=pixels,
        labels=labels,
        num_images=size,
        pure=network.pure,
    )
    engine = engine_for(step, 1)
    assert not isinstance(engine, str), engine

    def loop(steps: int) -> float:
        index = torch.from_numpy(data.stream.indices(0, steps))
        skipped = int(steps * SKIPPED)
        for number in range(steps):
            if number == skipped:
                start = time.perf_counter()
            engine.run(number, index[number : number + 1])
        return (time.perf_counter() - start) / (steps - skipped)

    return loop, 0.0


def fit(name: str) -> tuple[Loop, float]:
    """`mnistport fit` with its defaults: with its logger, and the lines it prints.

    What follows a stage of hvass, the score of the whole test set, is not timed: it would
    come far more often here than in the whole recipe. The tf1 loop has none, either.
    """
    import tempfile

    from step_times import StepTimes, seconds_per_step

    from mnistport import networks
    from mnistport.cli import main
    from mnistport.network import StageAccuracy

    reports = networks.get(name).recipe.reports
    stages = [report.stages for report in reports if isinstance(report, StageAccuracy)]

    def loop(steps: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            words = ["--trainer.callbacks+=step_times.StepTimes"]
            words += ["--trainer.max_steps", str(steps)]
            words += ["--trainer.limit_test_batches", "0"]
            words += ["--trainer.accelerator", "cpu"]
            words += ["--trainer.default_root_dir", folder]
            assert main(["fit", "--config", name, *words]) == 0
        return seconds_per_step(StepTimes.marks, steps * SKIPPED, sum(stages, ()))

    return loop, 0.0


def main() -> None:
    """Measure, and print the seconds of a step and the peak memory."""
    side, name, steps = sys.argv[1:]
    answer = os.fdopen(os.dup(1), "w")
    loop, not_counted_mib = {"tf1": tf1, "bare": bare, "fit": fit}[side](name)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        seconds = loop(int(steps))
    told = {"seconds": seconds, "peak_mib": peak_mib() - not_counted_mib}
    answer.write(json.dumps(told) + "\n")
    answer.close()


if __name__ == "__main__":
    main()
