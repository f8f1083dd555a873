"""Show that how a run is carried out does not change its result.

python scripts/independence.py [NAME ...] [--steps 60] [--ranks 1,2,3,4] [--json FILE]

The same run is made by `mnistport fit` in chunks of other lengths, stopped and resumed,
and on several ranks. Its weights, optimizer slots and predictions are compared with those
of a plain run, in float64. Exit status 1 if they differ.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mnistport.environment import environment
from mnistport.process import kernels_of_fit

BOUND = 1e-12
"""For ranks: they add up a batch in another order. All else must be equal bit for bit."""


def fit(
    folder: Path, network: str, steps: int, *flags: object
) -> dict[str, torch.Tensor]:
    """Make a float64 run of `mnistport fit`.

    Returns its last weights and optimizer slots by name, and the predicted "classes" of
    the test images.
    """
    words = [sys.executable, "-m", "mnistport"]
    common = [
        "--trainer.precision",
        "64-true",
        "--trainer.accelerator",
        "cpu",
        "--trainer.enable_progress_bar",
        "false",
    ]
    made = [
        "--trainer.default_root_dir",
        folder,
        "--trainer.max_steps",
        steps,
        "--trainer.limit_test_batches",
        0,
    ]
    made += ["--trainer.logger", "false"]
    _run([*words, "fit", "--config", network, *common, *made, *flags])
    file = max(folder.rglob("*.ckpt"), key=os.path.getmtime)
    said = _run([*words, "predict", "--ckpt_path", file, *common, *_data(flags)])
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
    threads = {"OMP_NUM_THREADS": "1"}  # the order of sums depends on their number
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        env={**os.environ, **threads},
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
