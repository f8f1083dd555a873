"""What a path holds: a graph, a MetaGraph, a SavedModel, or a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from mnistport.errors import UserError
from parity.artefacts.checkpoint import Checkpoint
from parity.artefacts.graph import Graph
from parity.artefacts.messages import (
    GraphDef,
    MetaGraphDef,
    SavedModel,
    VariableDef,
    decoded,
)

LARGEST = 1 << 30
"""Bytes of a file with a graph. It is held in memory twice."""
LARGEST_TEXT = 64 << 20
"""Bytes of a graph as text, which is read slowly and takes more memory."""
MOST_OPERATIONS = 200_000
"""Operations of a graph. Each takes some 2 kB. A large network has 50,000 in training."""
SAVED_MODEL_STARTS = 0x08
"""The first byte of a SavedModel, for its version. A graph starts with a message."""
FROZEN = "a frozen graph"
"""The kind of a graph without variables: its weights are constants."""
TEXT = (".pbtxt", ".prototxt")
"""How the names of files end that hold a graph as text."""
PART = re.compile(r"(.+)\.(index|meta|data-\d{5}-of-\d{5})")
"""The names of the files of a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """An entrance to a SavedModel: the tensors that it takes and gives, by its names."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """What was found at a path.

    Attributes:
        path: The file that was read first.
        kind: What it is, in words.
        graph: The operations. None: there are only arrays.
        arrays: The checkpoint. None: there is none, or its values stand in the graph.
        collections: The names in each collection of the MetaGraph.
        signatures: The entrances of a SavedModel, by name.
        tags: The tags of the SavedModel's graph.
        others: How many more graphs the SavedModel has.
    """

    path: Path
    kind: str
    graph: Graph | None = None
    arrays: Checkpoint | None = None
    collections: Mapping[str, Sequence[str]] = field(default_factory=dict)
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    tags: Sequence[str] = ()
    others: int = 0


def read(path: Path) -> Artefact:
    """Read what a path holds.

    Args:
        path: A `.pb`, `.pbtxt` or `.meta` file, the folder of a SavedModel, the prefix of
            a checkpoint, or one of its files.

    Raises:
        UserError: There is nothing that can be read.
    """
    if path.is_dir():
        return _in_folder(path)
    part = PART.fullmatch(path.name)
    prefix = path.with_name(part[1]) if part else path
    if Path(f"{prefix}.index").is_file():
        return _checkpoint(prefix)
    if not path.is_file():
        raise UserError(
            f"{path}: no such file, and no {path.name}.index of a checkpoint either"
        )
    content = _content(path)
    if content.startswith(b"PK"):
        raise UserError(
            f"{path}: is an archive, as torch writes its checkpoints; `parity inspect` "
            "reads files of TensorFlow 1"
        )
    if path.suffix == ".meta":
        return _meta(path, decoded(MetaGraphDef, content, str(path)), "a MetaGraph")
    if path.suffix in TEXT:
        return _text(path, content)
    if content[:1] == bytes([SAVED_MODEL_STARTS]):
        return _saved_model(path, content)
    return _graph(path, decoded(GraphDef, content, str(path)))


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path}: has more than {LARGEST:,} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if not content:
        raise UserError(f"{path}: is empty")
    return content


def _in_folder(path: Path) -> Artefact:
    """The SavedModel or the only checkpoint in a folder."""
    for name in ("saved_model.pb", "saved_model.pbtxt"):
        if (path / name).is_file():
            return read(path / name)
    prefixes = sorted(file.with_suffix("") for file in path.glob("*.index"))
    if len(prefixes) == 1:
        return _checkpoint(prefixes[0])
    graphs = sorted([*path.glob("*.pb"), *path.glob("*.meta"), *path.glob("*.pbtxt")])
    found = prefixes or graphs
    if not found:
        raise UserError(f"{path}: is a folder, and no graph or checkpoint lies in it")
    raise UserError(
        f"{path}: is a folder; name one of what lies in it, such as {found[-1]}"
    )


def _checkpoint(prefix: Path) -> Artefact:
    """A checkpoint, with the MetaGraph that lies beside it."""
    arrays, file = Checkpoint.opened(prefix), Path(f"{prefix}.meta")
    if not file.is_file():
        return Artefact(path=Path(f"{prefix}.index"), kind="a checkpoint", arrays=arrays)
    message = decoded(MetaGraphDef, _content(file), str(file))
    return _meta(file, message, "a checkpoint with its MetaGraph", arrays)


def _meta(
    path: Path, message: Any, kind: str, arrays: Checkpoint | None = None
) -> Artefact:
    return Artefact(
        path=path,
        kind=kind,
        graph=_operations(path, message.graph_def),
        arrays=arrays,
        collections=_collections(message),
        signatures=_signatures(message),
        tags=list(message.meta_info_def.tags),
    )


def _saved_model(path: Path, content: bytes) -> Artefact:
    message = decoded(SavedModel, content, str(path))
    if not message.meta_graphs:
        raise UserError(f"{path}: a SavedModel without a graph")
    prefix = path.parent / "variables" / "variables"
    there = Path(f"{prefix}.index").is_file()
    arrays = Checkpoint.opened(prefix) if there else None
    first = message.meta_graphs[0]
    return Artefact(
        path=path,
        kind="a SavedModel",
        graph=_operations(path, first.graph_def),
        arrays=arrays,
        collections=_collections(first),
        signatures=_signatures(first),
        tags=list(first.meta_info_def.tags),
        others=len(message.meta_graphs) - 1,
    )


def _graph(path: Path, message: Any) -> Artefact:
    graph = _operations(path, message)
    frozen = not any(node.op.startswith("Var") for node in graph.nodes.values())
    return Artefact(path=path, kind=FROZEN if frozen else "a graph", graph=graph)


def _operations(path: Path, message: Any) -> Graph:
    """The graph of a message.

    Raises:
        UserError: It has no operation, or one without name or type.
    """
    if not message.node or any(not (node.name and node.op) for node in message.node):
        raise UserError(f"{path}: is no graph of TensorFlow")
    if len(message.node) > MOST_OPERATIONS:
        raise UserError(f"{path}: has more than {MOST_OPERATIONS:,} operations")
    return Graph.of(message, str(path))


def _text(path: Path, content: bytes) -> Artefact:
    """A graph, a MetaGraph or a SavedModel that was written as text."""
    from google.protobuf import text_format

    if len(content) > LARGEST_TEXT:
        raise UserError(f"{path}: a text of more than {LARGEST_TEXT:,} bytes")
    try:
        text = content.decode()
    except ValueError as error:
        raise UserError(f"{path}: is no text ({error})") from error
    for kind in (GraphDef, MetaGraphDef, SavedModel):
        try:
            message = text_format.Parse(text, kind())
        except (text_format.ParseError, RecursionError) as error:
            reason = str(error)
            continue
        if kind is GraphDef:
            return _graph(path, message)
        if kind is MetaGraphDef:
            return _meta(path, message, "a MetaGraph")
        return _saved_model(path, message.SerializeToString())
    raise UserError(f"{path}: is no graph of TensorFlow ({reason})")


def _signatures(message: Any) -> dict[str, Signature]:
    def names(tensors: Any) -> dict[str, str]:
        return {key: tensors[key].name for key in sorted(tensors)}

    return {
        key: Signature(inputs=names(each.inputs), outputs=names(each.outputs))
        for key, each in sorted(message.signature_def.items())
    }


def _collections(message: Any) -> dict[str, list[str]]:
    """The names in each collection. Those of variables stand in messages of bytes."""
    found = {}
    for key, collection in message.collection_def.items():
        kind = collection.WhichOneof("kind")
        if kind == "node_list":
            found[key] = list(collection.node_list.value)
        elif kind == "bytes_list":
            found[key] = [_variable(value) for value in collection.bytes_list.value]
    return found


def _variable(content: bytes) -> str:
    """The name in a `VariableDef`. "" if the bytes are another message."""
    try:
        return str(VariableDef.FromString(content).variable_name)
    except DecodeError:  # a collection may hold any message
        return ""
