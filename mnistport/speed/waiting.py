"""How long a thread that waits for another one stays awake."""

from __future__ import annotations

import os

SPINS = "20000"
"""Looks of a waiting thread before it sleeps; libgomp's default is 300,000."""


def sleep_soon() -> None:
    """Let a waiting thread of torch sleep soon. Call it before torch is imported.

    The threads of a kernel wait for one another at its end. By default, GNU's OpenMP lets
    them look for the others for some milliseconds without sleeping. If another process
    needs the core, the thread that is waited for does not get it. Results do not change.
    OMP_WAIT_POLICY or GOMP_SPINCOUNT in the environment are left as they are, and
    MNISTPORT_TUNE=0 leaves out ours. Processes that are started later inherit the
    setting.

    Source: "GOMP_SPINCOUNT" in the manual of GNU libgomp.
    """
    chosen = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
    if os.environ.get("MNISTPORT_TUNE") != "0" and not chosen:
        os.environ["GOMP_SPINCOUNT"] = SPINS
