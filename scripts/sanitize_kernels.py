"""Run the C kernels of `mnistport` under gcc's sanitizers on random shapes.

python scripts/sanitize_kernels.py [--sanitizer address|undefined|thread ...] [--cases N]

Both precisions, one to four threads, each shape compared with plain loops. The kernels
are called by `sanitize_kernels.c`, which has its own OpenMP, so that ThreadSanitizer sees
every barrier. What OpenMP's library itself does is not looked at. Exit status 1 if a
sanitizer or a comparison complains, 2 if there is no compiler with this sanitizer.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mnistport.errors import UserError
from mnistport.speed.compiling import SOURCE

DRIVER = Path(__file__).with_suffix(".c")
SANITIZERS = ("address", "undefined", "thread")
FLAGS = ("-O1", "-g", "-march=native", "-fno-omit-frame-pointer", "-pthread")
STRICT = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


def shapes(count: int, seed: int) -> list[tuple[int, ...]]:
    """Numbers of the driver's lines. Many are odd, and some just around a vector."""
    draw, made = random.Random(seed), []
    while len(made) < count:
        kernel = (draw.choice((1, 2, 3, 3, 5, 5, 7)), draw.choice((1, 2, 3, 3, 5, 5)))
        if draw.random() < 0.5:
            kernel = (kernel[0], kernel[0])
        padding = (draw.randrange(kernel[0]), draw.randrange(kernel[1]))
        sizes = (draw.randrange(1, 15), draw.randrange(1, 15))
        ceil = draw.randrange(2)
        pooled = [
            (size + 2 * pad - taps + 1 + ceil) // 2
            for size, pad, taps in zip(sizes, padding, kernel, strict=True)
        ]
        if min(pooled) < 1:
            continue
        filters = draw.choice((1, 2, 3, 7, 8, 9, 15, 16, 17, 32, 33, 64, 65, 130))
        channels = draw.choice((1, 1, 1, 2, 3, 4, 5, 16, 17, 32))
        numbers = (draw.randrange(1, 6), *sizes, channels, filters, *kernel, *padding)
        rest = (ceil, draw.randrange(2), draw.choice((1, 2, 3, 4)))
        made.append((*numbers, *rest, draw.randrange(2**31)))
    return made


def compiled(sanitizer: str, real: str, folder: Path, source: Path = SOURCE) -> Path:
    """The driver with the kernels, compiled with a sanitizer.

    Raises:
        UserError: There is no compiler, or it has no such sanitizer.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    options = [*FLAGS, f"-fsanitize={sanitizer}", f"-DREAL={real}"]
    kernels, program = folder / f"{real}.o", folder / f"{sanitizer}-{real}"
    for words in (
        [*compiler, *options, "-fopenmp", "-c", str(source), "-o", str(kernels)],
        [*compiler, *options, str(DRIVER), str(kernels), "-lm", "-o", str(program)],
    ):
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        except OSError as error:
            raise UserError(f"there is no C compiler: {words[0]}") from error
        if done.returncode:
            reason = (done.stderr.splitlines() or ["no reason given"])[-1]
            raise UserError(f"{words[0]} has no -fsanitize={sanitizer}: {reason}")
    return program


def complaint(program: Path, cases: Sequence[tuple[int, ...]]) -> str:
    """What the program complains about. "" if about nothing."""
    lines = "\n".join(" ".join(map(str, case)) for case in cases)
    done = subprocess.run(
        [str(program)],
        input=lines,
        capture_output=True,
        text=True,
        env={**os.environ, **STRICT},
        check=False,
    )
    whole = done.stdout == f"{len(cases)} cases\n"
    if done.returncode == 0 and whole and not done.stderr:
        return ""
    return f"exit status {done.returncode}\n{done.stdout}{done.stderr}"


def main() -> int:
    """Compile, run, and print a line for each sanitizer and precision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sanitizer", action="append", choices=SANITIZERS, help="default: all three"
    )
    parser.add_argument("--cases", type=int, default=1000, help="of each of the six")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cases, status = shapes(args.cases, args.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        for sanitizer in args.sanitizer or SANITIZERS:
            for real in ("float", "double"):
                begin = time.perf_counter()
                try:
                    program = compiled(sanitizer, real, Path(folder))
                except UserError as error:
                    print(f"sanitize_kernels: {error}", file=sys.stderr)
                    return 2
                said = complaint(program, cases)
                took = f"{len(cases):,} cases, {time.perf_counter() - begin:.0f} s"
                verdict = "complains" if said else "clean"
                print(f"{sanitizer} {real}: {took}: {verdict}")
                print(said, end="", file=sys.stderr)
                status = 1 if said else status
    return status


if __name__ == "__main__":
    sys.exit(main())
