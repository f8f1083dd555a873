"""The allocator's settings: they save page faults, and they can be left out."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from mnistport.speed import allocator

said = allocator.keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    # As a training step does: take 64 MiB, and free all of it at the end.
    step = [np.ones(1 << 20) for _ in range(8)]
    del step
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, said)
"""


def faults(tune: str) -> tuple[int, str]:
    """Page faults of steps that allocate memory, and what `tune` returned."""
    environment = {**os.environ, "MNISTPORT_TUNE": tune}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    count, _, said = done.stdout.strip().partition(" ")
    return int(count), said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_used_again_unless_MNISTPORT_TUNE_is_0() -> None:
    tuned, said = faults("1")
    if said == "allocator left alone (not glibc)":
        pytest.skip(said)
    alone, said_alone = faults("0")
    assert said == "allocator keeps freed memory"
    assert said_alone == "allocator left alone (MNISTPORT_TUNE=0)"
    assert tuned * 4 < alone
