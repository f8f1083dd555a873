"""Ranks that differ are refused, and a rank that dies ends the others with one line."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from mnistport.training.ranks import first_difference

FIT = "fit --config three_minute_adam --data.source digits --trainer.accelerator cpu"
FIT += " --trainer.devices 2 --trainer.strategy ddp --trainer.enable_progress_bar false"


def start(rank: int, port: int, folder, *words: str) -> subprocess.Popen:
    """One of two ranks of a command, each of which is started by hand."""
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "mnistport", *FIT.split(), *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def two(tmp_path):
    """Starts two ranks, the second with further words."""
    started = []

    def begin(first: list[str], second: list[str]) -> list[subprocess.Popen]:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        for rank, words in enumerate((first, second)):
            started.append(start(rank, port, tmp_path, *words))
        return started

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ([{"a": 1}, {"a": 1}], ""),
        ([{"a": 1}, {"a": 1}, {"a": 2}], "rank 2 has a 2, and rank 0 has 1"),
        ([{"a": 1, "b": 2}, {"a": 1}], "rank 1 has b None, and rank 0 has 2"),
    ],
)
def test_the_first_difference_is_named(facts, said):
    assert first_difference(facts) == said


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--seed_everything", "7"],
        ["--data.batch_size", "50"],
        ["--model.learning_rate", "0.5"],
        ["--trainer.max_steps", "5"],
        ["--data.source", "mnist"],
    ],
)
def test_ranks_that_differ_refuse_to_start(two, tmp_path, words):
    if words[1] == "mnist" and not os.environ.get("MNISTPORT_DATA"):
        pytest.skip("MNISTPORT_DATA is not set: no other data than the digits")
    first, second = two(
        ["--trainer.max_steps", "4"], ["--trainer.max_steps", "4", *words]
    )
    _, err = first.communicate(timeout=120)
    assert second.wait(timeout=60) == 2
    assert first.returncode == 2
    assert err.splitlines()[-1].startswith(f"mnistport: rank 1 has {words[0][:6]}")
    assert "start every rank with the same command, versions and data" in err
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.slow
@pytest.mark.parametrize("killed", [1, 0])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_dies_ends_the_other_and_is_named(two, tmp_path, killed, number):
    words = ["--trainer.max_steps", "1000000", "--checkpoint_seconds", "1"]
    ranks = two(words, words)
    wait_for_a_checkpoint(tmp_path)
    ranks[killed].send_signal(number)
    begin = time.monotonic()
    other = ranks[1 - killed]
    _, err = other.communicate(timeout=60)
    assert time.monotonic() - begin < 30
    assert other.returncode == 1
    assert f"mnistport: rank {killed} of 2 has ended" in err
    assert "Traceback" not in err


def wait_for_a_checkpoint(folder) -> None:
    """Wait until a run in this folder has saved its first state."""
    for _ in range(1200):
        if list(folder.rglob("*.ckpt")):
            return
        time.sleep(0.1)
    pytest.fail("no checkpoint after two minutes")
