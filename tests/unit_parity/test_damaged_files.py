"""Files that claim more than they hold are refused before memory is taken for it."""

import gzip
import json
import struct
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mnistport.errors import LONGEST, UserError
from mnistport.files import refuse_compressed
from parity import cli, references
from parity.commands import lockstep_folder
from parity.convert.facts import from_json
from parity.convert.safetensors import facts_of_safetensors, read_safetensors
from parity.lockstep import Lockstep
from parity.references import original_files
from parity.sides import Ours

SOFTMAX = {"network": "softmax", "step": "1"}


def written(file: Path, header: Any, size: int, metadata: Any = SOFTMAX) -> Path:
    """A safetensors file whose numbers are zeros, and take no room on the disk."""
    text = json.dumps({**header, "__metadata__": metadata}).encode()
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", len(text)) + text)
        opened.truncate(8 + len(text) + size)
    return file


def tensor(shape: list[int], start: int, end: int) -> Any:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


FALSE = {
    "2**60 bytes": ({"a": tensor([2**58], 0, 2**60)}, 4),
    "the same bytes": ({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, 4),
    "outside of the file": ({"a": tensor([2], 0, 8)}, 4),
    "a hole": ({"a": tensor([1], 8, 12)}, 12),
    "a backward range": ({"a": tensor([1], 4, 0)}, 4),
    "4 GiB of zeros": ({"a": tensor([2**30], 0, 2**32)}, 2**32),
}


@pytest.mark.parametrize("case", FALSE)
def test_a_safetensors_file_that_lies_is_refused_at_once(
    case: str, tmp_path: Path
) -> None:
    header, size = FALSE[case]
    file = written(tmp_path / "a.safetensors", header, size)
    reference = references.get("softmax")
    Ours.made(reference, "float32").template()  # imports what the first call imports
    start = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(UserError) as error:
        read_safetensors(file, reference)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(error.value).startswith(f"{file}: ") and len(str(error.value)) <= LONGEST
    assert peak < 20_000_000
    assert time.perf_counter() - start < 5


def test_a_header_of_any_size_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", 90 << 20) + b"{}")
        opened.truncate(100 << 20)
    with pytest.raises(UserError, match="its header claims 94,371,840 bytes"):
        facts_of_safetensors(file)


def test_facts_without_a_step_of_the_file_are_refused(tmp_path: Path) -> None:
    said = {"network": "deep", "options": {}, "others": {}, "step": 1}
    metadata = {"network": "softmax", "facts": json.dumps(said)}
    file = written(tmp_path / "a.safetensors", {}, 0, metadata)
    with pytest.raises(UserError, match="does not say after which step"):
        facts_of_safetensors(file)


def test_a_name_of_a_million_letters_is_cut(tmp_path: Path) -> None:
    name = "x" * 1_000_000
    file = written(tmp_path / "a.safetensors", {}, 0, {**SOFTMAX, "network": name})
    with pytest.raises(UserError, match=r"^/.* \.\.\. .*not 'softmax'$") as error:
        read_safetensors(file, references.get("softmax"))
    assert len(str(error.value)) == LONGEST


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 100_000, '{"a":' * 100_000, "1" * 5000, "[]", "null", '"x"', ""),
        '{"network": null, "options": {}, "others": [1], "step": 1}',
        '{"network": null, "options": {}, "others": {"a": 1}, "step": 1}',
    ],
    ids=lambda text: text[:12] + text[-12:],
)
def test_facts_of_another_form_are_one_line(text: str) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        from_json(Path("a"), text)


OPTIONS = {
    "deep": "{a: " + "[" * 500,
    "long": "a=" + "x" * 100_000,
    "again": "a=[&x [1], *x]",
    "made": '{a: !!python/object/apply:os.system ["touch exploded"]}',
    "no date": "a=2001-13-01",
    "no time": "a=!!timestamp x",
    "a tag": "a=!!int x",
    "lines": "a=@\n\nb",
    "a list": "{}[]",
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_are_none_are_one_line(
    case: str, capsys: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["convert", "a", "b", "--options", OPTIONS[case]])
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
    assert len(err) <= LONGEST + 1
    assert list(tmp_path.iterdir()) == []


def idx(*numbers: int, data: bytes = b"") -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers) + data


ORIGINALS = {
    "nothing": b"",
    "half a header": idx(2051, 3)[:6],
    "no count": idx(2051),
    "another number": idx(2049, 1, data=b"\1"),
    "too few": idx(2051, 3, 28, 28, data=bytes(784)),
    "too many": idx(2051, 1, 28, 28, data=bytes(785)),
    "2**31 images": idx(2051, 2**31, 28, 28, data=bytes(784)),
    "half a gzip": gzip.compress(idx(2051, 1, 28, 28, data=bytes(784)))[:-9],
    "no gzip": b"\x1f\x8b" + bytes(40),
    "a broken gzip": gzip.compress(idx(2051))[:10] + b"\xff" * 60,
}


@pytest.mark.parametrize("case", ORIGINALS)
def test_the_originals_reader_refuses_damaged_files_in_one_line(
    case: str, tmp_path: Path
) -> None:
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images").write_bytes(ORIGINALS[case])
        (tmp_path / f"{part}-labels").write_bytes(idx(2049, 1, data=b"\1"))
    with pytest.raises(UserError, match="train-images: ") as error:
        original_files.read("mnist", str(tmp_path))
    assert "\n" not in str(error.value)


def test_the_originals_reader_unpacks_no_bomb(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(original_files, "LARGEST", 1_000_000)
    for name in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
        (tmp_path / name).write_bytes(gzip.compress(bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(UserError, match="has more than 1,000,000 bytes"):
        original_files.read("mnist", str(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_compressed_state_of_a_lockstep_run_is_not_unpacked(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "state.npz", step=np.zeros(10_000_000))
    (tmp_path / "settings.json").write_text('{"every": 1}')
    run: Any = SimpleNamespace(step=0, _free_sides=dict)
    run.restore = lambda file: Lockstep.restore(run, file)
    with pytest.raises(UserError, match=r"state\.npz.*'step\.npy' in it is compressed"):
        lockstep_folder.continue_run(run, tmp_path, {"every": 1}, 7, fresh=False)
    np.savez(tmp_path / "state.npz", step=np.zeros(3))
    refuse_compressed(str(tmp_path / "state.npz"))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"every": ' + "1" * 5000 + "}", "\x80"])
def test_settings_of_a_lockstep_run_that_are_none_are_one_line(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "state.npz").touch()
    (tmp_path / "settings.json").write_text(text, "latin-1")
    with pytest.raises(UserError, match=r"settings\.json: cannot be read; add --fresh"):
        lockstep_folder.read_settings(tmp_path)
