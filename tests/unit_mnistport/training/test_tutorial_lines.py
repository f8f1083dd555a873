"""The lines that the tutorials print, at their steps and in their words."""

import re

import pytest
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from mnistport import networks
from mnistport.network import EpochLoss

pytestmark = pytest.mark.thinned


@pytest.fixture
def lines(capsys):
    """The lines printed on standard output since the last call."""
    return lambda: [line for line in capsys.readouterr().out.splitlines() if line.strip()]


class Weights(Callback):
    """The weights before some steps, each of which begins a chunk."""

    def __init__(self, *steps: int) -> None:
        self.steps, self.before = steps, {}

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch.start in self.steps:
            self.before[batch.start] = {
                key: weight.clone() for key, weight in module.net.state_dict().items()
            }


def accuracy(run, weights, step):
    """The share of a batch that some weights classify right, with nothing dropped.

    Computed apart from `score`.
    """
    net = networks.get(run.module.network.name).module()
    net.load_state_dict(weights)
    index = run.record.batches[step]
    with torch.no_grad():
        scores = net.eval()(run.data.train[0][index])
    return (scores.argmax(1) == run.data.train[1][index]).double().mean().item()


def test_deep_prints_the_accuracy_before_steps_0_and_100(train, lines):
    weights = Weights(0, 100)
    run = train(
        "deep", max_steps=101, batch_size=2, callbacks=(weights,), steps_per_execution=30
    )
    figures = {step: accuracy(run, weights.before[step], step) for step in (0, 100)}
    assert lines() == [
        f"step {step}, training accuracy {figure:g}" for step, figure in figures.items()
    ]


def test_hvass_prints_after_iterations_1_101_and_scores_its_stages(train, lines):
    weights = Weights(0, 1, 100, 101)
    run = train(
        "hvass", max_steps=102, batch_size=8, callbacks=(weights,), steps_per_execution=30
    )
    printed = lines()
    shapes = [
        r"Accuracy on Test-Set: \d+\.\d% \(\d+ / 297\)",
        r"Optimization Iteration:      1, Training Accuracy: [ \d]{3}\.\d%",
        r"Time usage: \d+:\d\d:\d\d",
        r"Accuracy on Test-Set: \d+\.\d% \(\d+ / 297\)",
        r"Time usage: \d+:\d\d:\d\d",
        r"Accuracy on Test-Set: \d+\.\d% \(\d+ / 297\)",
        r"Optimization Iteration:    101, Training Accuracy: [ \d]{3}\.\d%",
    ]
    assert len(printed) == len(shapes)
    assert all(
        re.fullmatch(shape, line) for shape, line in zip(shapes, printed, strict=True)
    ), printed
    for line, step in ((printed[1], 0), (printed[6], 100)):
        # After the step, on the step's own batch.
        figure = accuracy(run, weights.before[step + 1], step)
        assert line.endswith(f" Training Accuracy: {figure:>6.1%}")
    for line, step in ((printed[0], 0), (printed[3], 1), (printed[5], 100)):
        correct = right_on_test_set(run, weights.before[step])
        assert line == f"Accuracy on Test-Set: {correct / 297:.1%} ({correct} / 297)"


def test_hvass_prints_the_accuracy_of_its_last_stage_once(train, lines):
    run = train("hvass", max_steps=1, batch_size=4)
    run.data.name = "mnist"
    run.trainer.test(run.module, datamodule=run.data, verbose=False)
    scores = [line for line in lines() if line.startswith("Accuracy on Test-Set")]
    assert len(scores) == 2, "before training, and after the stage"
    run.trainer.test(run.module, datamodule=run.data, verbose=False)
    assert lines()[-1] == scores[-1], "asked again, it is printed again"


def test_two_lines_are_printed_as_two(train, monkeypatch):
    """Rich's bar prints each text by itself; two lines in one broke it in a notebook."""
    texts = []
    monkeypatch.setattr("mnistport.training.tutorial_lines.tqdm.write", texts.append)
    train("hvass", max_steps=1, batch_size=4)
    assert [text.split(":")[0] for text in texts] == [
        "Accuracy on Test-Set",
        "Optimization Iteration",
        "Time usage",
        "Accuracy on Test-Set",
    ]


def right_on_test_set(run, weights) -> int:
    net = networks.get(run.module.network.name).module()
    net.load_state_dict(weights)
    with torch.no_grad():
        return int((net.eval()(run.data.test[0]).argmax(1) == run.data.test[1]).sum())


@pytest.mark.parametrize(
    ("network", "places"), [("three_minute_adam", 3), ("three_minute_layers", 4)]
)
def test_the_book_prints_each_epochs_mean_loss(train, lines, network, places):
    run = train(
        network, max_epochs=2, limit_train_batches=5, batch_size=6, steps_per_execution=2
    )
    means = [sum(run.record.losses[5 * epoch : 5 * epoch + 5]) / 5 for epoch in range(2)]
    expected = [
        f"Epoch:  {epoch:04d} Avg. Cost =  {mean:.{places}f}"
        for epoch, mean in enumerate(means, 1)
    ]
    assert lines() == expected


def test_an_epoch_that_max_steps_cuts_short_has_no_mean_yet(train, lines, tmp_path):
    made = {"network": "three_minute_adam", "limit_train_batches": 5, "batch_size": 6}
    train(**made, max_epochs=2)
    whole = lines()
    for stop in (3, 5, 7):
        first = train(**made, max_steps=stop)
        first.trainer.save_checkpoint(tmp_path / "cut.ckpt")
        assert lines() == whole[: stop // 5]
        train(**made, max_epochs=2, ckpt_path=tmp_path / "cut.ckpt")
        assert lines() == whole[stop // 5 :], (
            "the mean is of the whole epoch, of which one part was before the stop"
        )


# The continued run does not need the first one's callback.
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")
def test_an_epoch_whose_last_step_wrote_the_checkpoint_is_still_printed(
    train, lines, tmp_path
):
    made = {
        "network": "three_minute_adam",
        "limit_train_batches": 5,
        "batch_size": 6,
        "max_epochs": 2,
    }
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=5, save_top_k=-1)
    train(**made, callbacks=(keep,))
    whole = lines()
    train(**made, ckpt_path=tmp_path / "step=5.ckpt")
    assert lines() == whole


def test_convnet_prints_a_sample_of_256_and_the_whole_test_set(train, lines):
    run = train("convnet", max_epochs=2, limit_train_batches=1, batch_size=6)
    printed = lines()
    correct = right_on_test_set(run, run.weights)
    for epoch, line in enumerate(printed[::2]):
        match = re.fullmatch(rf"{epoch} (\d\.\d+)", line)
        assert match, line
        in_sample = float(match[1]) * 256
        assert in_sample == round(in_sample), "every digit is printed"
    assert len(printed) == 4
    assert all(re.fullmatch(r"all test images: \d\.\d{4}", one) for one in printed[1::2])
    assert printed[3] == f"all test images: {correct / 297:.4f}"


def test_convnet_prints_the_accuracy_as_the_original_does():
    (report,) = networks.get("convnet").recipe.reports
    assert report.line.format(epoch=0, accuracy=0.9453125, full=0.5) == "0 0.9453125"


def test_the_sample_depends_on_the_epoch_and_not_on_chunks(train, lines):
    made = {
        "network": "convnet",
        "max_epochs": 2,
        "limit_train_batches": 2,
        "batch_size": 6,
    }
    train(**made, steps_per_execution=1)
    ones = lines()
    train(**made, steps_per_execution=9)
    assert lines() == ones


@pytest.mark.parametrize(
    ("network", "line"),
    [
        ("softmax", r"0(\.\d+)?  \[data: digits\]"),
        ("softmax_beginners", r"0(\.\d+)?  \[data: digits\]"),
        ("deep", r"test accuracy 0(\.\d+)?  \[data: digits\]"),
        ("hvass", r"Accuracy on Test-Set: \d+\.\d% \(\d+ / 297\)  \[data: digits\]"),
        ("three_minute_adam", r"정확도: 0(\.\d+)?  \[data: digits\]"),
        ("three_minute_layers", r"정확도: 0(\.\d+)?  \[data: digits\]"),
        ("convnet", r"test accuracy 0(\.\d+)?  \[data: digits\]"),
    ],
)
def test_the_last_line_is_the_tutorials_and_names_the_data_if_it_is_not_mnist(
    train, lines, network, line
):
    run = train(network, max_steps=0)
    lines()
    run.trainer.test(run.module, datamodule=run.data, verbose=False)
    assert re.fullmatch(line, lines()[-1])
    correct, total = run.module.last_score
    assert (correct, total) == (right_on_test_set(run, run.weights), 297)


def test_on_mnist_the_last_line_is_the_tutorials_alone(train, lines):
    run = train("deep", max_steps=0)
    run.data.name = "mnist"
    lines()
    run.trainer.test(run.module, datamodule=run.data, verbose=False)
    assert lines()[-1] == f"test accuracy {run.module.last_score.accuracy:g}"


def test_the_lines_are_printed_once_by_a_trainer_that_fits_and_then_tests(train, lines):
    run = train("deep", max_steps=1, batch_size=4)
    run.trainer.test(run.module, datamodule=run.data, verbose=False)
    run.trainer.test(run.module, datamodule=run.data, verbose=False)
    assert [line for line in lines() if line.startswith("test accuracy")] == [
        lines_of(run)
    ] * 2


def lines_of(run) -> str:
    return f"test accuracy {run.module.last_score.accuracy:g}  [data: digits]"


def test_every_epoch_loss_line_is_the_books_format():
    for name in ("three_minute_adam", "three_minute_rmsprop", "three_minute_layers"):
        (report,) = networks.get(name).recipe.reports
        assert isinstance(report, EpochLoss)
        assert re.fullmatch(
            r"Epoch:  0003 Avg\. Cost =  0\.12\d+",
            report.line.format(epoch=3, loss=0.12345),
        )


class Scores(Callback):
    """Scores the network after each step, as the tutorials do after each hundredth."""

    counts_chunks = True

    def on_train_batch_end(self, trainer, module, *_) -> None:
        module.score(*trainer.datamodule.test)


def test_scores_on_the_way_change_no_step(train):
    """After each of them dropout acts again."""
    options = {"network": "three_minute_adam", "batch_size": 6, "max_steps": 6}
    plain = train(**options, steps_per_execution=1)
    scored = train(**options, steps_per_execution=1, callbacks=(Scores(),))
    assert scored.record.losses == plain.record.losses
    for name, weight in plain.weights.items():
        assert torch.equal(scored.weights[name], weight)
