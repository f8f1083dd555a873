"""Runs as tasks: what crashes is made once more, and no other run is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from mnistport.cli import main
from mnistport.errors import UserError
from mnistport.reproduce import child, devices, run, task, workers
from mnistport.reproduce.devices import free_device
from mnistport.reproduce.engine import WorkersLostError, outcomes
from mnistport.reproduce.job import Job
from mnistport.reproduce.options import option_sets, option_values
from mnistport.reproduce.result import read_result
from mnistport.reproduce.task import Outcome, Task
from mnistport.reproduce.workers import Wanted

DIGITS = ["--data.source", "digits", "--max-steps", "30"]


def job(**changes) -> Job:
    return Job(
        **{
            "network": "softmax",
            "seed": 0,
            "source": "digits",
            "max_steps": 30,
            "threads": 1,
            **changes,
        }
    )


def made_by(crash):
    """A stand-in for the process of a run: `crash(job, time)`, and then the run.

    `time` is 1 the first time that a run is made.
    """
    times: dict[str, int] = {}

    def run_process(job, of):
        times[job.name] = times.get(job.name, 0) + 1
        status, said = crash(job, times[job.name]) or (0, "")
        if status == 0:
            run.train(job, of.folder, progress=False)
        return status, said

    return run_process


@pytest.fixture
def reproduced(tmp_path, monkeypatch, capsys):
    """`reproduced(crash, words...)`: status, output and errors of a command."""

    def command(crash, *words):
        monkeypatch.setattr(task, "run_process", made_by(crash))
        status = main(["reproduce", *words, *DIGITS, "--out", str(tmp_path)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out, captured.err

    return command


def test_a_run_that_crashes_once_is_made_once_more_after_the_others(reproduced, tmp_path):
    def crash(job, time):
        return (-signal.SIGKILL, "") if (job.seed, time) == (0, 1) else None

    status, out, err = reproduced(crash, "softmax", "--seeds", "3")
    assert status == 0
    assert (
        "softmax-seed0 failed, and is made once more: its process was ended by SIGKILL"
        in err
    )
    made = [line.partition(":")[0] for line in out.splitlines() if "accuracy 0" in line]
    assert made == ["softmax-seed1", "softmax-seed2", "softmax-seed0"]
    seeds = json.loads((tmp_path / "reproduce.json").read_text())["runs"]
    assert [run["settings"]["seed"] for run in seeds] == [0, 1, 2]


def test_a_run_that_crashes_twice_is_in_the_table_and_the_others_are_made(
    reproduced, tmp_path
):
    def crash(job, time):
        return (1, "a warning\nValueError: a reason\n") if job.seed == 1 else None

    status, out, err = reproduced(crash, "softmax", "--seeds", "3")
    assert status == 1
    assert err.count("softmax-seed1 FAILED: ValueError: a reason") == 2
    assert "| softmax | digits | 30 | 2 |" in out
    page = (tmp_path / "reproduce.md").read_text()
    assert "\n- softmax-seed1 FAILED: ValueError: a reason\n" in page
    document = json.loads((tmp_path / "reproduce.json").read_text())
    assert document["failed"] == {"softmax-seed1": "ValueError: a reason"}


def test_if_all_runs_fail_there_is_a_report_and_no_picture(reproduced, tmp_path):
    status, out, _ = reproduced(lambda *_: (2, "no such file\n"), "softmax")
    assert status == 1
    assert "- softmax-seed0 FAILED: no such file" in out
    assert not (tmp_path / "reproduce.png").exists()


def test_the_table_grows_with_each_run(reproduced, tmp_path):
    rows = []

    def look(job, time):
        page = tmp_path / "reproduce.md"
        rows.append(page.read_text() if page.exists() else "")

    assert reproduced(look, "softmax", "--seeds", "3")[0] == 0
    assert "| softmax |" not in rows[0]
    assert "| softmax | digits | 30 | 1 |" in rows[1]
    assert "| softmax | digits | 30 | 2 |" in rows[2]


def test_what_a_run_says_is_said_once(reproduced):
    status, _, err = reproduced(lambda *_: (0, "a warning\n"), "softmax", "--seeds", "3")
    assert status == 0 and err == "a warning\n"


class GoneError(BaseException):
    """What joblib raises if a worker was killed."""


@contextmanager
def losing_workers():
    try:
        yield {"backend": "loky", "n_jobs": 1}
    except GoneError as error:
        raise WorkersLostError("a worker is gone") from error


def test_runs_that_are_left_by_lost_workers_go_to_new_ones(tmp_path, monkeypatch):
    def crash(job, time):
        if (job.seed, time) == (1, 1):
            raise GoneError

    monkeypatch.setattr(task, "run_process", made_by(crash))
    said = []
    jobs = [job(seed=seed) for seed in range(3)]
    made = list(outcomes(jobs, Task(folder=tmp_path), losing_workers, said.append))
    assert [outcome.job.seed for outcome in made] == [0, 1, 2]
    assert all(outcome.result for outcome in made)
    assert said == ["a worker is gone; the 2 runs that are left go to new workers"]


def test_if_the_new_workers_are_lost_too_the_runs_have_failed(tmp_path):
    @contextmanager
    def lost():
        raise WorkersLostError("no worker")
        yield

    jobs = [job(seed=seed) for seed in range(2)]
    made = list(outcomes(jobs, Task(folder=tmp_path), lost, lambda _: None))
    assert made == [Outcome(job=each, reason="no worker") for each in jobs]


@pytest.mark.slow
def test_the_process_of_a_run_makes_what_this_process_makes(tmp_path):
    made = Task(folder=tmp_path / "there", owner=os.getpid()).make(job())
    here = run.train(job(), tmp_path / "here", progress=False)
    assert made.reason == "" and made.result is not None
    # Whose kernels were loaded is a fact of a process, and this one has run other tests.
    alike = replace(made.result, seconds=here.seconds, environment=here.environment)
    assert alike == here
    assert made.result.environment | {"kernels": here.environment["kernels"]} == (
        here.environment
    )
    assert not (tmp_path / "there/softmax-seed0/error.txt").exists()


@pytest.mark.slow
def test_a_mistake_in_a_run_is_one_line_and_its_text_is_kept(tmp_path):
    place = tmp_path / "softmax-seed0"
    place.mkdir()
    (place / "last.ckpt").write_bytes(b"no checkpoint")
    made = Task(folder=tmp_path, owner=os.getpid()).make(job())
    assert made.result is None
    assert "last.ckpt: cannot be read; delete it, and the run starts again" in made.reason
    assert made.reason in (place / "error.txt").read_text()


@pytest.mark.slow
def test_the_process_of_a_run_ends_with_the_one_that_started_it(tmp_path):
    long = job(network="hvass", max_steps=None)
    process = subprocess.Popen(
        [sys.executable, "-m", child.__name__, long.to_json(), str(tmp_path), "False"],
        stdin=subprocess.PIPE,
    )
    while not (tmp_path / "hvass-seed0/metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.stdin.close()
    assert process.wait(5) == 128 + signal.SIGTERM


def test_a_run_whose_result_is_there_is_not_made_again(tmp_path, monkeypatch):
    run.train(job(), tmp_path, progress=False)
    monkeypatch.setattr(run, "train", lambda *_, **__: pytest.fail("made again"))
    child.make(job(), tmp_path, progress=False)


def flushes_denormals() -> bool:
    """Whether this thread flushes products that are too small to 0."""
    return float(torch.tensor(1e-310, dtype=torch.float64) * 0.5) == 0.0


def test_the_process_of_a_run_flushes_denormals_and_train_does_not(tmp_path, monkeypatch):
    monkeypatch.delenv("MNISTPORT_TUNE", raising=False)
    run.train(job(max_steps=5), tmp_path / "alone", progress=False)
    assert not flushes_denormals()
    child.make(job(max_steps=5), tmp_path, progress=False)
    assert flushes_denormals()


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_two_runs_never_have_the_same_device(two_gpus, monkeypatch):
    class WaitedError(Exception):
        pass

    def waited(_):
        raise WaitedError

    monkeypatch.setattr(devices.time, "sleep", waited)
    with free_device("cuda") as first:
        with free_device("cuda") as second:
            assert {first, second} == {"cuda:0", "cuda:1"}
            with pytest.raises(WaitedError), free_device("cuda"):
                pass
        with free_device("cuda") as third:
            assert third == second
        with pytest.raises(WaitedError), free_device(first):
            pass


def test_the_device_of_a_process_that_was_killed_is_free(two_gpus, tmp_path):
    holds = "import fcntl, sys, time; file = open(sys.argv[1], 'a')\n"
    holds += "fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
    with free_device("cuda:0"):
        (lock,) = tmp_path.rglob("cuda-0.lock")
    process = subprocess.Popen(
        [sys.executable, "-c", holds, str(lock)], stdout=subprocess.PIPE
    )
    try:
        process.stdout.readline()
        with free_device("cuda") as device:
            assert device == "cuda:1"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with free_device("cuda") as device:
        assert device == "cuda:0"


def test_the_same_gpu_has_the_same_lock_whatever_its_number(two_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert devices._lock_file("cuda:1").name == "cuda-1.lock"
    assert devices._lock_file("cuda:0").name == "cuda-3.lock"


def test_options_make_a_row_for_each_combination(reproduced, tmp_path):
    words = ["hvass", "--options", "num_filters1=1,2", "--options", "fc_size=3"]
    small = ["--options", "num_filters2=1", "--max-steps", "3"]
    status, out, _ = reproduced(lambda *_: None, *words, *small)
    assert status == 0
    assert (tmp_path / "hvass-num_filters1=2-fc_size=3-num_filters2=1-seed0").is_dir()
    rows = [line.split(" | ")[0] for line in out.splitlines() if line.startswith("| hv")]
    assert rows == [
        "| hvass num_filters1=1 fc_size=3 num_filters2=1",
        "| hvass num_filters1=2 fc_size=3 num_filters2=1",
    ]
    file = next(tmp_path.glob("hvass-num_filters1=2*/result.json"))
    options = {"num_filters1": 2, "fc_size": 3, "num_filters2": 1}
    assert read_result(file).settings.options == options
    assert json.loads(file.read_text())["settings"]["options"] == options


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["softmax", "--options", "fc_size=3"], "'softmax' has no option 'fc_size'"),
        (["hvass", "--options", "fc_size"], "fc_size is not of the form fc_size=32,64"),
        (["hvass", "--options", "fc_size="], "fc_size= is not of the form"),
        (["hvass", "--options", "fc_size=[1,2"], "is not of the form"),
        (["hvass", "--options", "fc_size=" + "[" * 9000], "is not of the form"),
        (["hvass", "--options", "fc_size=2020-13-01"], "is not of the form"),
        (["hvass", "--options", "fc_size={a: 1}"], "is not of the form"),
        (["hvass", "--options", "fc_size=1,1"], "fc_size=1,1 gives 1 twice"),
        (["hvass", "--options", "fc_size=-1"], "fc_size"),
        (["hvass", "--options", "pooling=x"], "pooling"),
        (["hvass", "--options", "model.depth=1"], "is not of the form"),
        (["hvass", "--options", "data.stream=x"], "data.stream 'x': expected one of"),
        (["hvass", "--options", "model.learning_rate=0"], "model.learning_rate 0: exp"),
        (
            ["hvass", "--options", "model.optimizer=momentum"],
            "the optimizer 'momentum' needs a learning rate",
        ),
        (
            ["hvass", "--options", "model.optimizer_options.decay=1"],
            "the recipe's optimizer has no option 'decay'",
        ),
        (["hvass", "--options", "fc_size=1", "--options", "fc_size=2"], "there twice"),
        (["softmax", "--jobs", "0"], "0 is not a whole number of at least 1"),
        (["softmax", "--threads", "0"], "0 is not a whole number of at least 1"),
        (["softmax", "--jobs", "2", "--scheduler", "x:1"], "--jobs is for this machine"),
        (["softmax", "--scheduler", "nonsense"], "Dask"),
        pytest.param(
            ["softmax", "--scheduler", "tcp://127.0.0.1:1"],
            "Dask",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(words, said, tmp_path, capsys):
    assert main(["reproduce", *words, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert said in captured.err
    assert not (tmp_path / "out").exists()


def test_options_are_read_as_yaml_reads_them():
    given = [option_values("pooling=max,average"), option_values("extra_dense=true")]
    assert option_sets(given) == [
        {"pooling": "max", "extra_dense": True},
        {"pooling": "average", "extra_dense": True},
    ]
    assert option_sets([]) == [{}]


def test_an_option_cannot_lead_out_of_the_folder():
    assert "/" not in job(options={"pooling": "../../x"}).name


def test_more_runs_at_a_time_than_gpus_are_refused(two_gpus, tmp_path, capsys):
    words = ["reproduce", "softmax", "--jobs", "3", "--out", str(tmp_path / "out")]
    assert main([*words, "--data.source", "digits"]) == 2
    assert "--jobs 3: one run at a time on a GPU, and there are 2" in (
        capsys.readouterr().err
    )


def test_without_dask_one_line_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    words = ["reproduce", "softmax", "--scheduler", "tcp://127.0.0.1:1"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "mnistport: --scheduler needs Dask, and distributed is not installed; "
        "install it: pip install 'mnistport[cluster]'\n"
    )


def test_the_other_commands_import_no_engine():
    program = "import sys, mnistport.cli, mnistport.reproduce.options\n"
    program += "assert not {'joblib', 'dask', 'distributed'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_worker_that_does_not_see_the_folder_is_refused(tmp_path):
    wanted = Wanted(source="digits", directory=None, mark=tmp_path / "gone", facts={})
    with pytest.raises(UserError, match=f"it does not see {tmp_path}; give an --out"):
        wanted.check()


def test_a_worker_with_other_versions_or_data_is_refused(tmp_path):
    theirs = {**workers.facts("digits", None), "torch": "1.0", "data": "digits 0"}
    wanted = Wanted(source="digits", directory=None, mark=tmp_path, facts=theirs)
    with pytest.raises(UserError) as refused:
        wanted.check()
    assert str(refused.value).startswith(f"torch {torch.__version__.partition('+')[0]}")
    assert " (here 1.0), data digits " in str(refused.value)
    made = Task(folder=tmp_path, check=wanted.check).make(job())
    assert made.reason == str(refused.value)
