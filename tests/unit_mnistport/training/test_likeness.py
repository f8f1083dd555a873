"""`fit --like`: departures from the tutorials, by name, one at a time or all at once."""

import shlex

import pytest
import torch
import yaml

from mnistport import networks, settings
from mnistport.cli import main
from mnistport.errors import UserError
from mnistport.network import Departure
from mnistport.training.datamodule import MnistData
from mnistport.training.likeness import departures
from mnistport.training.module import Classifier

pytestmark = pytest.mark.thinned

QUICK = (
    "--data.source digits --trainer.accelerator cpu --trainer.enable_progress_bar false "
    "--trainer.max_steps 2"
)
DEPARTURES = [
    pytest.param(name, departure, id=f"{name}-{departure.name}")
    for name in networks.BUILT_IN
    for departure in networks.get(name).departures
]
LISTED = {
    "softmax_beginners": ["loss"],
    "softmax": [],
    "deep": ["truncation", "optimizer"],
    "hvass": ["truncation", "optimizer", "shuffling"],
    "three_minute_adam": ["optimizer"],
    "three_minute_rmsprop": ["optimizer"],
    "three_minute_layers": ["dropout", "optimizer"],
    "convnet": ["shuffling", "optimizer", "padding"],
}
INTENDED = {
    "softmax_beginners": ["loss"],
    "three_minute_layers": ["dropout"],
    "convnet": ["shuffling"],
}


def made(name: str, run: dict) -> tuple[Classifier, MnistData]:
    torch.manual_seed(0)
    module = Classifier(name, **settings.of_model(run))
    return module, MnistData(name, source="digits", **settings.of_data(run))


@pytest.fixture
def fit(tmp_path, monkeypatch, capsys):
    """`fit(words)` gives the exit status and our lines on standard error."""
    monkeypatch.chdir(tmp_path)

    def call(words: str) -> tuple[int, list[str]]:
        status = main(["fit", *shlex.split(QUICK), *shlex.split(words)])
        lines = capsys.readouterr().err.splitlines()
        start = "mnistport: "
        return status, [line.removeprefix(start) for line in lines if start in line]

    return call


def unlike(lines: list[str]) -> list[str]:
    """The names of the departures that are said at the beginning."""
    start = "unlike the tutorial ("
    return [
        line.removeprefix(start).partition(")")[0]
        for line in lines
        if line.startswith(start)
    ]


def configuration(words: str, capsys) -> dict:
    """What `--print_config` prints."""
    assert main(["fit", *shlex.split(words), "--print_config"]) == 0
    printed: dict = yaml.safe_load(capsys.readouterr().out)
    return printed


# The table ------------------------------------------------------------------------------


def test_the_departures_are_these():
    found = {
        name: [each.name for each in networks.get(name).departures]
        for name in networks.BUILT_IN
    }
    assert found == LISTED
    intended = {
        name: [
            each.name for each in networks.get(name).departures if each.like == "intended"
        ]
        for name in networks.BUILT_IN
    }
    assert {name: names for name, names in intended.items() if names} == INTENDED


@pytest.mark.parametrize(("name", "departure"), DEPARTURES)
def test_a_departure_is_one_line_and_changes_the_run(name: str, departure: Departure):
    assert "\n" not in departure.text
    book, other = made(name, {}), made(name, dict(departure.settings))
    run = settings.flat(other[0].hparams, other[1].hparams)
    assert run == departure.settings
    assert departures(other[0].network, run) == [departure]
    assert departures(book[0].network, {}) == []
    facts = [
        (
            str(module.net),
            module.tutorial_loss,
            type(module.configure_optimizers()),
            data._stream,
            [float(weight.detach().abs().max()) for weight in module.net.parameters()],
        )
        for module, data in (book, other)
    ]
    assert facts[0] != facts[1]


@pytest.mark.parametrize("name", ["deep", "hvass"])
def test_without_truncation_weights_lie_beyond_two_deviations(name):
    std = {"deep": 0.1, "hvass": 0.05}[name]
    for truncated in (True, False):
        module, _ = made(name, {"truncated": truncated})
        largest = module.net.fc1.weight.detach().abs().max() / std
        assert largest <= 2.0 + 1e-5 if truncated else largest > 3.0


def test_valid_pooling_drops_the_last_row_and_column():
    module, _ = made("convnet", {"pool_padding": "VALID"})
    assert module.net.fc1.weight.shape == (625, 3 * 3 * 128)
    assert module(torch.rand(2, 784)).shape == (2, 10)
    with pytest.raises(UserError, match="pool_padding 'valid': expected one of SAME"):
        made("convnet", {"pool_padding": "valid"})


def test_the_stable_loss_is_the_tutorials_where_that_is_finite():
    (book, _), (stable, _) = (
        made("softmax_beginners", {"stable_loss": value}) for value in (False, True)
    )
    labels = torch.tensor([3, 4])
    for scale, finite in ((1.0, True), (1e4, False)):
        losses = []
        for module in (book, stable):
            torch.nn.init.constant_(module.net.fc.bias, 0.0)
            with torch.no_grad():
                module.net.fc.bias[3] = scale
                losses.append(module.tutorial_loss(module(torch.zeros(2, 784)), labels))
        assert losses[0].isfinite().all() == finite
        assert losses[1].isfinite().all()
        if finite:
            assert torch.allclose(*losses, rtol=1e-5)


# The command ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--config convnet --like torch", LISTED["convnet"]),
        ("--config convnet --like intended", ["shuffling"]),
        ("--config convnet --like book", []),
        ("--config convnet", []),
        (
            "--config three_minute_layers --model.options.intended_dropout true",
            ["dropout"],
        ),
        ("--config softmax_beginners --like intended", ["loss"]),
    ],
)
def test_fit_says_how_it_departs_at_its_beginning_and_its_end(fit, words, expected):
    status, lines = fit(words)
    assert status == 0
    assert unlike(lines) == expected
    proven = [line for line in lines if line.startswith("`parity` proves")]
    names = ", ".join(expected)
    assert proven == (
        [
            "`parity` proves the tutorial's own program, from which this run departs: "
            f"{names}"
        ]
        if expected
        else []
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--config softmax --like torch", "--like torch changes nothing in softmax"),
        (
            "--config convnet --like intended --data.stream random_batch",
            "--like intended leaves data.stream as you set it: random_batch",
        ),
    ],
)
def test_fit_says_what_like_does_not_change(fit, words, said):
    status, lines = fit(words)
    assert status == 0
    assert said in lines
    assert unlike(lines) == []


def test_what_the_user_sets_comes_first_and_nothing_else_is_lost(capsys, tmp_path):
    words = "--config hvass --like torch --model.learning_rate 0.01 "
    for options in (
        "--model.options '{\"fc_size\": 8}'",
        "--model.options.fc_size 8",
        f"--config {tmp_path / 'own.yaml'}",
    ):
        (tmp_path / "own.yaml").write_text("model:\n  options: {fc_size: 8}\n")
        printed = configuration(words + options, capsys)
        assert printed["model"]["learning_rate"] == 0.01
        assert printed["model"]["optimizer"] == "torch_adam"
        assert printed["data"]["stream"] == "next_batch"
        assert printed["model"]["options"]["fc_size"] == 8


def test_an_optimizer_of_the_users_own_is_not_told_of_another_ones_rate(capsys):
    words = "--config convnet --like torch --model.optimizer adam"
    printed = configuration(words, capsys)["model"]
    assert (printed["optimizer"], printed["learning_rate"]) == ("adam", 0.001)
    assert printed["optimizer_options"] is None
    assert printed["options"] == {"pool_padding": "VALID"}


def test_a_whole_mapping_of_options_keeps_those_of_like(fit, tmp_path):
    status, lines = fit("--config hvass --like torch --model.options '{\"fc_size\": 8}'")
    assert status == 0
    assert unlike(lines) == LISTED["hvass"]
    (checkpoint,) = tmp_path.glob("lightning_logs/**/*.ckpt")
    stored = torch.load(checkpoint, weights_only=True)
    options = stored["hyper_parameters"]["options"]
    assert options == {"truncated": False, "fc_size": 8}
    assert stored["datamodule_hyper_parameters"]["stream"] == "next_batch"


def test_a_run_goes_on_as_it_was_and_not_otherwise(fit):
    torchs = "--config softmax_beginners --like torch --data.stream sequential"
    assert fit(torchs)[0] == 0
    more = "--trainer.max_steps 3 --ckpt_path last"
    status, lines = fit(f"--config softmax_beginners {more}")
    assert (status, unlike(lines)) == (0, ["loss"])
    again = "--trainer.max_steps 4 --ckpt_path last"
    assert fit(f"{torchs} {again}")[0] == 0
    last = "--trainer.max_steps 5 --ckpt_path last --config softmax_beginners"
    status, lines = fit(f"{last} --like book")
    assert status == 2
    assert lines[-1] == (
        "the checkpoint's run departs from the tutorial in loss, and --like in nothing; "
        "without --like it goes on as it was"
    )
    status, lines = fit(f"{last} --data.stream next_batch")
    assert status == 2
    assert lines[-1] == (
        "the checkpoint's run had --data.stream sequential (now next_batch); continue it "
        "with the same"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--config softmax --like keras", "book"),
        ("--config softmax --data.stream shuffled", "next_batch"),
    ],
)
def test_an_unknown_value_is_answered_with_the_known_ones(fit, words, said):
    status, lines = fit(words)
    assert status == 2
    assert said in lines[0]


# The streams ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["next_batch", "random_batch", "sequential"])
def test_a_stream_that_is_asked_for_replaces_the_recipes(stream):
    images = {}
    for name in ("softmax", "hvass", "convnet"):
        data = MnistData(name, source="digits", batch_size=9, stream=stream)
        data.setup()
        images[name] = data.stream.indices(0, 3).tolist()
    assert images["softmax"] == images["hvass"] == images["convnet"]
    recipe = {"next_batch": "softmax", "random_batch": "hvass", "sequential": "convnet"}
    data = MnistData(recipe[stream], source="digits", batch_size=9)
    data.setup()
    assert data.stream.indices(0, 3).tolist() == images["softmax"]


def test_a_stream_that_there_is_not_is_refused():
    with pytest.raises(UserError, match="stream 'x': expected one of next_batch, random"):
        MnistData("softmax", stream="x")
