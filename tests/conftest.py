"""Fixtures for the tests of both packages."""

import gc
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

if os.environ.get("MNISTPORT_DATA"):  # a test may change the folder it runs in
    os.environ["MNISTPORT_DATA"] = str(Path(os.environ["MNISTPORT_DATA"]).resolve())


for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    # A shell lets its background jobs ignore signals, and commands respect that.
    if signal.getsignal(number) == signal.SIG_IGN:
        on_interrupt = number == signal.SIGINT
        signal.signal(
            number, signal.default_int_handler if on_interrupt else signal.SIG_DFL
        )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a long table (`thinned`) only each third row is asked by the quick tests."""
    rows: Counter[str] = Counter()
    for item in items:
        if item.get_closest_marker("thinned"):
            table = item.nodeid.partition("[")[0]
            if rows[table] % 3:
                item.add_marker("slow")
            rows[table] += 1


def pytest_collection_finish() -> None:
    """Look for garbage less often, which takes a tenth of the time of short tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 10)


@pytest.fixture(autouse=True)
def no_process_settings():
    """Undo what a command that trains does to this process.

    It lets denormal numbers be flushed to 0; another test must not see that.
    """
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder of the real MNIST files, where there is one."""
    folder = os.environ.get("MNISTPORT_DATA")
    if not folder:
        pytest.skip("MNISTPORT_DATA is not set: no MNIST files to test on")
    return Path(folder)
