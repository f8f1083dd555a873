"""TF1's graphs, MetaGraphs, SavedModels and checkpoints, for `parity inspect`."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fuzzing.damage import NUMBERS, damaged
from fuzzing.reader import Files, Reader, one_file_by
from fuzzing.tables import crc32c, other_table

FLOAT, INT32, STRING = 1, 3, 7
"""The numbers of types."""


def _graph() -> Any:
    """A network with the operations whose shapes come from values."""
    from parity.artefacts.messages import GraphDef

    graph = GraphDef()
    graph.versions.producer = 27

    def add(name: str, op: str, *inputs: str, **attributes: Any) -> str:
        node = graph.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            _set(node.attr[key], value)
        return name

    def const(name: str, *values: int) -> str:
        node = graph.node.add(name=name, op="Const")
        node.attr["dtype"].type = INT32
        tensor = node.attr["value"].tensor
        tensor.dtype = INT32
        for size in (4, 2) if name == "widths" else (len(values),):
            tensor.tensor_shape.dim.add(size=size)
        tensor.int_val.extend(values)
        return name

    x = add("x", "Placeholder", dtype="type", shape=[-1, 784])
    image = add("image", "Reshape", x, const("to", -1, 28, 28, 1))
    kernel = add("kernel", "VariableV2", dtype="type", shape=[5, 5, 1, 8])
    sizes = {"strides": [1, 1, 1, 1], "padding": "SAME"}
    conv = add("conv", "Conv2D", image, kernel, **sizes)
    pool = {"strides": [1, 2, 2, 1], "ksize": [1, 2, 2, 1], "padding": "SAME"}
    pooled = add("pool", "MaxPool", conv, **pool)
    wide = add("pad", "Pad", pooled, const("widths", 0, 0, 1, 1, 1, 1, 0, 0))
    begin, end, step = (const(name, *each) for name, each in SLICE.items())
    add("cut", "StridedSlice", wide, begin, end, step, begin_mask=1, end_mask=1)
    size = add("size", "Shape", wide)
    many = add("many", "Prod", size, const("axis", 0), keep_dims=False)
    add("range", "Range", const("zero", 0), many, const("one", 1))
    filled = add("filled", "Fill", size, const("seven", 7))
    add("tile", "Tile", filled, const("times", 1, 2, 3, 4))
    add("split", "Split", const("along", 1), wide, num_split=2)
    joined = add("join", "ConcatV2", "split", "split:1", const("last", 3), N=2)
    add("mean", "Mean", joined, const("both", 1, 2), keep_dims=True)
    add("draw", "RandomUniform", size, dtype="type")
    entered = add("enter", "Enter", "zero")
    merged = add("merge", "Merge", entered, "next")
    more = add("less", "Less", merged, "seven")
    add("switch", "Switch", merged, add("loop", "LoopCond", more))
    add("next", "NextIteration", add("add", "Add", "switch:1", "one"))
    add("exit", "Exit", "switch:0")
    return graph


SLICE = {"begin": (0, 1, 1, 0), "end": (0, -1, 9, 4), "step": (1, 2, 1, -1)}


def _set(attribute: Any, value: Any) -> None:
    """Set an attribute. Lists are shapes where their first length is open."""
    if value == "type":
        attribute.type = FLOAT
    elif isinstance(value, str):
        attribute.s = value.encode()
    elif isinstance(value, bool):
        attribute.b = value
    elif isinstance(value, int):
        attribute.i = value
    elif value[0] == -1 or value[-1] == 8:
        for size in value:
            attribute.shape.dim.add(size=size)
    else:
        attribute.list.i.extend(value)


def _other_graph(draw: random.Random, graph: Any) -> None:
    """Change a few operations: their types, inputs, attributes and values."""
    from parity.artefacts.shapes.known import RULES

    names = [node.name for node in graph.node]
    operations = sorted(RULES)
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        node = draw.choice(list(graph.node))
        what = draw.random()
        if what < 0.2:
            node.op = draw.choice(operations)
        elif what < 0.35 and node.input:
            other = draw.choice(names) + draw.choice(("", "", ":1", ":7", ":999999999"))
            node.input[draw.randrange(len(node.input))] = draw.choice(("", "^")) + other
        elif what < 0.4:
            node.input.append(draw.choice(names))
        elif what < 0.45 and node.input:
            node.input.pop()
        elif what < 0.5:
            copied = graph.node.add()
            copied.CopyFrom(node)
            copied.name = draw.choice((f"{node.name}_1", node.name, "", "a\nb\x1b[31m"))
        elif node.attr:
            _other_attribute(draw, node.attr[draw.choice(sorted(node.attr))])


def _other_attribute(draw: random.Random, attribute: Any) -> None:
    number = draw.choice((-1, -2, 0, 1, 2, 3, 5, *NUMBERS))
    small = (number + 2**31) % 2**32 - 2**31
    large = (number + 2**63) % 2**64 - 2**63
    kind = attribute.WhichOneof("value")
    if draw.random() < 0.1:
        _set(
            attribute, draw.choice((large, "SAME", True, "type", [1, large], [-1, large]))
        )
    elif kind == "tensor":
        _other_tensor(draw, attribute.tensor, small, large)
    elif kind == "list" and attribute.list.i:
        attribute.list.i[draw.randrange(len(attribute.list.i))] = large
    elif kind == "shape" and attribute.shape.dim:
        draw.choice(list(attribute.shape.dim)).size = large
    elif kind == "i":
        attribute.i = large
    elif kind == "s":
        attribute.s = draw.choice((b"VALID", b"EXPLICIT", b"NCHW", b"\xff\n", b""))
    else:
        attribute.type = max(0, small) % 300


def _other_tensor(draw: random.Random, tensor: Any, small: int, large: int) -> None:
    what = draw.random()
    if what < 0.6 and tensor.int_val:
        tensor.int_val[draw.randrange(len(tensor.int_val))] = small
    elif what < 0.7:
        tensor.tensor_shape.dim.add(size=large)
    elif what < 0.8 and tensor.tensor_shape.dim:
        draw.choice(list(tensor.tensor_shape.dim)).size = large
    elif what < 0.85:
        tensor.int_val.extend([small] * draw.choice((1, 300, 20_000)))
    elif what < 0.9:
        tensor.tensor_shape.unknown_rank = True
    elif what < 0.95:
        tensor.dtype = draw.randrange(0, 40)
    else:
        tensor.tensor_content = draw.randbytes(draw.choice((1, 4, 16)))


def _sound_graph() -> Sequence[Files]:
    return [{"a.pb": _graph().SerializeToString()}]


def _damaged_graph(draw: random.Random, name: str, content: bytes) -> bytes:
    """Another graph in sound bytes more often than not."""
    if draw.random() < 0.2:
        return damaged(draw, content)
    graph = _graph()
    _other_graph(draw, graph)
    made: bytes = graph.SerializeToString()
    return damaged(draw, made) if draw.random() < 0.1 else made


def _sound_text() -> Sequence[Files]:
    from google.protobuf import text_format

    text: str = text_format.MessageToString(_graph())
    return [{"a.pbtxt": text.encode()}]


def _damaged_text(draw: random.Random, name: str, content: bytes) -> bytes:
    """Damage to the text. Now and then it is nested too deep."""
    if draw.random() < 0.02:
        deep = b"library { function { attr { value { func { attr { value { func {"
        return draw.choice((b"node {" * 50_000, deep * 2_000, b"node: <" * 50_000))
    return damaged(draw, content)


def _sound_meta() -> Sequence[Files]:
    from parity.artefacts.messages import MetaGraphDef

    meta = MetaGraphDef()
    meta.graph_def.CopyFrom(_graph())
    meta.meta_info_def.tensorflow_version = "1.15.0"
    meta.collection_def["losses"].node_list.value.append("mean:0")
    meta.collection_def["variables"].bytes_list.value.append(b"\n\x08kernel:0")
    meta.signature_def["serve"].inputs["images"].name = "x:0"
    return [{"a.meta": meta.SerializeToString()}]


def _damaged_meta(draw: random.Random, name: str, content: bytes) -> bytes:
    from parity.artefacts.messages import MetaGraphDef

    if draw.random() < 0.4:
        return damaged(draw, content)
    meta = MetaGraphDef.FromString(content)
    _other_graph(draw, meta.graph_def)
    made: bytes = meta.SerializeToString()
    return made


def _index_and_data() -> Files:
    """A checkpoint with the variable of the graph, and the number of its step."""
    from parity.artefacts.messages import BundleEntry, BundleHeader

    data, pairs = b"", [(b"", BundleHeader(num_shards=1).SerializeToString())]
    for name, dtype, shape, values in (
        (b"global_step", 9, (), struct.pack("<q", 12)),
        (b"kernel", FLOAT, (5, 5, 1, 8), bytes(800)),
        (b"kernel/Momentum", FLOAT, (5, 5, 1, 8), bytes(800)),
    ):
        entry = BundleEntry(dtype=dtype, offset=len(data), size=len(values))
        for size in shape:
            entry.shape.dim.add(size=size)
        entry.crc32c = _masked(values)
        pairs.append((name, entry.SerializeToString()))
        data += values
    return {"a.index": _table(pairs), "a.data-00000-of-00001": data}


def _masked(content: bytes) -> int:
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _number(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def _table(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """An index with these entries in one block."""
    made, handles = b"", []
    data = _block(pairs)
    for block in (data, _block([])):
        handles.append(_number(len(made)) + _number(len(block)))
        made += block + b"\0" + struct.pack("<I", _masked(block + b"\0"))
    index = _block([(b"\xff", handles[0])])
    handles.append(_number(len(made)) + _number(len(index)))
    made += index + b"\0" + struct.pack("<I", _masked(index + b"\0"))
    footer = (handles[1] + handles[2]).ljust(40, b"\0")
    return made + footer + struct.pack("<Q", 0xDB4775248B80FB57)


def _block(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    made = b"".join(
        b"\0" + _number(len(name)) + _number(len(value)) + name + value
        for name, value in pairs
    )
    return made + struct.pack("<II", 0, 1)


def _sound_checkpoint() -> Sequence[Files]:
    return [{**_index_and_data(), **_sound_meta()[0]}]


def _damaged_checkpoint(draw: random.Random, name: str, content: bytes) -> bytes:
    """In the index, the checksums are made right again as often as not."""
    if name.endswith(".meta"):
        return _damaged_meta(draw, name, content)
    if name.endswith(".index") and draw.random() < 0.7:
        return other_table(draw, content, damaged)
    return damaged(draw, content)


def _read(folder: Path) -> None:
    """Read what lies there, find the shapes, and look at each value."""
    from parity.artefacts.files import read
    from parity.artefacts.shapes import shapes_of

    artefact = read(_file(folder))
    if artefact.graph is not None:
        shapes_of(artefact.graph)
        for node in artefact.graph.nodes.values():
            if node.op == "Const":
                node.value()
    if artefact.arrays is not None:
        for name in artefact.arrays.stored:
            artefact.arrays.array(name)


def _inspect(folder: Path) -> None:
    """Make both reports of what lies there."""
    from parity.inspection.report import as_values, inspect, lines

    inspection = inspect(_file(folder))
    list(lines(inspection))
    json.dumps(as_values(inspection))


def _file(folder: Path) -> Path:
    return next(file for file in sorted(folder.iterdir()) if file.name[0] == "a")


READERS = {
    "graph": Reader(
        share=4,
        sound=_sound_graph,
        damage=one_file_by(_damaged_graph),
        reads=[_read, _inspect],
    ),
    "graph-text": Reader(
        share=1,
        sound=_sound_text,
        damage=one_file_by(_damaged_text),
        reads=[_read, _inspect],
    ),
    "metagraph": Reader(
        share=2,
        sound=_sound_meta,
        damage=one_file_by(_damaged_meta),
        reads=[_read, _inspect],
    ),
    "tf1-arrays": Reader(
        share=4,
        sound=_sound_checkpoint,
        damage=one_file_by(_damaged_checkpoint),
        reads=[_read, _inspect],
    ),
}
