"""Compare a step of `softmax` with JAX, which compiles 60 whole steps into one call.

python scripts/bench_jax.py --jax PYTHON [--rounds 5] [--steps 6000] [--json FILE]

PYTHON is the interpreter of another environment, in which JAX is installed. In each round
three loops run one after the other, each in a process of its own:

  jax      the step in JAX, 60 steps a call: images by their numbers, loss, update
  fit      mnistport fit --config softmax, with its logger and the lines that it prints
  kernels  the kernels of torch that the step cannot do without, and nothing between them

Milliseconds of a step are printed, medians of the rounds, and the ratio of fit to jax.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__)
IMAGES, PIXELS, CLASSES, BATCH, RATE = 55_000, 784, 10, 100, 0.5
A_CALL = 60


def jax_side(steps: int) -> float:
    """Milliseconds of a step in JAX. The images are random: their values cost nothing."""
    import jax  # type: ignore[import-not-found]
    import jax.numpy as jnp  # type: ignore[import-not-found]
    import numpy as np

    random = np.random.default_rng(0)
    pixels = jnp.asarray(random.random((IMAGES, PIXELS), dtype=np.float32))
    labels = jnp.asarray(random.integers(0, CLASSES, IMAGES).astype(np.int32))
    index = jnp.asarray(random.integers(0, IMAGES, (steps // A_CALL, A_CALL, BATCH)))

    def loss(weights: Any, images: Any, classes: Any) -> Any:
        scores = jax.nn.log_softmax(images @ weights[0] + weights[1])
        return -jnp.mean(jnp.take_along_axis(scores, classes[:, None], 1))

    def step(weights: Any, rows: Any) -> Any:
        value, slopes = jax.value_and_grad(loss)(weights, pixels[rows], labels[rows])
        return jax.tree.map(lambda w, slope: w - RATE * slope, weights, slopes), value

    steps_of_a_call = jax.jit(lambda weights, rows: jax.lax.scan(step, weights, rows))
    weights = (jnp.zeros((PIXELS, CLASSES)), jnp.zeros(CLASSES))
    jax.block_until_ready(steps_of_a_call(weights, index[0]))
    start = time.perf_counter()
    for rows in index:
        weights, _ = steps_of_a_call(weights, rows)
    jax.block_until_ready(weights)
    return 1e3 * (time.perf_counter() - start) / (len(index) * A_CALL)


def kernels_side(steps: int) -> float:
    """Milliseconds of the kernels alone, with one thread, as `fit` takes this step."""
    import torch

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(IMAGES, PIXELS, generator=generator)
    index = torch.randint(0, IMAGES, (steps, BATCH), generator=generator).unbind()
    weight, bias = torch.zeros(CLASSES, PIXELS), torch.zeros(CLASSES)
    slopes = torch.rand(BATCH, CLASSES, generator=generator)
    turned, slopes_turned = weight.t(), slopes.t()
    with torch.no_grad():
        start = time.perf_counter()
        for rows in index:
            images = pixels.index_select(0, rows)
            torch.log_softmax(torch.addmm(bias, images, turned), 1)
            weight.add_(torch.mm(slopes_turned, images), alpha=-1e-9)
            bias.add_(slopes.sum(0), alpha=-1e-9)
        return 1e3 * (time.perf_counter() - start) / steps


def fit_side(steps: int) -> float:
    """Milliseconds of a step of `mnistport fit`."""
    command = [sys.executable, str(HERE.with_name("bench_side.py")), "fit", "softmax"]
    return 1e3 * float(_json([*command, str(steps)])["seconds"])


def _json(command: list[str]) -> dict[str, Any]:
    """The JSON that a command prints.

    Raises:
        SystemExit: It failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure, print a line for each loop, and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jax", metavar="PYTHON", help="an interpreter that has JAX")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--side", choices=("jax", "kernels"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side is not None:
        sides = {"jax": jax_side, "kernels": kernels_side}
        print(json.dumps({"ms": sides[args.side](args.steps)}))
        return
    if args.jax is None:
        parser.error("--jax PYTHON: name an interpreter in whose environment JAX is")
    from mnistport.environment import environment

    found: dict[str, list[float]] = {"jax": [], "fit": [], "kernels": []}
    own = [str(HERE), "--steps", str(args.steps), "--side"]
    for _ in range(args.rounds):
        found["jax"].append(_json([args.jax, *own, "jax"])["ms"])
        found["fit"].append(fit_side(args.steps))
        found["kernels"].append(_json([sys.executable, *own, "kernels"])["ms"])
    for name, values in found.items():
        print(
            f"{name:8}{median(values):8.3f} ms  ({min(values):.3f} - {max(values):.3f})"
        )
    ratios = [a / b for a, b in zip(found["fit"], found["jax"], strict=True)]
    print(f"fit / jax {median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})")
    if args.json is not None:
        command = f"python scripts/bench_jax.py --jax PYTHON --rounds {args.rounds}"
        version = _json([args.jax, "-c", VERSION])
        facts = {**environment(), **version, "command": command, "load": os.getloadavg()}
        document = {"environment": facts, "results": found}
        args.json.write_text(json.dumps(document, indent=1) + "\n")


VERSION = "import jax, json; print(json.dumps({'jax': jax.__version__}))"

if __name__ == "__main__":
    main()
