"""Torch's files are read in memory that their size bounds, whatever they claim."""

import resource
import zipfile

import pytest
import torch

from mnistport.errors import UserError
from mnistport.training.checkpoint_files import read_checkpoint
from mnistport.training.torch_files import read_torch_file

SOUND = {
    **{"state_dict": {"net.w": torch.zeros(3)}, "mnistport": {"network": "softmax"}},
    "pytorch-lightning_version": "2.6.0",
}


def refused(path):
    with pytest.raises(UserError) as error:
        read_checkpoint(str(path), to_continue=False)
    said = str(error.value)
    assert "\n" not in said and len(said) < 500
    return said


def saved(path, **parts):
    torch.save({**SOUND, **parts}, path)
    return path


def rewritten(path, edit, how=zipfile.ZIP_STORED):
    """The same file with other members."""
    with zipfile.ZipFile(path) as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    with zipfile.ZipFile(path, "w", how) as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), edit(name, content), how)
    return path


def pickle_of(*parts):
    def edit(name, content):
        return b"".join(parts) if name.endswith("data.pkl") else content

    return edit


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_a_sound_file_is_read(tmp_path):
    path = saved(tmp_path / "a.ckpt")
    assert read_checkpoint(str(path), to_continue=False)["mnistport"] == {
        "network": "softmax"
    }
    with path.open("rb") as file:
        assert read_torch_file(file)["state_dict"]["net.w"].shape == (3,)
    assert read_torch_file(path.rename(tmp_path / "a.safetensors"), mmap=True)


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    path = saved(tmp_path / "a.ckpt")

    def edit(name, content):
        return bytes(50_000_000) if name.endswith("data/0") else content

    rewritten(path, edit, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    before = peak_mib()
    assert "in it is compressed" in refused(path)
    assert peak_mib() - before < 20


BOMBS = {
    "bytes of any length": (
        pickle_of(b"\x80\x02cbuiltins\nbytearray\n(I400000000\ntR."),
        "it holds a bytearray",
    ),
    "a million marks": (
        pickle_of(b"\x80\x02", b"(" * 2_000_000, b"."),
        "has 2,000,003 bytes",
    ),
    "lists in lists": (
        pickle_of(b"\x80\x02", b"]" * 3000, b"a" * 2999, b"."),
        "nested more than 100 levels deep",
    ),
    "an empty structure": (pickle_of(b""), "not a checkpoint that can be read"),
    "a system call": (
        pickle_of(b"\x80\x02cos\nsystem\n(X\x0e\0\0\0touch exploded\x85R."),
        "not a checkpoint that can be read (",
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_pickle_bomb_is_refused(tmp_path, monkeypatch, bomb):
    monkeypatch.chdir(tmp_path)
    edit, reason = BOMBS[bomb]
    before = peak_mib()
    assert reason in refused(rewritten(saved(tmp_path / "a.ckpt"), edit))
    assert peak_mib() - before < 50
    assert not (tmp_path / "exploded").exists()


def laughs():
    """A few lists that stand for 8 ** 12 words."""
    value = "ha"
    for _ in range(12):
        value = [value] * 8
    return value


PARTS = {
    "a version of billions of parts": (
        {"pytorch-lightning_version": laughs()},
        "stands for more than 1,000,000 values",
    ),
    "an option of billions of parts": (
        {"hyper_parameters": {"options": {"a": laughs()}}},
        "stands for more than 1,000,000 values",
    ),
    "a weight that repeats one number": (
        {"state_dict": {"net.w": torch.zeros(1).expand(2**40)}},
        "its state_dict.net.w has shape [1099511627776], and fewer numbers are stored",
    ),
    "a source that is a tensor": (
        {"datamodule_hyper_parameters": {"source": torch.zeros(3)}},
        "its data source is an array of shape [3]",
    ),
    "a name of a million letters": (
        {"mnistport": {"network": "softmax", "x" * 1_000_000: 1}},
        "names a setting 'xxx",
    ),
    "schedulers that are a tensor": (
        {"lr_schedulers": torch.zeros(2)},
        "its lr_schedulers is a Tensor, expected a list",
    ),
    "a name of the arguments that is a tensor": (
        {"hparams_name": torch.zeros(2)},
        "its hparams_name is a Tensor",
    ),
    "a type of the arguments": ({"hparams_type": "os.system"}, "it has hparams_type"),
    "arguments of old versions": ({"hparams": torch.zeros(2)}, "it has hparams"),
    "something to be called": (
        {"hyper_parameters": {"_instantiator": "os.system"}},
        "its hyper_parameters name 'os.system' to be called",
    ),
    "a class that is no name": (
        {"hyper_parameters": {"_class_path": ["os"]}},
        "hyper_parameters._class_path is a list",
    ),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_would_take_memory_or_be_called_is_refused(tmp_path, part):
    parts, reason = PARTS[part]
    assert reason in refused(saved(tmp_path / "a.ckpt", **parts))


def test_a_storage_that_claims_more_than_there_is_is_not_read(tmp_path):
    """torch must not read beyond the end of a member."""
    path = saved(tmp_path / "a.ckpt", state_dict={"net.w": torch.zeros(200)})

    def edit(name, content):
        return content.replace(b"K\xc8", b"K\xff") if name.endswith("pkl") else content

    with pytest.raises(UserError, match=r"record size .800 bytes. does not match"):
        read_torch_file(rewritten(path, edit))
