"""Safetensors, TF1's index and data, and the state of a lock-step run."""

from __future__ import annotations

import json
import random
import struct
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.checkpoints import softmax
from fuzzing.damage import NUMBERS, damaged, other_words, other_zip
from fuzzing.json_files import FACTS, other_json
from fuzzing.reader import Files, Reader, one_file_by
from fuzzing.tables import other_table


def _sound_safetensors() -> Sequence[Files]:
    from parity.convert.safetensors import write_safetensors
    from parity.sides import Ours

    made = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.safetensors"
        for text in ("", json.dumps(FACTS | {"options": {}, "optimizer": {}})):
            state = Ours.made(softmax(), "float32").template()
            write_safetensors(file, softmax(), state, 12, text)
            made.append({file.name: file.read_bytes()})
    return made


def _other_safetensors(draw: random.Random, name: str, content: bytes) -> bytes:
    """Another header with the right length, or any damage."""
    if draw.random() < 0.3:
        return damaged(draw, content)
    (size,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + size], content[8 + size :]
    header = other_json(draw, name, header)
    if draw.random() < 0.1:
        size = draw.choice(NUMBERS)
        return struct.pack("<Q", size) + header + data
    return struct.pack("<Q", len(header)) + header + data


def _read_safetensors(folder: Path) -> None:
    from parity.convert import format_of_source
    from parity.convert.safetensors import facts_of_safetensors, read_safetensors

    file = folder / "a.safetensors"
    if format_of_source(file) == "safetensors":
        facts_of_safetensors(file)
        read_safetensors(file, softmax())


def _read_safe_weights(folder: Path) -> None:
    from parity.convert.safetensors import read_safetensors

    read_safetensors(folder / "a.safetensors", softmax(), weights_only=True)


def _sound_tf1() -> Sequence[Files]:
    """A checkpoint of softmax, and one with every type of tensor that Saver stores."""
    from parity.convert.tf1_writing import save, write_arrays
    from parity.sides import Theirs

    made = []
    with tempfile.TemporaryDirectory() as name:
        theirs = Theirs(softmax(), "float32")
        theirs.load(theirs.initial)
        save(theirs, Path(name) / "t")
        made.append(_files_of(Path(name)))
    with tempfile.TemporaryDirectory() as name:
        arrays = {"a": np.zeros((2, 3), np.float32), "n": np.int64(3), "t": b"text"}
        write_arrays(Path(name) / "t", {k: np.asarray(v) for k, v in arrays.items()})
        made.append(_files_of(Path(name)))
    return [*made, {"t": _old_checkpoint()}]


def _old_checkpoint() -> bytes:
    """A checkpoint of `SaverDef.V1`, which is one file."""
    from parity import tf1

    tf = tf1.load()
    with tempfile.TemporaryDirectory() as name, tf.Graph().as_default() as graph:
        values = {"W": np.zeros((3, 2), np.float32), "b": np.ones(2, np.float32)}
        variables = [
            tf.get_variable(key, initializer=value, use_resource=False)
            for key, value in values.items()
        ]
        with tf1.session(graph) as session:
            session.run(tf.variables_initializer(variables))
            saver = tf.train.Saver(variables, write_version=tf.train.SaverDef.V1)
            saver.save(session, f"{name}/t", write_meta_graph=False, write_state=False)
        return (Path(name) / "t").read_bytes()


def _files_of(folder: Path) -> Files:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def _other_tf1(draw: random.Random, name: str, content: bytes) -> bytes:
    """In a table, the checksums are made right again as often as not."""
    if not name.startswith("t.data") and draw.random() < 0.7:
        return other_table(draw, content, damaged)
    return damaged(draw, content)


def _read_tf1(folder: Path) -> None:
    from parity.convert import format_of_source
    from parity.convert.tf1_reading import Tf1Checkpoint

    if format_of_source(folder / "t") == "tf1":
        checkpoint = Tf1Checkpoint.opened(folder / "t")
        for name in checkpoint.shapes:
            checkpoint.array(name)


def _read_tf1_state(folder: Path) -> None:
    from parity.convert import read_tf1

    read_tf1(folder / "t", softmax(), 12)


def _sound_lockstep() -> Sequence[Files]:
    with tempfile.TemporaryDirectory() as name:
        _run().save(Path(name) / "state.npz")
        state = (Path(name) / "state.npz").read_bytes()
    return [{"settings.json": json.dumps(LOCKSTEP).encode(), "state.npz": state}]


LOCKSTEP = {"network": "softmax", "options": None, "dtype": "float64", "every": 5}
"""A part of the settings of a lock-step run."""


@cache
def _run() -> Any:
    """A lock-step run before its first step."""
    from parity.bench import Bench
    from parity.case import Case
    from parity.lockstep import Lockstep

    data = softmax().data(0, source="digits")
    case = Case(bench=Bench(reference=softmax(), data=data))
    return Lockstep(case, every=5, floor_steps=5)


def _other_lockstep(draw: random.Random, name: str, content: bytes) -> bytes:
    if name.endswith(".json"):
        return other_words(draw, content)
    if draw.random() < 0.5:
        return other_zip(draw, content, lambda _, otherwise: otherwise)
    return damaged(draw, content)


def _continue_lockstep(folder: Path) -> None:
    from parity.commands.lockstep_folder import continue_run

    continue_run(_run(), folder, LOCKSTEP, 100, fresh=False)


READERS = {
    "safetensors": Reader(
        share=8,
        sound=_sound_safetensors,
        damage=one_file_by(_other_safetensors),
        reads=[_read_safetensors, _read_safe_weights],
    ),
    "tf1": Reader(
        share=8,
        sound=_sound_tf1,
        damage=one_file_by(_other_tf1),
        reads=[_read_tf1],
        is_heavy=True,
    ),
    "tf1-state": Reader(
        share=0.15,
        sound=_sound_tf1,
        damage=one_file_by(_other_tf1),
        reads=[_read_tf1_state],
        is_heavy=True,
    ),
    "lockstep": Reader(
        share=1,
        sound=_sound_lockstep,
        damage=one_file_by(_other_lockstep),
        reads=[_continue_lockstep],
        is_heavy=True,
    ),
}
