"""One side of `bench_training.py`, in a process of its own: takes steps and tells the time, as JSON.

python scripts/bench_side.py tf1|bare|fit NAME STEPS
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
"""The share of the steps, from the first, that is not timed: allocators, thread pools, kernels chosen."""


not_theirs_mib = 0.0
"""Memory of what this process holds only because it is part of this project."""


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tf1(name: str) -> Callable[[int], float]:
    """The tutorial's loop: its own input program, `session.run(train_step)`, and what `fit` reports on the way."""
    import numpy as np

    from parity import tf1 as tensorflow

    tensorflow.load()
    before = _peak_mib()
    import torch  # noqa: F401  # what follows needs it for our side, and the tutorial did not

    global not_theirs_mib
    not_theirs_mib = _peak_mib() - before

    from parity.runners import Theirs

    from mnistport import networks
    from mnistport.network import BatchAccuracy, SampledAccuracy
    from parity import references
    from parity.references import originals

    originals._GlobalSeed = lambda seed: contextlib.nullcontext()  # type: ignore[assignment,misc]  # as the tutorials run
    np.random.seed(0)
    reference = references.get(name)
    data = reference.data(0)
    feeds, test = data.original(), data.evaluation  # type: ignore[misc]
    theirs = Theirs(reference, "float32", 0)
    theirs.initialise()
    end, run = theirs.endpoints, theirs.session.run
    reports, output = networks.get(name).recipe.reports, end.stages[reference.output]

    def score(feeds: Any, size: int = 256) -> None:
        for first in range(0, len(feeds["x"]), size):
            part = {
                end.feeds[key]: value[first : first + size]
                for key, value in feeds.items()
            }
            run(output, {**part, **end.evaluation})

    def report(step: int, batch: Any) -> None:
        for one in reports:
            if isinstance(one, BatchAccuracy) and step % one.every == 0:
                score(batch)
            if (
                isinstance(one, SampledAccuracy)
                and (step + 1) % data.steps_per_epoch == 0
            ):
                score({key: value[: one.num_images] for key, value in test.items()})
                score(test)

    def loop(steps: int) -> float:
        skipped = int(steps * SKIPPED)
        for step in range(steps):
            if step == skipped:
                start = time.perf_counter()
            batch = next(feeds)
            run(
                end.train_op,
                {
                    **{end.feeds[key]: value for key, value in batch.items()},
                    **end.training,
                },
            )
            report(step, batch)
        return (time.perf_counter() - start) / (steps - skipped)

    return loop


def bare(name: str) -> Callable[[int], float]:
    """The same step by the same engine without Lightning: one call a step, nothing reported."""
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
    optimizer = network.recipe.optimizer(module.parameters())
    step = Step(
        module=module,
        loss=lambda output, labels: network.loss(output, labels).sum() / size,
        optimizer=optimizer,
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

    return loop


def fit(name: str) -> Callable[[int], float]:
    """`mnistport fit` with its defaults, logger and lines included; the time is taken at the ends of chunks."""
    import tempfile

    from pytorch_lightning.callbacks import Callback

    from mnistport.cli import main
    from mnistport.training.module import Classifier
    from mnistport.training.tutorial_lines import TutorialLines

    marks: list[tuple[int, float]] = []

    class Marks(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            marks.append((trainer.global_step, time.perf_counter()))

    TutorialLines._stage = lambda *_: None  # type: ignore[method-assign]
    own = Classifier.configure_callbacks
    Classifier.configure_callbacks = lambda self: [*own(self), Marks()]  # type: ignore[method-assign]

    def loop(steps: int) -> float:
        marks.clear()
        with tempfile.TemporaryDirectory() as folder:
            words = [
                "fit",
                "--config",
                name,
                "--trainer.max_steps",
                str(steps),
                "--trainer.limit_test_batches",
                "0",
            ]
            assert (
                main(
                    [
                        *words,
                        "--trainer.accelerator",
                        "cpu",
                        "--trainer.default_root_dir",
                        folder,
                    ]
                )
                == 0
            )
        first = next(mark for mark in marks if mark[0] >= steps * SKIPPED)
        (begin, start), (end, stop) = first, marks[-1]
        return (stop - start) / (end - begin)

    return loop


def main() -> None:
    """Take them."""
    side, name, steps = sys.argv[1:]
    answer = os.fdopen(os.dup(1), "w")
    loop = {"tf1": tf1, "bare": bare, "fit": fit}[side](name)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        seconds = loop(int(steps))
    answer.write(
        json.dumps({"seconds": seconds, "peak_mib": _peak_mib() - not_theirs_mib}) + "\n"
    )
    answer.close()


if __name__ == "__main__":
    main()
