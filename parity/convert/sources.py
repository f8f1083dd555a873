"""Which format a file has, and what to type instead if it is not a checkpoint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from mnistport.errors import UserError

Format = Literal["tf1", "lightning", "safetensors"]

END_OF_A_TABLE = 0xDB4775248B80FB57.to_bytes(8, "little")
"""The last bytes of TF1's index files, and of the checkpoints of `SaverDef.V1`."""


def format_of_source(path: Path) -> Format:
    """The format of a checkpoint.

    Raises:
        UserError: It does not exist, or has none of the three formats. If it is a file
            that belongs to a TF1 checkpoint, the message names the checkpoint's prefix.
    """
    if Path(f"{path}.index").is_file():
        return "tf1"
    _refuse_part_of_a_checkpoint(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no such checkpoint (there is no file of this name, and no "
            f"{path}.index of TF1)"
        )
    if path.suffix == ".safetensors":
        return "safetensors"
    if _starts_with(path, b"PK"):
        return "lightning"
    if _is_table(path):
        return "tf1"
    raise UserError(
        f"{path}: neither a TF1, nor a Lightning, nor a safetensors checkpoint"
    )


def format_of_target(path: Path, source: Format) -> Format:
    """The format to write: safetensors by its suffix, or else the other framework's.

    Raises:
        UserError: The source is safetensors, so that there is no other framework.
    """
    if path.suffix == ".safetensors":
        return "safetensors"
    if source == "safetensors":
        raise UserError(f"{path}: say which format to write, --to tf1 or --to lightning")
    return "lightning" if source == "tf1" else "tf1"


def _refuse_part_of_a_checkpoint(path: Path) -> None:
    """Refuse a file or a folder that leads to a TF1 checkpoint, and name that one."""
    if path.is_dir():
        _refuse_folder(path)
    if path.name == "checkpoint" and path.is_file():
        prefixes = _prefixes_in(path.parent)
        raise UserError(
            f"{path}: lists TF1 checkpoints and holds none; use {_one_of(prefixes)}"
        )
    part = re.fullmatch(r"(.+)\.(index|meta|data-\d{5}-of-\d{5})", path.name)
    if part and path.is_file():
        prefix = path.with_name(part[1])
        there = Path(f"{prefix}.index").is_file() or prefix.is_file()
        remedy = f"use {prefix}" if there else f"{prefix}.index is not there"
        raise UserError(f"{path}: a TF1 checkpoint is named by its prefix; {remedy}")


def _refuse_folder(path: Path) -> None:
    prefixes = _prefixes_in(path)
    what = "is a folder; name a checkpoint in it"
    if prefixes:
        raise UserError(f"{path}: {what}, such as {_one_of(prefixes)}")
    files = sorted([*path.glob("*.ckpt"), *path.glob("*.safetensors")])
    if files:
        raise UserError(f"{path}: {what}, such as {files[-1]}")
    raise UserError(f"{path}: is a folder, and no checkpoint lies in it")


def _prefixes_in(folder: Path) -> list[Path]:
    """The prefixes of the TF1 checkpoints in a folder, the newest last."""
    files = [file for file in folder.iterdir() if file.is_file() and _is_table(file)]
    files.sort(key=lambda file: (file.stat().st_mtime, file.name))
    return [file.with_suffix("") if file.suffix == ".index" else file for file in files]


def _one_of(prefixes: list[Path]) -> str:
    """The newest prefix, and how many others there are."""
    if not prefixes:
        return "the prefix of a checkpoint (none lies beside it)"
    others = f" ({len(prefixes) - 1} more)" if len(prefixes) > 1 else ""
    return f"{prefixes[-1]}{others}"


def _starts_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start


def _is_table(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - len(END_OF_A_TABLE)))
        return file.read() == END_OF_A_TABLE
