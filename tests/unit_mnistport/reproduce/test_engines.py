"""`reproduce` with real workers: they are killed, and commands are interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mnistport.cli import main
from mnistport.reproduce.cluster import connect

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


def started(*words, **variables):
    """A command in a session of its own, which a terminal would send Ctrl-C to."""
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        env={**ENVIRONMENT, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def reproduce(tmp_path):
    """`reproduce(words...)` starts a command on three short runs of hvass."""
    processes = []

    def start(*words, steps=300):
        command = ["mnistport", "reproduce", "hvass", "--data.source", "digits"]
        command += ["--options", "fc_size=4", "--seeds", "3", "--max-steps", str(steps)]
        command += ["--threads", "1", "--out", str(tmp_path / "out"), *words]
        processes.append(started(*command))
        return processes[-1]

    yield start
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ended(process):
    """The exit status of a command, its output and its errors."""
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, out, err


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    words = ["ps", "-o", "pid=", "--ppid", str(process)]
    found = subprocess.run(words, capture_output=True, text=True)
    return [int(number) for number in found.stdout.split()]


def processes_of_runs(folder: Path) -> list[int]:
    """The processes that make runs into this folder."""
    words = ["ps", "-wweo", "pid=,args="]
    lines = subprocess.run(words, capture_output=True, text=True).stdout.splitlines()
    of_runs = [line for line in lines if str(folder) in line and "child" in line]
    return [int(line.split()[0]) for line in of_runs]


def until(happens):
    end = time.monotonic() + 90
    while not (found := happens()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def is_training(folder: Path):
    return lambda: list(folder.glob("*/metrics.jsonl"))


def results(folder: Path):
    kept = ("settings", "epoch_losses", "test_accuracies", "correct", "total", "threads")
    files = sorted(folder.glob("*/result.json"))
    read = [json.loads(file.read_text()) for file in files]
    return [{key: result[key] for key in kept} for result in read]


def test_a_worker_of_loky_that_is_killed_loses_no_run(reproduce, tmp_path):
    process = reproduce("--jobs", "2")
    until(is_training(tmp_path / "out"))
    (run, *_) = processes_of_runs(tmp_path / "out")
    words = ["ps", "-o", "ppid=", "-p", str(run)]
    worker = int(subprocess.run(words, capture_output=True, text=True).stdout)
    assert worker in children(process.pid)
    os.kill(worker, signal.SIGKILL)
    status, _, err = ended(process)
    assert status == 0
    assert "a worker process was killed; the 3 runs that are left go to new" in err
    assert len(results(tmp_path / "out")) == 3


def test_a_run_whose_process_is_killed_is_made_once_more(reproduce, tmp_path):
    process = reproduce()
    until(is_training(tmp_path / "out"))
    (run,) = processes_of_runs(tmp_path / "out")
    os.kill(run, signal.SIGKILL)
    status, _, err = ended(process)
    assert status == 0
    assert "failed, and is made once more: its process was ended by SIGKILL" in err
    assert len(results(tmp_path / "out")) == 3


@pytest.mark.parametrize("moment", ["starting", "training"])
@pytest.mark.parametrize("words", [(), ("--jobs", "2")], ids=["one", "two"])
@pytest.mark.parametrize(
    ("number", "to_all"),
    [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False)],
)
def test_a_signal_ends_everything_in_good_order(
    reproduce, tmp_path, words, number, to_all, moment
):
    process = reproduce(*words, steps=5000)
    out = tmp_path / "out"
    until(is_training(out) if moment == "training" else lambda: children(process.pid))
    (os.killpg if to_all else os.kill)(process.pid, number)
    status, _, err = ended(process)
    assert status == STATUS[number]
    assert "interrupted" in err
    until(lambda: not processes_of_runs(out))


# A Dask cluster -------------------------------------------------------------------------


@contextmanager
def cluster(num_workers, scheduler=None, **variables):
    """A scheduler and its workers. Gives its address, and the workers."""
    words = ["dask", "scheduler", "--port", "0", "--no-dashboard"]
    processes = [started(*words, **(scheduler or {}))]
    try:
        for line in processes[0].stderr:
            if "Scheduler at:" in line:
                break
        address = line.split()[-1]
        words = ["dask", "worker", address, "--nthreads", "1", "--no-dashboard"]
        processes += [started(*words, **variables) for _ in range(num_workers)]
        client = connect(address)
        until(lambda: len(client.nthreads()) == num_workers)
        client.close()
        yield address, processes[1:]
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
def test_a_signal_cancels_the_tasks_on_a_cluster(reproduce, tmp_path, number):
    with cluster(2) as (address, _):
        process = reproduce("--scheduler", address, steps=5000)
        until(is_training(tmp_path / "out"))
        os.kill(process.pid, number)
        status, _, err = ended(process)
        assert status == STATUS[number]
        assert "interrupted with 0 of 3 runs finished" in err
        until(lambda: not processes_of_runs(tmp_path / "out"))


def test_the_runs_of_a_command_that_is_killed_end_on_the_cluster(reproduce, tmp_path):
    with cluster(1) as (address, _):
        process = reproduce("--scheduler", address, steps=5000)
        until(is_training(tmp_path / "out"))
        process.kill()
        until(lambda: not processes_of_runs(tmp_path / "out"))


def test_a_task_that_the_cluster_gives_up_is_made_in_the_next_round(reproduce, tmp_path):
    """By default Dask gives up a task when the fourth worker dies of it."""
    variables = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    with cluster(2, scheduler=variables) as (address, workers):
        process = reproduce("--scheduler", address)
        until(is_training(tmp_path / "out"))
        os.killpg(workers[0].pid, signal.SIGKILL)
        status, _, err = ended(process)
        assert status == 0
        assert "the cluster gave up a task" in err
        assert len(results(tmp_path / "out")) == 3


def test_a_cluster_whose_scheduler_dies_ends_the_command(reproduce, tmp_path):
    with cluster(1) as (address, _):
        client = connect(address)
        pid = client.run_on_scheduler(os.getpid)
        client.close()
        process = reproduce("--scheduler", address, steps=5000)
        until(is_training(tmp_path / "out"))
        os.kill(pid, signal.SIGKILL)
        status, _, err = ended(process)
    assert status == 1
    assert "hvass-fc_size=4-seed0 FAILED: " in err


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MNISTPORT_TUNE": "0"}, "MNISTPORT_TUNE 0 (here None)"),
        ({"MNISTPORT_KERNELS": "0"}, "kernels torch's (here ours)"),
    ],
)
def test_a_worker_that_differs_is_refused_by_name(
    tmp_path, capsys, monkeypatch, variables, said
):
    monkeypatch.delenv("MNISTPORT_TUNE", raising=False)
    with cluster(1, **variables) as (address, _):
        words = ["reproduce", "softmax", "--data.source", "digits"]
        words += ["--out", str(tmp_path / "out"), "--scheduler", address]
        assert main(words) == 2
        err = capsys.readouterr().err
        assert err.startswith("mnistport: the worker tcp://")
        assert f"cannot take part: {said}" in err and err.count("\n") == 1


def test_workers_that_are_not_there_are_asked_for(tmp_path, capsys):
    with cluster(0) as (address, _):
        words = ["reproduce", "softmax", "--scheduler", address, "--out", str(tmp_path)]
        assert main(words) == 2
        assert f"has no workers; start some with `dask worker {address}`" in (
            capsys.readouterr().err
        )
