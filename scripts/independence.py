"""Show that how a run is carried out does not change its result.

python scripts/independence.py [NAME ...] [--steps 60] [--ranks 1,2,3,4] [--json FILE]

The same run is made by `mnistport fit` in chunks of other lengths, stopped and resumed,
on several ranks, and on two ranks that are killed and resumed as one. Its weights,
optimizer slots and predictions are compared with those of a plain run, in float64.
Exit status 1 if they differ.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from mnistport.environment import environment
from mnistport.process import kernels_of_fit

BOUND = 1e-12
"""For ranks: they add up a batch in another order. All else must be equal bit for bit."""


MNISTPORT = (sys.executable, "-m", "mnistport")
COMMON = (
    *("--trainer.precision", "64-true", "--trainer.accelerator", "cpu"),
    *("--trainer.enable_progress_bar", "false"),
)
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # the order of sums depends on their number


def _fit_command(folder: Path, network: str, steps: int, *flags: object) -> list[object]:
    """The command of a float64 run whose checkpoints lie below a folder."""
    words = [*MNISTPORT, "fit", "--config", network, *COMMON]
    words += ["--trainer.default_root_dir", folder, "--trainer.max_steps", steps]
    words += ["--trainer.limit_test_batches", 0, "--trainer.logger", "false"]
    return [*words, *flags]


def fit(
    folder: Path, network: str, steps: int, *flags: object
) -> dict[str, torch.Tensor]:
    """Make a float64 run of `mnistport fit`.

    Returns its last weights and optimizer slots by name, and the predicted "classes" of
    the test images.
    """
    _run(_fit_command(folder, network, steps, *flags))
    file = max(folder.rglob("*.ckpt"), key=os.path.getmtime)
    said = _run([*MNISTPORT, "predict", "--ckpt_path", file, *COMMON, *_data(flags)])
    checkpoint = torch.load(file, weights_only=True)
    assert checkpoint["global_step"] == steps, (
        f"{file} is of step {checkpoint['global_step']}"
    )
    slots = checkpoint["optimizer_states"][0]["state"]
    state = {
        f"{number}.{slot}": value
        for number, of in slots.items()
        for slot, value in of.items()
    }
    classes = torch.tensor([int(word) for word in said.split()])
    return {**checkpoint["state_dict"], **state, "classes": classes}


def kill_in_between(newest: Path, steps: int, words: Sequence[object]) -> int:
    """Kill a command that trains as soon as it has saved its newest state.

    Returns the step of that state.

    Raises:
        SystemExit: The command ended before.
    """
    process = subprocess.Popen(
        [str(word) for word in words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **ONE_THREAD},
        start_new_session=True,  # its ranks are processes of the same group
    )
    while process.poll() is None and not newest.exists():
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if not newest.exists():
        raise SystemExit(f"{shlex.join(map(str, words))}\nended before it was killed")
    step = int(torch.load(newest, weights_only=True)["global_step"])
    assert 0 < step < steps, step
    return step


def _data(flags: Sequence[object]) -> list[object]:
    """Those of the flags, each with its value, that choose the data."""
    return [
        word
        for pair in zip(flags[::2], flags[1::2], strict=True)
        if str(pair[0]).startswith("--data")
        for word in pair
    ]


def _run(words: Sequence[object]) -> str:
    """The standard output of a command. If it fails, exit with all that it said."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        env={**os.environ, **ONE_THREAD},
    )
    if done.returncode:
        raise SystemExit(
            f"{shlex.join(str(word) for word in words)}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def furthest(
    ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]
) -> float:
    """The largest |difference| of any weight or slot.

    Infinite if the names or the predicted classes differ.
    """
    if ours.keys() != theirs.keys() or not torch.equal(
        ours["classes"], theirs["classes"]
    ):
        return float("inf")
    furthest = [
        (ours[name] - theirs[name]).abs().max().double()
        for name in theirs
        if name != "classes"
    ]
    return float(torch.stack(furthest).max())  # NaN if any of them is


def compared(
    network: str, steps: int, ranks: Sequence[int], flags: Sequence[object]
) -> Iterator[dict[str, Any]]:
    """Compare each way of making a run with a plain run: one rank, chunks of 20 steps."""
    with tempfile.TemporaryDirectory() as folder:

        def made(name: str, *more: object, upto: int = steps) -> dict[str, torch.Tensor]:
            return fit(Path(folder) / name, network, upto, *flags, *more)

        plain = made("plain", "--model.steps_per_execution", 20)
        for length in (1, 7, 50):
            chunked = made(f"chunks-{length}", "--model.steps_per_execution", length)
            yield row(network, steps, f"chunks of {length}", chunked, plain, 0.0)
        half = steps // 2 + 1
        made("stopped", "--model.steps_per_execution", 20, upto=half)
        (checkpoint,) = (Path(folder) / "stopped").rglob("*.ckpt")
        resumed = made("resumed", "--ckpt_path", checkpoint)
        yield row(
            network, steps, f"stopped after {half} and resumed", resumed, plain, 0.0
        )
        for count in ranks:
            ranked = made(
                f"ranks-{count}", "--trainer.devices", count, "--trainer.strategy", "ddp"
            )
            yield row(
                network, steps, f"{count} rank{'s' * (count > 1)}", ranked, plain, BOUND
            )

        saving = ["--checkpoint_seconds", 0.1, "--model.steps_per_execution", 5]
        two = ["--trainer.devices", 2, "--trainer.strategy", "ddp"]
        begun = Path(folder) / "killed"
        newest = begun / "checkpoints" / "newest.ckpt"
        words = _fit_command(begun, network, steps, *flags, *saving, *two)
        step = kill_in_between(newest, steps, words)
        alone = made("alone", *saving, "--ckpt_path", newest)
        how = f"2 ranks, killed, 1 from step {step}"
        yield row(network, steps, how, alone, plain, BOUND)


def row(
    network: str,
    steps: int,
    how: str,
    ours: Mapping[str, torch.Tensor],
    theirs: Mapping[str, torch.Tensor],
    bound: float,
) -> dict[str, Any]:
    """A row of the result: how far a run is from the plain one, and what is allowed."""
    far = furthest(ours, theirs)
    finite = far if math.isfinite(far) else None
    return {
        "network": network,
        "steps": steps,
        "how": how,
        "max_abs": finite,
        "bound": bound,
        "holds": far <= bound,
    }


def main() -> int:
    """Print a line for each way, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "networks", nargs="*", default=["deep", "three_minute_rmsprop"], metavar="NAME"
    )
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--ranks", default="1,2,3,4")
    parser.add_argument("--data.source", dest="source", default="auto")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    environment()  # reads the commit now; later the checkout may have another
    rows = []
    for network in args.networks:
        for line in compared(
            network,
            args.steps,
            [int(n) for n in args.ranks.split(",")],
            ["--data.source", args.source],
        ):
            found = "not equal" if line["max_abs"] is None else f"{line['max_abs']:.1e}"
            verdict = "ok" if line["holds"] else "DIFFERS"
            allowed = f"{line['bound']:.0e}"
            shown = f"{network:22}{line['how']:32}{found:>10}  of {allowed}  {verdict}"
            print(shown, flush=True)
            rows.append(line)
    if args.json:
        command = shlex.join(["python", "scripts/independence.py", *sys.argv[1:]])
        made_on = {**environment(kernels=kernels_of_fit()), "command": command}
        document = {"environment": made_on, "results": rows}
        args.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(line["holds"] for line in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
