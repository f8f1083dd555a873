"""No code of a checkpoint is run, whatever torch's environment variable allows."""

import io
import pickle
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from mnistport import Classifier, MnistData
from mnistport.errors import UserError

ALLOWED = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""It lets torch run the code of each file, unless the caller says otherwise."""


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


pytestmark = pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE_NO")


@pytest.fixture(autouse=True)
def _code_is_allowed(monkeypatch):
    monkeypatch.setenv(ALLOWED, "1")


def trainer_in(folder, steps):
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=1,
        max_steps=steps,
        default_root_dir=folder,
    )


def digits():
    return MnistData("softmax", source="digits")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A checkpoint of softmax after one step."""
    folder = tmp_path_factory.mktemp("sound")
    trainer = trainer_in(folder, 1)
    trainer.fit(Classifier("softmax"), datamodule=digits())
    trainer.save_checkpoint(folder / "sound.ckpt")
    return folder / "sound.ckpt"


def in_a_zip(content, path):
    torch.save(content, path)


def in_the_old_format(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_a_plain_pickle(content, path):
    path.write_bytes(pickle.dumps(content))


FORMS = [in_a_zip, in_the_old_format, as_a_plain_pickle]


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__)
def bomb(request, sound, tmp_path):
    """A checkpoint that is sound, but for a part that runs code."""
    content = torch.load(sound, weights_only=True)
    content["mine"] = Bomb(tmp_path / "exploded")
    request.param(content, tmp_path / "bomb.ckpt")
    return tmp_path / "bomb.ckpt"


@pytest.fixture
def refused(tmp_path):
    """Runs a function that must be refused in one line, and must run no code."""

    def check(function, *arguments, **keywords):
        with pytest.raises(UserError) as error:
            function(*arguments, **keywords)
        assert not (tmp_path / "exploded").exists()
        assert "\n" not in str(error.value)
        return str(error.value)

    return check


def test_the_bomb_explodes_where_nobody_says_otherwise(bomb, tmp_path):
    with suppress(RuntimeError):  # the plain pickle is no file of torch's
        torch.load(bomb)
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize("weights_only", [None, False])
@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_trainer_of_ones_own_runs_no_code(
    bomb, tmp_path, refused, command, weights_only
):
    run = getattr(trainer_in(tmp_path, 2), command)
    said = refused(
        run,
        Classifier("softmax"),
        datamodule=digits(),
        ckpt_path=bomb,
        weights_only=weights_only,
    )
    assert f"{bomb}: not a checkpoint that can be read" in said


def test_nor_in_the_second_run_of_a_trainer(bomb, sound, tmp_path, refused):
    trainer, module = trainer_in(tmp_path, 2), Classifier("softmax")
    trainer.fit(module, datamodule=digits(), ckpt_path=sound)
    for _ in range(2):
        refused(trainer.test, module, datamodule=digits(), ckpt_path=bomb)


@pytest.mark.parametrize("kind", [Classifier, MnistData])
@pytest.mark.parametrize("weights_only", [None, False])
def test_loading_a_module_runs_no_code(bomb, refused, kind, weights_only):
    load = partial(kind.load_from_checkpoint, weights_only=weights_only)
    assert f"{bomb}: not a checkpoint that can be read" in refused(load, bomb)
    assert f"{bomb}: not a checkpoint that can be read" in refused(load, str(bomb))
    with bomb.open("rb") as file:
        refused(load, file)
    said = refused(load, io.BytesIO(bomb.read_bytes()))
    assert said.startswith("the checkpoint: not a checkpoint that can be read")


ADDRESSES = ["http://127.0.0.1:9/bomb.ckpt", "memory://bomb.ckpt", "no such file"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_nothing_is_fetched_from_another_machine(address, tmp_path, refused, monkeypatch):
    def fetched(*_, **__):
        raise AssertionError("asked for")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fetched)
    reason = "no such file" if address in ADDRESSES[-1:] else "copy the file here first"
    module, trainer = Classifier("softmax"), trainer_in(tmp_path, 1)
    for said in (
        refused(Classifier.load_from_checkpoint, address),
        refused(MnistData.load_from_checkpoint, address),
        refused(trainer.test, module, datamodule=digits(), ckpt_path=address),
    ):
        assert said.startswith(f"{address}: ") and reason in said


def test_a_sound_checkpoint_is_loaded(sound, tmp_path, monkeypatch):
    monkeypatch.chdir(sound.parent)
    (sound.parent / "https.ckpt").write_bytes(sound.read_bytes())  # no address
    weights = torch.load(sound, weights_only=True)["state_dict"]
    for source in (sound, str(sound), "https.ckpt", io.BytesIO(sound.read_bytes())):
        module = Classifier.load_from_checkpoint(source, learning_rate=0.25)
        assert module.learning_rate == 0.25
        assert torch.equal(module.net.fc.weight, weights["net.fc.weight"])
        assert MnistData.load_from_checkpoint(source).source == "digits"
    module = Classifier("softmax")
    trainer = trainer_in(tmp_path, 2)
    trainer.test(module, datamodule=digits(), ckpt_path="https.ckpt", verbose=False)
    assert torch.equal(module.net.fc.weight, weights["net.fc.weight"])
    with pytest.raises(TypeError, match="cannot be called on an instance"):
        module.load_from_checkpoint(sound)


def test_a_file_of_another_program_is_refused(tmp_path, refused):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    said = refused(Classifier.load_from_checkpoint, tmp_path / "other.ckpt")
    assert "other.ckpt: the checkpoint was not written by mnistport" in said


class Mine(pl.LightningModule):
    """A module of one's own, whose checkpoints are its own affair."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(784, 10)

    def test_step(self, batch, batch_idx):
        self.layer(batch[0])


def test_the_checkpoints_of_other_modules_are_read_as_before(tmp_path):
    trainer, content = trainer_in(tmp_path, 1), {"state_dict": Mine().state_dict()}
    trainer.test(Classifier("softmax"), datamodule=digits(), verbose=False)
    trainer.callbacks.clear()  # `TutorialLines` prints what our module counts
    content["mine"] = Bomb(tmp_path / "exploded")
    content["pytorch-lightning_version"] = pl.__version__
    torch.save(content, tmp_path / "mine.ckpt")
    trainer.test(Mine(), datamodule=digits(), ckpt_path=tmp_path / "mine.ckpt")
    assert (tmp_path / "exploded").exists()
