"""The `mnistport` command: what it prints, what it leaves on disk, what it refuses."""

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from mnistport import __version__, networks
from mnistport.cli import main, with_recipe_paths
from mnistport.errors import UserError

QUIET = [
    "--data.source",
    "digits",
    "--trainer.accelerator",
    "cpu",
    "--trainer.enable_model_summary",
    "false",
]
PLAIN = [*QUIET, "--trainer.enable_progress_bar", "false", "--trainer.logger", "false"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def run(here, capsys):
    """`run("fit", ...)` gives exit status, standard output and standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return (status, *capsys.readouterr())

    return call


@pytest.fixture
def refused(run, here):
    """`refused("fit", ...)` is the line with which a command is refused.

    The command must exit with status 2 and change nothing on disk.
    """

    def call(*words: object) -> str:
        before = tree(here)
        status, out, err = run(*words)
        assert status == 2
        assert out == ""
        line = err.rstrip("\n")
        assert line.startswith("mnistport: ")
        assert "\n" not in line
        assert tree(here) == before
        return line

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint after three steps of a small hvass, made by the command itself."""
    folder = tmp_path_factory.mktemp("trained")
    made = [
        "--model.options.fc_size",
        "8",
        "--model.learning_rate",
        "0.01",
        "--seed_everything",
        "4",
    ]
    words = [
        "fit",
        "--config",
        "hvass",
        *PLAIN,
        *made,
        "--data.batch_size",
        "6",
        "--trainer.max_steps",
        "3",
    ]
    assert main([*words, "--trainer.default_root_dir", str(folder)]) == 0
    (checkpoint,) = (folder / "checkpoints").glob("*.ckpt")
    return checkpoint


# Without Lightning ----------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_help_names_the_commands(run, words):
    status, out, err = run(*words)
    assert (status, err) == (0, "")
    assert all(
        f"\n  {command} " in out
        for command in ("list", "fit", "validate", "test", "predict")
    )


def test_version(run):
    assert run("--version") == (0, f"mnistport {__version__}\n", "")


def test_an_unknown_command_is_answered_with_the_known_ones(refused):
    answer = refused("train")
    assert "no command is called 'train'; there are list, expected, plot, " in answer


def test_the_name_of_a_recipe_stands_for_its_file(here):
    (config,) = {
        with_recipe_paths(words)[-1]
        for words in (["fit", "--config", "deep"], ["fit", "-c", "deep"])
    }
    assert Path(config).name == "deep.yaml"
    assert with_recipe_paths(["fit", "--config=deep"]) == ["fit", f"--config={config}"]
    (here / "mine.yaml").write_text("")
    assert with_recipe_paths(["fit", "--config", "mine.yaml"]) == [
        "fit",
        "--config",
        "mine.yaml",
    ]


@pytest.mark.parametrize("config", [["--config", "deep"], ["--config=deep"]])
def test_a_flag_before_the_recipe_wins_as_one_after_it_does(run, config):
    flag = ["--trainer.max_steps", "3"]
    for words in ([*flag, *config], [*config, *flag]):
        status, out, _ = run("fit", *words, "--print_config")
        assert status == 0
        assert yaml.safe_load(out)["trainer"]["max_steps"] == 3


def test_help_and_list_import_neither_torch_nor_lightning():
    """That is what keeps them under a second."""
    heavy = "{'torch', 'pytorch_lightning', 'numpy', 'jsonargparse'}"
    code = (
        "import sys; from mnistport.cli import main; main(['list']); main([]); "
        f"print({heavy} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


# Training -------------------------------------------------------------------------------


def test_fit_ends_with_the_accuracy_on_the_test_set(run, here):
    status, out, err = run(
        "fit", "--config", "softmax", *PLAIN, "--trainer.max_steps", 20
    )
    assert status == 0
    assert all(line.startswith("mnistport: ") for line in err.splitlines())
    assert re.match(r"0\.\d+  \[data: digits\]\n", out)
    assert "test/accuracy" in out
    saved = torch.load(here / "checkpoints/epoch=1-step=20.ckpt", weights_only=True)
    assert saved["global_step"] == 20
    assert not (here / "config.yaml").exists()  # there is no logger


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
def test_the_configuration_is_saved_beside_the_logs_and_overwrites_nothing(run, here):
    words = ["fit", "--config", "softmax", *QUIET, "--trainer.logger", "CSVLogger"]
    words += ["--trainer.logger.save_dir", here, "--trainer.logger.name", ""]
    words += ["--trainer.logger.version", "", "--trainer.max_steps"]
    (here / "config.yaml").write_text("mine\n")
    for steps in (2, 3):
        status, _, err = run(*words, steps)
        assert status == 0, err
    assert (here / "config.yaml").read_text() == "mine\n"
    saved = [yaml.safe_load((here / f"config-{n}.yaml").read_text()) for n in (2, 3)]
    assert [config["trainer"]["max_steps"] for config in saved] == [2, 3]


def test_a_run_that_is_over_is_not_continued(run, here):
    words = ["fit", "--config", "softmax", *PLAIN, "--trainer.max_steps"]
    assert run(*words, 3)[0] == 0
    again = ["--ckpt_path", "last"]
    status, out, err = run(*words, 2, *again)
    assert (status, out) == (2, "")
    assert "is at step 3, and this run ends at step 2, so nothing would be" in err
    assert run(*words, 3, *again)[0] == 0  # it is complete, and is scored


def test_the_same_command_twice_is_the_same_run(run, here):
    words = [
        "fit",
        "--config",
        "three_minute_adam",
        *PLAIN,
        "--data.batch_size",
        4,
        "--trainer.max_steps",
        3,
    ]
    for folder in ("one", "two"):
        assert run(*words, "--trainer.default_root_dir", here / folder)[0] == 0
    one, two = (
        torch.load(here / f / "checkpoints/epoch=0-step=3.ckpt", weights_only=True)
        for f in ("one", "two")
    )
    assert all(
        torch.equal(one["state_dict"][key], two["state_dict"][key])
        for key in one["state_dict"]
    )
    assert (
        run(*words, "--trainer.default_root_dir", here / "three", "--seed_everything", 1)[
            0
        ]
        == 0
    )
    three = torch.load(here / "three/checkpoints/epoch=0-step=3.ckpt", weights_only=True)
    assert not torch.equal(
        one["state_dict"]["net.fc2.weight"], three["state_dict"]["net.fc2.weight"]
    )


def test_model_options_and_learning_rate_reach_the_run(trained):
    saved = torch.load(trained, weights_only=True)
    assert saved["state_dict"]["net.fc1.weight"].shape == (8, 1764)
    assert saved["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.01)
    assert saved["mnistport"] == {
        "network": "hvass",
        "seed_everything": 4,
        "data.batch_size": 6,
        "data.source": "digits",
    }


def test_a_users_callbacks_and_the_progress_bar_work_together(run, here, monkeypatch):
    monkeypatch.setattr("mnistport.training.progress.frames_are_seen", lambda: True)
    callback = [
        "--trainer.callbacks+=ModelCheckpoint",
        "--trainer.callbacks.every_n_train_steps=7",
    ]
    keep = ["--trainer.callbacks.dirpath=kept", "--trainer.callbacks.save_top_k=-1"]
    words = [
        "fit",
        "--config",
        "softmax",
        *QUIET,
        "--trainer.logger",
        "false",
        "--trainer.max_steps",
        15,
    ]
    status, out, _ = run(*words, *callback, *keep)
    assert status == 0
    assert sorted(path.name for path in here.glob("kept/*.ckpt")) == [
        "epoch=0-step=7.ckpt",
        "epoch=1-step=14.ckpt",
    ]
    assert "2/2" in out, "the bar of the second epoch: steps 14 and 15"


def test_a_users_own_progress_bar_replaces_ours(run, monkeypatch):
    monkeypatch.setattr("mnistport.training.progress.frames_are_seen", lambda: True)
    words = [
        "fit",
        "--config",
        "softmax",
        *QUIET,
        "--trainer.logger",
        "false",
        "--trainer.max_steps",
        2,
    ]
    status, out, _ = run(*words, "--trainer.callbacks+=TQDMProgressBar")
    assert status == 0
    assert "it/s" in out
    assert "step/s" not in out


def test_without_a_number_of_steps_the_whole_recipe_is_run(run):
    made = [
        *PLAIN,
        "--trainer.limit_train_batches",
        1,
        "--data.batch_size",
        2,
        "--trainer.enable_checkpointing",
        "false",
    ]
    status, out, _ = run("fit", "--model.network", "three_minute_layers", *made)
    assert status == 0
    assert [line[:12] for line in out.splitlines() if line.startswith("Epoch")] == [
        f"Epoch:  {n:04d}" for n in range(1, 16)
    ]


def test_a_run_that_ends_before_its_first_step_scores_nothing(run):
    words = ["fit", "--config", "softmax", *PLAIN, "--trainer.max_time", "00:00:00:00"]
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert "the run ended before its first step" in err


@pytest.mark.parametrize("flag", ["limit_train_batches", "overfit_batches"])
def test_a_share_of_less_than_one_step_is_one_step(run, here, flag):
    words = ["fit", "--config", "softmax", *PLAIN, f"--trainer.{flag}", 0.001]
    assert run(*words, "--trainer.max_epochs", 2)[0] == 0
    assert list(here.glob("checkpoints/epoch=1-step=2.ckpt"))


def test_on_mnist_a_short_run_of_softmax_is_already_good(run, mnist_dir):
    where = [
        "--data.source",
        "mnist",
        "--data.dir",
        mnist_dir,
        "--trainer.accelerator",
        "cpu",
        *PLAIN[4:],
    ]
    status, out, _ = run(
        "fit", "--config", "softmax", *where, "--trainer.enable_checkpointing", "false"
    )
    assert status == 0
    line, *_ = out.splitlines()
    assert 0.905 <= float(line) <= 0.93, (
        "the line is the figure alone: the data set is the tutorial's"
    )


@pytest.mark.slow
def test_on_mnist_the_layers_network_loses_in_its_first_epoch_what_the_book_reports(
    run, mnist_dir
):
    """0.168 with the dropout that never acts; with dropout it would be 0.52."""
    where = [
        "--data.source",
        "mnist",
        "--data.dir",
        mnist_dir,
        "--trainer.accelerator",
        "cpu",
        *PLAIN[4:],
    ]
    words = ["fit", "--config", "three_minute_layers", *where, "--trainer.max_epochs", 1]
    status, out, _ = run(*words, "--trainer.enable_checkpointing", "false")
    assert status == 0
    assert (
        abs(float(out.splitlines()[0].removeprefix("Epoch:  0001 Avg. Cost =  ")) - 0.168)
        < 0.02
    )


def test_print_config_shows_what_would_run_and_runs_nothing(run, here):
    status, out, err = run(
        "fit", "--config", "deep", "--model.learning_rate", 0.5, "--print_config"
    )
    assert (status, err) == (0, "")
    config = yaml.safe_load(out)
    assert (config["model"]["network"], config["model"]["learning_rate"]) == ("deep", 0.5)
    assert config["trainer"]["max_steps"] == 20_000
    assert not tree(here)


def test_what_print_config_shows_can_be_used_as_a_configuration(run, here):
    made = ["--config", "softmax", *PLAIN, "--trainer.max_steps", 4]
    (here / "mine.yaml").write_text(run("fit", *made, "--print_config")[1])
    status, out, _ = run("fit", "--config", "mine.yaml")
    assert status == 0
    assert out == run("fit", *made)[1]


# Checkpoints ----------------------------------------------------------------------------


def test_a_checkpoint_alone_says_which_network_it_holds(run, trained, here):
    before = tree(here)
    status, out, _ = run("test", "--ckpt_path", trained, *PLAIN[2:])
    assert status == 0
    score = re.match(
        r"Accuracy on Test-Set: \d+\.\d% \((\d+) / 297\)  \[data: digits\]\n", out
    )
    assert score

    status, out, _ = run("validate", f"--ckpt_path={trained}", *PLAIN[2:])
    assert status == 0
    assert "val/accuracy" in out

    status, out, err = run(
        "predict", "--ckpt_path", trained, *QUIET[2:], "--trainer.logger", "false"
    )
    assert (status, err) == (0, "")
    classes = [int(line) for line in out.splitlines()]
    assert len(classes) == 297
    labels = digits_test_labels()
    assert sum(ours == label for ours, label in zip(classes, labels, strict=True)) == int(
        score[1]
    )
    assert tree(here) == before


def test_a_recipe_that_never_validates_is_validated_when_asked(run, trained):
    status, out, _ = run("validate", "--config", "hvass", "--ckpt_path", trained, *PLAIN)
    assert status == 0
    assert "val/accuracy" in out


def test_prediction_on_several_devices_is_refused(run, trained):
    status, out, err = run(
        "predict", "--ckpt_path", trained, *PLAIN, "--trainer.devices", 2
    )
    assert (status, out) == (2, "")
    assert "add --trainer.devices 1" in err


def digits_test_labels() -> list[int]:
    from mnistport.data import sources

    return sources.load("digits").test.labels.tolist()


def test_a_run_continues_from_its_checkpoint_alone_as_if_it_had_not_stopped(
    run, trained, here
):
    assert (
        run("fit", "--ckpt_path", trained, *PLAIN[2:], "--trainer.max_steps", 6)[0] == 0
    )
    made = [
        "--model.options.fc_size",
        8,
        "--model.learning_rate",
        0.01,
        "--seed_everything",
        4,
        "--data.batch_size",
        6,
    ]
    whole = ["fit", "--config", "hvass", *PLAIN, *made, "--trainer.max_steps", 6]
    assert run(*whole, "--trainer.default_root_dir", here / "whole")[0] == 0
    ours, theirs = (
        torch.load(folder / "checkpoints/epoch=0-step=6.ckpt", weights_only=True)
        for folder in (here, here / "whole")
    )
    assert all(
        torch.equal(ours["state_dict"][key], theirs["state_dict"][key])
        for key in theirs["state_dict"]
    )


def test_the_command_line_wins_over_the_checkpoint(run, trained, here):
    words = ["fit", "--ckpt_path", trained, *PLAIN[2:], "--trainer.max_steps", 4]
    assert (
        run(*words, "--model.learning_rate", 0.5, "--model.steps_per_execution", 1)[0]
        == 0
    )
    (path,) = here.glob("checkpoints/*.ckpt")
    saved = torch.load(path, weights_only=True)
    assert saved["optimizer_states"][0]["param_groups"][0]["lr"] == 0.5
    assert saved["hyper_parameters"]["learning_rate"] == 0.5
    assert saved["hyper_parameters"]["steps_per_execution"] == 1
    assert saved["hyper_parameters"]["options"] == {"fc_size": 8}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--seed_everything", 5],
            "the checkpoint's run had --seed_everything 4 (now 5); "
            "continue it with the same",
        ),
        (
            ["--data.batch_size", 7],
            "the checkpoint's run had --data.batch_size 6 (now 7); "
            "continue it with the same",
        ),
        (
            ["--config", "softmax"],
            "holds the network 'hvass', not 'softmax'; use --config hvass",
        ),
        (["--model.network", "deep"], "holds the network 'hvass', not 'deep'"),
        (
            ["--model.options.fc_size", 9],
            "was made with other --model.options: its net.fc1.weight has shape [8, 1764]",
        ),
    ],
)
def test_to_continue_a_run_with_other_settings_is_refused(
    refused, trained, words, message
):
    """The logger is on, which writes as soon as it can."""
    quiet = [*QUIET, "--trainer.enable_progress_bar", "false"]
    assert message in refused("fit", *words, "--ckpt_path", trained, *quiet)


def write_checkpoints(folder: Path) -> None:
    (folder / "junk.ckpt").write_bytes(b"junk")
    (folder / "folder.ckpt").mkdir()
    torch.save([1], folder / "list.ckpt")
    torch.save({"weights": 1}, folder / "weights.ckpt")
    theirs = {
        "state_dict": {},
        "pytorch-lightning_version": "2.6.6",
        "hyper_parameters": {"lr": 1},
    }
    torch.save(theirs, folder / "theirs.ckpt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "no such file"),
        ("best", "no checkpoint of softmax lies below"),
        ("junk", "not a checkpoint that can be read"),
        ("folder", "not a checkpoint that can be read"),
        ("list", "not a Lightning checkpoint"),
        ("weights", "not a Lightning checkpoint"),
        ("theirs", "not written by mnistport"),
    ],
)
def test_a_file_that_is_no_checkpoint_of_ours_is_refused(refused, here, name, message):
    write_checkpoints(here)
    path = "best" if name == "best" else f"{name}.ckpt"
    line = refused("test", "--config", "softmax", "--ckpt_path", path, *QUIET)
    assert f"--ckpt_path {path}: " in line
    assert message in line


# Mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--config", "depe"],
            "no network is called 'depe'; did you mean 'deep'? "
            "Known: softmax_beginners, ",
        ),
        (["--config=nosuch"], "no network is called 'nosuch'. Known: "),
        (["--config", "nosuch.yaml"], "--config nosuch.yaml: no such file"),
        (["--config", "folder/deep"], "--config folder/deep: no such file"),
        (
            ["--model.network", "depe"],
            "no network is called 'depe'; did you mean 'deep'?",
        ),
        (
            ["--config", "hvass", "--model.options.fc_sise", "8"],
            "'hvass' has no option 'fc_sise'; it has filter_size1",
        ),
        (
            ["--config", "hvass", "--model.options.pooling", "middle"],
            "expected one of max, average, none, stride",
        ),
        (
            ["--config", "softmax", "--model.options.fc_size", "8"],
            "'softmax' has no option 'fc_size'; it has none",
        ),
        (
            ["--config", "softmax", "--trainer.max_steps", "many"],
            "key \"trainer.max_steps\": Expected a <class 'int'>",
        ),
        (
            ["--config", "softmax", "--trainer.max_stps", "3"],
            "unrecognized arguments: --trainer.max_stps 3",
        ),
        (["--config", "softmax", "--data.source", "emnist"], "data.source"),
        (
            ["--config", "softmax", "--data.batch_size", "0"],
            "batch size 0: expected 1 to 1,375",
        ),
        (
            ["--config", "softmax", "--data.eval_batch_size", "0"],
            "eval_batch_size 0: expected at least 1",
        ),
        (
            ["--config", "softmax", "--model.steps_per_execution", "0"],
            "steps_per_execution 0: expected at least 1",
        ),
        (
            ["--config", "softmax", "--seed_everything=-1"],
            "--seed_everything -1: expected 0 to 4294967295",
        ),
        (
            ["--config", "softmax", "--trainer.gradient_clip_val", "1"],
            "the tutorials clip no gradients",
        ),
        (
            ["--config", "softmax", "--trainer.accumulate_grad_batches", "2"],
            "each batch is one optimizer step; leave it out",
        ),
        (
            ["--config", "softmax", "--trainer.devices", "0"],
            "Lightning refuses this combination",
        ),
        (
            [
                "--config",
                "softmax",
                "--trainer.val_check_interval",
                "20",
                "--trainer.limit_val_batches",
                "1.0",
            ],
            "val_check_interval 20 is more than the 13 steps of an epoch",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_answered_in_one_line_and_changes_nothing(refused, words, message):
    """The logger and checkpoints are on, which write as soon as they can."""
    assert message in refused("fit", *words, *QUIET)


def test_the_recipe_of_a_plug_in_is_refused_with_what_to_type_instead(
    refused, monkeypatch
):
    monkeypatch.setattr(networks, "plug_ins", lambda: {"theirs": None})
    line = refused("fit", "--config", "theirs")
    assert "'theirs' is a plug-in and ships no recipe; use --model.network theirs" in line


@pytest.mark.parametrize("damage", ["short", "not gzip", "missing"])
def test_damaged_data_is_refused_with_the_name_of_the_file(refused, here, damage):
    folder = here / "mnist"
    folder.mkdir()
    for name, header in (
        ("train-images-idx3-ubyte", 2051),
        ("train-labels-idx1-ubyte", 2049),
    ):
        for file in (name, name.replace("train", "t10k")):
            sound = header.to_bytes(4, "big") + (12).to_bytes(4, "big")
            sound += (
                (28).to_bytes(4, "big") * 2 + bytes(12 * 784)
                if header == 2051
                else bytes(12)
            )
            (folder / f"{file}.gz").write_bytes(gzip.compress(sound))
    bad = folder / "t10k-labels-idx1-ubyte.gz"
    if damage == "missing":
        bad.unlink()
    else:
        bad.write_bytes(b"<html>" if damage == "not gzip" else bad.read_bytes()[:-12])
    line = refused(
        "fit", "--config", "softmax", "--data.source", "mnist", "--data.dir", folder
    )
    assert "t10k-labels-idx1-ubyte" in line


def test_a_missing_data_directory_is_refused(refused):
    assert "nowhere: no such directory" in refused(
        "fit", "--config", "softmax", "--data.source=mnist", "--data.dir=nowhere"
    )


def test_a_bug_is_not_taken_for_a_users_mistake(run, monkeypatch):
    monkeypatch.setattr(
        "mnistport.training.module.Classifier.training_step", lambda *a: [][0]
    )
    with pytest.raises(IndexError):
        run("fit", "--config", "softmax", *PLAIN, "--trainer.max_steps", 1)


def test_of_several_processes_the_first_says_what_is_wrong(run, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run("fit") == (2, "", "")
    monkeypatch.setenv("LOCAL_RANK", "0")
    status, out, err = run("fit")
    assert (status, out) == (2, "")
    assert "fit needs a recipe" in err


def test_an_error_is_one_line_whatever_went_into_it():
    assert str(UserError("a\nb\n  c\n")) == "a b c"


# In a process of its own ----------------------------------------------------------------

COMMANDS = {
    "whole": [
        "softmax",
        *QUIET,
        "--trainer.max_steps",
        "20",
        "--trainer.log_every_n_steps",
        "10",
    ],
    "refused": ["sotfmax"],
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Two commands, run as a shell runs them and at the same time.

    Returns exit status, standard output, standard error, and the folder of each.
    """
    started = {}
    for name, words in COMMANDS.items():
        folder = tmp_path_factory.mktemp(name)
        command = [sys.executable, "-m", "mnistport", "fit", "--config", *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started[name] = (
            subprocess.Popen(command, cwd=folder, env=environment, **pipes),
            folder,
        )
    ended = {}
    for name, (process, folder) in started.items():
        out, err = process.communicate()
        ended[name] = (process.returncode, out, err, folder)
    return ended


def test_a_whole_command_trains_and_logs_without_needless_messages(done):
    status, out, err, folder = done["whole"]
    assert status == 0, err
    assert re.search(r"^0\.\d+  \[data: digits\]$", out, re.MULTILINE)
    for noise in (
        "Warning",
        "deprecated",
        "Tip: For seamless",
        "args parameter",
        "one step in each call",
        "engine eager",
        "Traceback",
    ):
        assert noise not in err
    assert list((folder / "lightning_logs/version_0").glob("events.*"))
    assert list((folder / "lightning_logs/version_0/checkpoints").glob("*.ckpt"))


def test_the_logger_does_not_import_tensorflow(done):
    _, _, err, _ = done["whole"]
    assert "tensorflow" not in err.lower()
    assert "oneDNN" not in err


def test_a_refused_command_shows_no_traceback_and_leaves_nothing(done):
    status, out, err, folder = done["refused"]
    assert (status, out) == (2, "")
    assert "Traceback" not in err
    assert err.startswith(
        "mnistport: no network is called 'sotfmax'; did you mean 'softmax'?"
    )
    assert err.count("\n") == 1
    assert not tree(folder)
