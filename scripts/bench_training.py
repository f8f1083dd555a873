"""Measure training on the CPU: TF1's own loop, a bare loop in torch, and `mnistport fit`.

python scripts/bench_training.py [NAME ...] [--rounds 5] [--seconds 3] [--beside 0]
                                 [--json FILE]

The three loops run one after the other, several rounds; medians are printed. Columns:

  tf1 ms, bare ms, fit ms   milliseconds per step
  fit/tf1, fit/bare         ratios of speeds; above 1, `fit` is the faster one
  spread                    smallest and largest fit/tf1 of the rounds
  memory                    peak memory of `fit`, divided by that of tf1

Each measurement is a process of its own: where its memory happens to lie changes a
process's speed by a tenth. TF1 has its own settings; MNISTPORT_TUNE=0 leaves out ours.
`--beside N` keeps N other processes busy meanwhile. `bench_side.py` describes the three
loops.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from mnistport import networks
from mnistport.environment import environment
from mnistport.process import kernels_of_fit

SIDES = ("tf1", "bare", "fit")


def take(side: str, name: str, steps: int) -> dict[str, float]:
    """Seconds per step and peak memory of a process that takes so many steps."""
    words = [sys.executable, str(Path(__file__).with_name("bench_side.py")), side, name]
    done = subprocess.run(
        [*words, str(steps)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    if done.returncode:
        raise SystemExit(f"failed: {shlex.join([*words, str(steps)])}")
    told: dict[str, float] = json.loads(done.stdout)
    return told


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many other processes busy, each with one thread that never waits."""
    words = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(words) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure(name: str, rounds: int, seconds: float, peak: float) -> dict[str, Any]:
    """Measure the three loops of a network.

    Ratios are taken within each round: what slows the machine then slows all three.
    """
    steps = max(
        50, round(seconds / min(take(side, name, 50)["seconds"] for side in SIDES))
    )
    taken: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for turn in range(rounds):
        for side in SIDES if turn % 2 else reversed(SIDES):
            taken[side].append(take(side, name, steps))
    times = {side: [one["seconds"] for one in taken[side]] for side in SIDES}
    peaks = {side: max(one["peak_mib"] for one in taken[side]) for side in SIDES}
    ratios = {
        f"fit_vs_{side}": [a / b for a, b in zip(times[side], times["fit"], strict=True)]
        for side in SIDES[:2]
    }
    flops = flops_of(name)
    return {
        "network": name,
        "fit_vs_tf1": median(ratios["fit_vs_tf1"]),
        "fit_vs_tf1_spread": [min(ratios["fit_vs_tf1"]), max(ratios["fit_vs_tf1"])],
        "fit_vs_bare_loop": median(ratios["fit_vs_bare"]),
        "fit_vs_bare_loop_spread": [
            min(ratios["fit_vs_bare"]),
            max(ratios["fit_vs_bare"]),
        ],
        "memory_vs_tf1": peaks["fit"] / peaks["tf1"],
        "milliseconds_per_step": {side: 1e3 * median(times[side]) for side in SIDES},
        "peak_mib": peaks,
        "gflop_per_step": flops / 1e9,
        "share_of_sgemm_peak": flops / median(times["fit"]) / peak,
        "rounds": rounds,
        "steps": steps,
    }


def flops_of(name: str) -> float:
    """Floating-point operations of a step's convolutions and products, as TF1 does them.

    Forward and backward. `fit` needs fewer: in the gradients through max-pooling it
    leaves out products with 0.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network = networks.get(name)
    module, size = network.module(), network.recipe.batch_size
    with FlopCounterMode(display=False) as counter:
        network.loss(
            module(torch.rand(size, 784)), torch.zeros(size, dtype=torch.int64)
        ).sum().backward()
    return float(counter.get_total_flops())


def sgemm_peak() -> float:
    """Operations per second of a product of two 2,048 x 2,048 float32 matrices.

    The best of torch's, oneDNN's and NumPy's.
    """
    import numpy as np
    import torch

    left = torch.rand(2048, 2048)
    array = left.numpy()
    by_onednn = torch.ops.mkldnn._linear_pointwise
    products = (
        lambda: left @ left,
        lambda: by_onednn(left, left, None, "none", [], ""),
        lambda: np.matmul(array, array),
    )
    best = float("inf")
    for product in products:
        for _ in range(5):
            start = time.perf_counter()
            product()
            best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best


def main() -> None:
    """Measure, print a line for each network, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="roughly, of each loop in each round"
    )
    parser.add_argument(
        "--beside", type=int, default=0, metavar="N", help="busy processes beside"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    environment()  # reads the commit now; later the checkout may have another
    peak = sgemm_peak()
    print(f"sgemm: {peak / 1e9:.0f} GFLOP/s")
    print(
        f"{'network':22} tf1 ms bare ms  fit ms  fit/tf1  spread       fit/bare  memory"
    )
    results = []
    for name in args.networks or list(networks.BUILT_IN):
        with busy(args.beside):
            row = measure(name, args.rounds, args.seconds, peak)
        results.append(row)
        ms, (low, high) = row["milliseconds_per_step"], row["fit_vs_tf1_spread"]
        shown = "".join(f"{ms[side]:8.2f}" for side in SIDES)
        ratios = f"{row['fit_vs_tf1']:8.2f}  {low:.2f} - {high:.2f}"
        others = f"{row['fit_vs_bare_loop']:11.2f}{row['memory_vs_tf1']:8.2f}"
        print(f"{name:22}{shown}{ratios}{others}", flush=True)
    if args.json:
        made_on = {
            **environment(kernels=kernels_of_fit()),
            "sgemm_gflops": peak / 1e9,
            "busy_processes_beside": args.beside,
            "command": shlex.join(["python", *sys.argv]),
        }
        args.json.write_text(
            json.dumps({"environment": made_on, "results": results}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
