"""The commands `mnistport fit`, `test` and `predict`, run in this process.

Their command lines are those of a user. What they print is read as a user reads it.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mnistport import cli, networks
from mnistport.errors import UserError
from mnistport.network import Network
from parity.reference import Array, Run, Start
from parity.references import mnist_trainer, recipes
from parity.references.mnist_watcher import SeenError, Watch, Watcher

QUIET = (
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.logger=false",
)
COUNTS = re.compile(r"\((\d+) / (\d+)\)")
ACCURACY = re.compile(r"(?:^|\s)(\d(?:\.\d+)?(?:e-\d+)?)(?:  \[data: .*\])?$")


def fit(
    network: Network,
    start: Start,
    steps: int,
    chunk: int | None,
    checkpoint: Path | None,
) -> Run:
    """Run `mnistport fit` until `steps` steps are taken. See `parity.reference.Commands`.

    Without a checkpoint it begins with the weights of `start`. A run from a checkpoint
    does not end with the test images.
    """
    watch = Watch(
        reference=start.reference,
        weights=start.weights if checkpoint is None else None,
    )
    words = [f"--trainer.max_steps={steps}"]
    if start.device.startswith("cuda"):
        chunk = 1  # the watcher cannot look into a CUDA graph
    if chunk is not None:
        words += [f"--model.steps_per_execution={chunk}"]
    if checkpoint is not None:
        words += [f"--ckpt_path={checkpoint}", "--trainer.limit_test_batches=0"]
    text = watched(network, start, watch, words)
    with torch.random.fork_rng(devices=[]):
        net = start.reference.port.module().to(start.device)
    return Run(
        initial=watch.initial,
        steps=watch.steps(),
        chunks=watch.chunks,
        epochs=watch.epochs,
        engines=watch.engines,
        remark=watch.remark,
        printed=printed_accuracy(text),
        draws=partial(
            mnist_trainer.draws, start, net, recipes.of(network.name).batch_size
        ),
    )


def watched(network: Network, start: Start, watch: Watch, words: Sequence[str]) -> str:
    """Run `mnistport fit` with a callback that fills the watch. Returns its output."""
    Watcher.watch = watch
    callback = f"{Watcher.__module__}.{Watcher.__name__}"
    return _run(
        "fit",
        network,
        start,
        "--trainer.enable_checkpointing=false",
        f"--trainer.callbacks+={callback}",
        *words,
    )


def test(network: Network, start: Start, checkpoint: Path) -> Array:
    """The accuracy that `mnistport test` prints in the tutorial's words."""
    words = (f"--ckpt_path={checkpoint}", "--trainer.logger=false")
    return printed_accuracy(_run("test", network, start, *words))


def predict(network: Network, start: Start, checkpoint: Path) -> Array:
    """The classes that `mnistport predict` prints, int64 `[N]`."""
    text = _run("predict", network, start, f"--ckpt_path={checkpoint}")
    return np.array([int(word) for word in text.split()], np.int64)


def printed_accuracy(text: str) -> Array:
    """The accuracy in the last line that has one, with the digits that are printed.

    A line that counts, such as "(9,123 / 10,000)", gives it with six digits, as the
    other tutorials print it. NaN if no line has one.
    """
    accuracy = np.nan
    for line in text.splitlines():
        if found := COUNTS.search(line):
            accuracy = as_printed(int(found[1]), int(found[2]))
        elif found := ACCURACY.search(line):
            accuracy = float(found[1])
    return np.asarray(accuracy)


def as_printed(correct: int, total: int) -> float:
    """An accuracy as `%g` prints it."""
    return float(f"{correct / total:g}")


def _run(command: str, network: Network, start: Start, *words: str) -> str:
    """Run a command of `mnistport`. Returns its standard output.

    Raises:
        UserError: It failed.
        KeyboardInterrupt: Ctrl-C ended it.
        SystemExit: Another signal ended it.
    """
    if networks.get(network.name) is not network:
        raise UserError(
            f"the reference's network is not the one that mnistport has as "
            f"{network.name!r}, and the commands would take that one; "
            "give yours another name"
        )
    line = [command, *_named(network), *_setting(start), *QUIET, *words]
    output, errors = io.StringIO(), io.StringIO()
    try:
        with _process_left_as_it_is(), tempfile.TemporaryDirectory() as folder:
            line.append(f"--trainer.default_root_dir={folder}")
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                status = cli.main(line)
    except SeenError:
        return output.getvalue()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"`mnistport {' '.join(line)}` failed: {reason}") from error
    if status > 128:  # a signal ended it, and is to end this process, too
        raise KeyboardInterrupt if status == 130 else SystemExit(status)
    if status:
        reason = (errors.getvalue().strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"`mnistport {' '.join(line)}` ended with {status}: {reason}")
    return output.getvalue()


def _named(network: Network) -> list[str]:
    """The words that name the network, with its shipped recipe if it has one."""
    if network.name in networks.BUILT_IN:
        return ["--config", network.name]
    return [f"--model.network={network.name}"]


def _setting(start: Start) -> list[str]:
    """The words for seed, precision, device, data set and the network's options."""
    flags = {
        "source": "--data.source",
        "directory": "--data.dir",
        "eval_batch_size": "--data.eval_batch_size",
    }
    double, cuda = start.dtype == "float64", start.device.startswith("cuda")
    return [
        f"--seed_everything={start.seed}",
        f"--trainer.precision={'64-true' if double else '32-true'}",
        f"--trainer.accelerator={'cuda' if cuda else 'cpu'}",
        "--trainer.devices=1",
        *(f"{flags[name]}={value}" for name, value in start.data_set.items()),
        *(
            f"--model.options.{name}={json.dumps(value)}"
            for name, value in start.reference.options.items()
        ),
    ]


@contextlib.contextmanager
def _process_left_as_it_is() -> Iterator[None]:
    """Undo what a command does to the process: seeds, variables, levels of messages.

    Denormal numbers stay, because this process compares numbers.
    """
    variables, python, old = dict(os.environ), random.getstate(), np.random.get_state()
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    os.environ["MNISTPORT_TUNE"] = "0"
    logger.setLevel(logging.WARNING)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*GPU available but not used")
            yield
    finally:
        logger.setLevel(level)
        random.setstate(python)
        np.random.set_state(old)
        for name in set(os.environ) - set(variables):
            del os.environ[name]
        os.environ.update(variables)
