"""`mnistport reproduce`: whole and interrupted runs, and the report on them."""

import gc
import json
import math
import signal
from contextlib import nullcontext, suppress
from dataclasses import replace

import pytest
import torch

from mnistport import networks
from mnistport.cli import main
from mnistport.reproduce import run, task
from mnistport.reproduce.job import Job
from mnistport.reproduce.report import clock, markdown, plot
from mnistport.reproduce.result import RunResult, RunSettings
from mnistport.reproduce.run import train
from mnistport.reproduce.statistics import summarise, wilson
from mnistport.training import stopping
from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier

pytestmark = pytest.mark.thinned


def job(**changes) -> Job:
    return Job(
        **{
            "network": "softmax",
            "seed": 0,
            "source": "digits",
            "max_steps": 60,
            **changes,
        }
    )


def invented(network: str, correct: int, seed: int = 0, **changes) -> RunResult:
    """The result of a whole run that was never made."""
    settings = RunSettings(
        network=network, seed=seed, source="mnist", max_steps=None, device="cpu"
    )
    result = RunResult(
        settings=settings,
        data="mnist",
        device="cpu",
        steps=1_000,
        batch_size=100,
        epoch_losses=(0.4,),
        test_accuracies={},
        correct=correct,
        total=10_000,
        seconds=1.0,
        resumed=False,
        environment={},
        threads=1,
    )
    return replace(result, **changes)


def in_this_process(job, of):
    """Make a run here. A process of its own takes seconds to start."""
    train(job, of.folder, progress=False)
    return 0, ""


@pytest.fixture(autouse=True)
def no_process(monkeypatch):
    monkeypatch.setattr(task, "run_process", in_this_process)


@pytest.fixture
def words(tmp_path):
    """`words("softmax")`: the command line of a short `reproduce` into `tmp_path`."""
    return lambda *names: [
        "reproduce",
        *names,
        "--data.source",
        "digits",
        "--max-steps",
        "30",
        "--out",
        str(tmp_path),
    ]


@pytest.mark.parametrize("name", ["result.json", "settings.json"])
def test_a_damaged_file_is_refused_in_one_line(words, tmp_path, capsys, name):
    assert main(words("softmax")) == 0
    (tmp_path / "softmax-seed0" / name).write_text('{"netw')
    assert main(words("softmax")) == 2
    err = capsys.readouterr().err
    assert f"{name}: cannot be read; delete" in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["result.json", "settings.json"])
@pytest.mark.parametrize(
    "content", ["[]", "{}", "null", '"a text"', '{"settings": 1}', '{"network": 1}']
)
def test_a_file_with_other_contents_is_refused_in_one_line(
    words, tmp_path, capsys, name, content
):
    folder = tmp_path / "softmax-seed0"
    folder.mkdir()
    (folder / name).write_text(content)
    assert main(words("softmax")) == 2
    err = capsys.readouterr().err
    assert (
        f"{folder / name}: cannot be read; delete {folder}, and the run starts again"
        in err
    )
    assert err.count("\n") == 1


def test_a_damaged_result_of_another_command_is_refused_in_one_line(
    words, tmp_path, capsys
):
    (tmp_path / "deep-seed7").mkdir()
    (tmp_path / "deep-seed7" / "result.json").write_text("[]")
    assert main(words("softmax")) == 2
    assert "deep-seed7/result.json: cannot be read; delete" in capsys.readouterr().err


@pytest.mark.slow
def test_the_memory_of_a_run_is_freed_before_the_next(tmp_path):
    """The images of a run are freed before the next run reads its own."""

    def alive():
        return sum(type(thing) is MnistData for thing in gc.get_objects())

    gc.collect()
    before = alive()  # other tests' fixtures may hold some
    gc.disable()  # only the run itself may collect garbage
    try:
        for seed in range(3):
            train(job(seed=seed, max_steps=5), tmp_path, progress=False)
        after = alive()
    finally:
        gc.enable()
    assert after <= before + 1


def test_an_interrupted_run_ends_like_one_that_was_not(tmp_path, monkeypatch):
    """An epoch of the digits has 13 steps.

    The run is stopped in the fourth epoch, ten steps after a checkpoint.
    """
    monkeypatch.setattr(run, "SAVE_STEPS", 20)
    whole = train(job(), tmp_path / "whole", progress=False)

    step = Classifier.training_step

    def stops_at_50(self, batch, batch_idx):
        if batch.start <= 50 < batch.stop:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "training_step", stops_at_50)
        with pytest.raises(KeyboardInterrupt):
            train(job(), tmp_path / "halves", progress=False)
    checkpoint = tmp_path / "halves" / "softmax-seed0" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 40

    halves = train(job(), tmp_path / "halves", progress=False)
    assert halves.resumed
    assert not whole.resumed
    assert replace(halves, resumed=False, seconds=whole.seconds) == whole
    assert len(whole.epoch_losses) == 60 // 13
    assert not checkpoint.exists()


def test_finished_runs_are_not_repeated(words, monkeypatch, capsys):
    assert main(words("softmax", "softmax_beginners")) == 0
    monkeypatch.setattr(
        task, "run_process", lambda *_: pytest.fail("a finished run was repeated")
    )
    assert main(words("softmax", "softmax_beginners")) == 0
    assert "2 of 2 runs are there already" in capsys.readouterr().out


def test_the_table_contains_every_run_in_the_folder(words, tmp_path, capsys):
    assert main([*words("softmax"), "--seeds", "2"]) == 0
    assert main(words("softmax_beginners")) == 0
    rows = [
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| softmax")
    ]
    assert [row.split(" | ")[:4] for row in rows[-2:]] == [
        ["| softmax_beginners", "digits", "30", "1"],
        ["| softmax", "digits", "30", "2"],
    ]
    assert len(json.loads((tmp_path / "reproduce.json").read_text())["runs"]) == 3


def test_page_document_and_picture_are_written(words, tmp_path, capsys):
    assert main([*words("softmax"), "--seeds", "2"]) == 0
    document = json.loads((tmp_path / "reproduce.json").read_text())
    (result,) = document["results"]
    assert (
        result["data"] == "digits"
        and result["published"] is None
        and result["verdict"] == "cut short"
    )
    assert [run["settings"]["seed"] for run in document["runs"]] == [0, 1]
    assert result["accuracies"] == [
        run["correct"] / run["total"] for run in document["runs"]
    ]
    assert document["environment"]["command"].startswith("mnistport reproduce softmax")
    assert "| softmax | digits | 30 | 2 |" in (tmp_path / "reproduce.md").read_text()
    assert (tmp_path / "reproduce.png").read_bytes().startswith(b"\x89PNG")
    assert "| softmax | digits | 30 | 2 |" in capsys.readouterr().out


def test_optimizer_and_stream_are_options_of_a_run_too(tmp_path):
    options = {
        "stable_loss": True,
        "model.optimizer": "momentum",
        "model.learning_rate": 0.25,
        "model.optimizer_options.use_nesterov": True,
        "data.stream": "sequential",
    }
    result = train(
        job(network="softmax_beginners", options=options, max_steps=2),
        tmp_path,
        progress=False,
    )
    assert result.settings.options == options
    assert result.settings.row == (
        "softmax_beginners stable_loss=True model.optimizer=momentum "
        "model.learning_rate=0.25 model.optimizer_options.use_nesterov=True "
        "data.stream=sequential"
    )
    first = train(job(network="softmax_beginners", max_steps=2), tmp_path, progress=False)
    assert result.correct != first.correct


def test_a_run_with_other_settings_is_not_continued(words, capsys):
    assert main(words("softmax")) == 0
    assert main([*words("softmax"), "--max-steps", "31"]) == 2
    assert "holds a run with max_steps 30 (now 31)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["sofmax"], "softmax"),
        (["softmax", "--seeds", "0"], "--seeds"),
        (
            ["softmax", "--device", "tpu"],
            "--device tpu: there is no such device; use cpu, cuda, cuda:N or auto",
        ),
        (["softmax", "--device", "cuda:99"], "CUDA devices here"),
        (["softmax", "--data.dir", "/nowhere"], "no such directory"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(wrong, said, tmp_path, capsys):
    assert main(["reproduce", *wrong, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert said in captured.err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def handlers():
    """The handlers of signals are those of before, whatever a command did."""
    before = {number: signal.getsignal(number) for number in stopping.STATUS}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


STOPS = pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)


def assert_first_run_is_kept(words, tmp_path, capsys):
    """The report has the finished run, and the same command makes the rest."""
    captured = capsys.readouterr()
    assert "interrupted with 1 of 3 runs finished; the same command" in captured.err
    assert "Traceback" not in captured.err
    assert "| softmax | digits | 30 | 1 |" in captured.out
    assert "| softmax | digits | 30 | 1 |" in (tmp_path / "reproduce.md").read_text()
    assert main([*words("softmax"), "--seeds", "3"]) == 0
    assert "| softmax | digits | 30 | 3 |" in capsys.readouterr().out


@STOPS
def test_a_signal_within_a_run_ends_the_command_and_keeps_the_table(
    words, tmp_path, capsys, monkeypatch, handlers, number, status
):
    def second(self, batch, batch_idx):
        if self.seed == 1 and batch.start == 0:
            signal.raise_signal(number)
        return step(self, batch, batch_idx)

    step = Classifier.training_step
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "training_step", second)
        assert main([*words("softmax"), "--seeds", "3"]) == status
    assert handlers == {name: signal.getsignal(name) for name in handlers}
    assert_first_run_is_kept(words, tmp_path, capsys)


@STOPS
@pytest.mark.parametrize("lost", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_signal_between_two_runs_ends_the_command_at_once(
    words, tmp_path, capsys, monkeypatch, handlers, number, status, lost
):
    """Python drops an exception that is raised while it frees memory."""

    def then_a_signal(*arguments):
        status = in_this_process(*arguments)
        with suppress(KeyboardInterrupt) if lost else nullcontext():
            signal.raise_signal(number)
        return status

    with monkeypatch.context() as patch:
        patch.setattr(task, "run_process", then_a_signal)
        assert main([*words("softmax"), "--seeds", "3"]) == status
    assert not (tmp_path / "softmax-seed1").exists()
    assert_first_run_is_kept(words, tmp_path, capsys)


def test_an_interruption_before_any_run_is_finished_writes_no_report(
    words, tmp_path, monkeypatch, handlers
):
    monkeypatch.setattr(
        task, "run_process", lambda *_: signal.raise_signal(signal.SIGTERM)
    )
    assert main(words("softmax")) == 143
    assert not list(tmp_path.glob("reproduce.*"))


def test_the_confidence_interval_is_wilsons():
    """At both ends of an interval the score test gives 1.96.

    The intervals of the accuracies 0 and 1 are right, too.
    """
    for share, count in ((0.99, 10_000), (0.5, 40)):
        for end in wilson(share, count):
            assert abs(share - end) / math.sqrt(end * (1 - end) / count) == pytest.approx(
                1.959964, abs=1e-6
            )
    assert wilson(1.0, 100)[1] == pytest.approx(1.0)
    assert wilson(0.0, 100) == pytest.approx((0.0, 0.0370), abs=1e-4)


def test_the_verdict_is_three_standard_errors_of_the_published_accuracy():
    """0.9194 on 10,000 images: one standard error is 0.00272."""
    network = networks.get("softmax")
    reached = summarise(network, [invented("softmax", 9113)])
    below = summarise(network, [invented("softmax", 9112)])
    assert (reached.verdict, below.verdict) == ("reached", "NOT REACHED")
    assert below.standard_errors == pytest.approx((0.9112 - 0.9194) / 0.0027222, abs=1e-3)
    assert summarise(
        network, [invented("softmax", 9300), invented("softmax", 9200)]
    ).mean == pytest.approx(0.925)
    assert summarise(
        network, [invented("softmax", 9300), invented("softmax", 9200)]
    ).deviation == pytest.approx(0.00707, abs=1e-5)


def test_a_published_figure_of_two_digits_means_all_that_rounds_to_it():
    """ "About 99 %" on 10,000 images: one standard error is 0.000995."""
    network = networks.get("hvass")
    verdicts = {
        correct: summarise(network, [invented("hvass", correct)]).verdict
        for correct in (9871, 9869, 9850, 9849)
    }
    assert verdicts == {
        9871: "reached",
        9869: "rounds to it",
        9850: "NOT REACHED",
        9849: "NOT REACHED",
    }


def test_published_figures_are_compared_on_mnist_only():
    summary = summarise(
        networks.get("softmax"), [invented("softmax", 10, data="fashion")]
    )
    assert summary.published is None and summary.standard_errors is None
    assert summary.verdict == "nothing to compare with"


def test_a_curve_stands_beside_the_published_one(tmp_path):
    network = networks.get("three_minute_adam")
    runs = [
        invented(network.name, 9926, seed, epoch_losses=(0.3 + seed / 100,) * 15)
        for seed in range(2)
    ]
    summary = summarise(network, runs)
    page = markdown([summary], {"command": "mnistport reproduce"})
    assert "| published | 0.3480 | 0.1090 |" in page
    assert "| ours | 0.3050 | 0.3050 |" in page
    assert "| ours / published | 0.88 | 2.80 |" in page
    plot([summary], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_times_are_printed_in_short_form():
    assert [clock(seconds) for seconds in (1.26, 61, 3_725)] == [
        "1.3 s",
        "0:01:01",
        "1:02:05",
    ]
