"""Which format a file has, and what to type instead if it is not a checkpoint."""

from __future__ import annotations

import re
from glob import escape
from pathlib import Path
from typing import Literal

from mnistport.errors import UserError
from parity.artefacts.files import PART

Format = Literal["tf1", "lightning", "safetensors"]

END_OF_A_TABLE = 0xDB4775248B80FB57.to_bytes(8, "little")
"""The last bytes of TF1's index files, and of the checkpoints of `SaverDef.V1`."""

SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})")
"""The names of parts of a checkpoint of `SaverDef.V1`. `PART` has today's Saver's."""


def format_of_source(path: Path) -> Format:
    """The format of a checkpoint.

    Raises:
        UserError: It does not exist, cannot be read, or has none of the three formats. If
            it is a file that belongs to a TF1 checkpoint, the message names the
            checkpoint's prefix.
    """
    try:
        return _format_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _format_of(path: Path) -> Format:
    if Path(f"{path}.index").is_file():
        return "tf1"
    _refuse_part_of_a_checkpoint(path)
    if not path.exists() and _shards_of(path):
        return "tf1"
    if not path.is_file():
        raise UserError(
            f"{path}: no such checkpoint (there is no file of this name, and no "
            f"{path}.index of TF1)"
        )
    if _is_table(path):
        return "tf1"
    if _starts_with(path, b"{", after=8):
        return "safetensors"
    if _starts_with(path, b"PK"):
        return "lightning"
    if path.suffix == ".safetensors":
        return "safetensors"
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


def refuse_misleading_target(path: Path, kind: Format) -> None:
    """Refuse a target that would not be taken for what it is, or that TF could not read.

    Raises:
        UserError: It has the name of a part of a TF1 checkpoint, or TF1 is to write into
            a path that TF takes for a pattern.
    """
    part = PART.fullmatch(path.name) or SHARD.fullmatch(path.name)
    if part or path.name == "checkpoint":
        remedy = f"use {path.with_name(part[1])}" if part else "name another"
        raise UserError(
            f"TARGET {path}: a file of TF1 has this name, and it would be taken for one; "
            f"{remedy}"
        )
    if kind == "tf1":
        refuse_what_tf_takes_for_a_pattern(path)


def refuse_what_tf_takes_for_a_pattern(path: Path) -> None:
    """Refuse a TF1 checkpoint that TF's reader does not find under its own name.

    Raises:
        UserError: There is a [ or a backslash in its path.
    """
    for character in ("[", "\\"):
        if character in str(path):
            raise UserError(
                f"{path}: TF reads a path with {character} as a pattern, and so finds no "
                "checkpoint of this name; use a path without it"
            )


def pattern_of(path: Path) -> Path:
    """What TF's reader is given for a checkpoint: its path, or that of its shards.

    A checkpoint of `SaverDef.V1` in shards has no index. TF finds them by a pattern.

    Raises:
        UserError: Shards are missing, or there are those of two checkpoints.
    """
    shards = [] if path.exists() or Path(f"{path}.index").exists() else _shards_of(path)
    if not shards:
        return path
    totals = {shard.name[-5:] for shard in shards}
    if len(totals) > 1 or len(shards) != int(*totals):
        raise UserError(
            f"{path}: {len(shards)} of its shards are there, named -of-"
            f"{' and -of-'.join(sorted(totals))}; all of one checkpoint are needed"
        )
    return path.with_name(f"{path.name}-?????-of-{totals.pop()}")


def _shards_of(path: Path) -> list[Path]:
    """The shards of a checkpoint of `SaverDef.V1`, if it was saved in shards."""
    if not path.parent.is_dir():
        return []
    files = path.parent.glob(f"{escape(path.name)}-[0-9]*-of-[0-9]*")
    parts = [(file, SHARD.fullmatch(file.name)) for file in files]
    return [file for file, part in parts if part and part[1] == path.name]


def _refuse_part_of_a_checkpoint(path: Path) -> None:
    """Refuse a file or a folder that leads to a TF1 checkpoint, and name that one."""
    if path.is_dir():
        _refuse_folder(path)
    if path.name == "checkpoint" and path.is_file():
        prefixes = _prefixes_in(path.parent)
        raise UserError(
            f"{path}: lists TF1 checkpoints and holds none; use {_one_of(prefixes)}"
        )
    shard = SHARD.fullmatch(path.name)
    if shard and path.is_file() and _is_table(path):
        raise UserError(
            f"{path}: is one shard of a TF1 checkpoint, which is named by its prefix; "
            f"use {path.with_name(shard[1])}"
        )
    part = PART.fullmatch(path.name)
    if part and path.is_file():
        prefix = path.with_name(part[1])
        there = Path(f"{prefix}.index").is_file() or prefix.is_file()
        there = there or bool(_shards_of(prefix))
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
    return [*dict.fromkeys(_prefix_of(file) for file in files)]


def _prefix_of(file: Path) -> Path:
    """The prefix of the checkpoint to which an index, a shard or a file of V1 belongs."""
    if file.suffix == ".index":
        return file.with_suffix("")
    shard = SHARD.fullmatch(file.name)
    return file.with_name(shard[1]) if shard else file


def _one_of(prefixes: list[Path]) -> str:
    """The newest prefix, and how many others there are."""
    if not prefixes:
        return "the prefix of a checkpoint (none lies beside it)"
    others = f" ({len(prefixes) - 1} more)" if len(prefixes) > 1 else ""
    return f"{prefixes[-1]}{others}"


def _starts_with(path: Path, start: bytes, after: int = 0) -> bool:
    with path.open("rb") as file:
        file.seek(after)
        return file.read(len(start)) == start


def _is_table(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - len(END_OF_A_TABLE)))
        return file.read() == END_OF_A_TABLE
