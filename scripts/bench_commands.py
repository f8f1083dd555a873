"""Measure whole commands, from Enter to their last line.

python scripts/bench_commands.py [--rounds 5] [--json FILE]

The commands run one after the other, several rounds; medians are printed:

  tf1       scripts/mnist_softmax_tf1.py, the tutorial's own script by TF1
  fit       mnistport fit --config softmax, with its defaults
  test      mnistport test, of the checkpoint of `fit`
  predict   mnistport predict, of the checkpoint of `fit`

MNIST is read from MNISTPORT_DATA. A first round is not counted, because it compiles.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from mnistport.environment import environment

LAST = "--ckpt_path last --trainer.accelerator cpu"
COMMANDS = {
    "tf1": f"{Path(__file__).with_name('mnist_softmax_tf1.py')} {{data}}",
    "fit": "-m mnistport fit --config softmax --trainer.accelerator cpu",
    "test": f"-m mnistport test --config softmax {LAST}",
    "predict": f"-m mnistport predict {LAST}",
}


def seconds(words: list[str], folder: str) -> float:
    """How long a command takes that runs in a folder.

    Raises:
        SystemExit: The command fails.
    """
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True
    )
    took = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"failed: {shlex.join(words)}\n{done.stderr}")
    return took


def main() -> None:
    """Measure, print a line for each command, and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if not os.environ.get("MNISTPORT_DATA"):
        parser.error("MNISTPORT_DATA is not set: no MNIST files to measure with")
    data = Path(os.environ["MNISTPORT_DATA"]).resolve()
    os.environ["MNISTPORT_DATA"] = str(data)
    made_on = environment()  # reads the commit now; later the checkout may have another
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(args.rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            for name, line in COMMANDS.items():
                taken = seconds(
                    shlex.split(line.format(data=shlex.quote(str(data)))), folder
                )
                if turn:
                    times[name].append(taken)
    for name, taken in times.items():
        spread = f"{min(taken):.2f} - {max(taken):.2f}"
        print(f"{name:8} {median(taken):6.2f} s  ({spread})")
    if args.json:
        made_on["command"] = shlex.join(["python", *sys.argv])
        args.json.write_text(
            json.dumps({"environment": made_on, "seconds": times}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
