"""Files of TF1 are read without TensorFlow, and as TensorFlow reads them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnistport.errors import UserError
from parity.artefacts.checkpoint import Checkpoint, Stored
from parity.artefacts.files import MOST_OPERATIONS, Artefact, read
from parity.artefacts.graph import Graph
from parity.artefacts.messages import GraphDef
from parity.artefacts.shapes import Shapes, shapes_of

GIVEN = os.environ.get("MNISTPORT_ARTEFACTS", "")
ZIP = Path(GIVEN) / "dl4j_tf1_graphs.zip"
needs_artefacts = pytest.mark.skipif(
    not ZIP.is_file(), reason="MNISTPORT_ARTEFACTS is not set, or has no graphs"
)


def artefacts() -> list[Path]:
    """The files with a graph that other people made."""
    if not ZIP.is_file():
        return []
    patterns = ("*.pb", "*.meta")
    return sorted(file for pattern in patterns for file in Path(GIVEN).rglob(pattern))


def differences(graph: Any, ours: Graph, shapes: Shapes) -> Iterator[str]:
    """Where TensorFlow knows a type or a shape, and we do not say the same."""
    operations = {operation.name: operation for operation in graph.get_operations()}
    assert {name: node.op for name, node in ours.nodes.items()} == {
        name: operation.type for name, operation in operations.items()
    }
    assert not shapes.unknown
    for name, operation in operations.items():
        known = shapes.known[name]
        if len(known) != len(operation.outputs):
            yield f"{name} has {len(operation.outputs)} outputs, not {len(known)}"
            continue
        for tensor, mine in zip(operation.outputs, known, strict=True):
            if tensor.dtype.base_dtype.name != mine.dtype:
                yield f"{tensor.name} is {tensor.dtype.name}, not {mine.dtype}"
            if tensor.shape.rank is None:
                continue
            asked = tensor.shape.as_list()
            if mine.shape is None or len(mine.shape) != len(asked):
                yield f"{tensor.name} is {tensor.shape}, not {mine.shape}"
                continue
            pairs = zip(asked, mine.shape, strict=True)
            if any(size is not None and size != axis for size, axis in pairs):
                yield f"{tensor.name} is {tensor.shape}, not {mine.shape}"


def as_tensorflow_has_it(tf: Any, artefact: Artefact, message: Any) -> list[str]:
    """The differences from what TensorFlow makes of a `GraphDef`."""
    graph = tf.Graph()
    with graph.as_default():
        definition = tf.GraphDef.FromString(message.SerializeToString())
        tf.import_graph_def(definition, name="")
    assert artefact.graph is not None
    return list(differences(graph, artefact.graph, shapes_of(artefact.graph)))


@pytest.mark.tf
@needs_artefacts
@pytest.mark.parametrize("file", artefacts(), ids=lambda path: path.stem)
def test_operations_types_and_shapes_are_those_of_tensorflow(file: Path) -> None:
    from parity import tf1
    from parity.artefacts.messages import MetaGraphDef, SavedModel

    content = file.read_bytes()
    if file.name == "saved_model.pb":
        message = SavedModel.FromString(content).meta_graphs[0].graph_def
    elif file.suffix == ".meta":
        message = MetaGraphDef.FromString(content).graph_def
    else:
        message = GraphDef.FromString(content)
    assert as_tensorflow_has_it(tf1.load(), read(file), message) == []


REFUSED_BY_TENSORFLOW = "incompatible with expected float_ref"
"""Why TensorFlow does not import eight of the graphs: a constant is assigned to."""


@pytest.mark.slow
@pytest.mark.tf
@needs_artefacts
def test_so_are_those_of_all_graphs_in_the_archive(tmp_path: Path) -> None:
    from parity import tf1

    tf, refused, compared = tf1.load(), 0, 0
    with zipfile.ZipFile(ZIP) as archive:
        names = [name for name in archive.namelist() if name.endswith(".pb")]
        assert len(names) == 341
        for name in names:
            file = Path(archive.extract(name, tmp_path))
            artefact, message = read(file), GraphDef.FromString(file.read_bytes())
            try:
                found = as_tensorflow_has_it(tf, artefact, message)
            except ValueError as error:
                if REFUSED_BY_TENSORFLOW not in str(error):
                    raise
                refused += 1
            else:
                assert found == [], name
                compared += 1
    assert (compared, refused) == (333, 8)


@needs_artefacts
def test_what_was_recorded_has_the_shapes_that_are_known(tmp_path: Path) -> None:
    """An oracle without TensorFlow: the shape of every tensor that TF1 computed."""
    checked = 0
    with zipfile.ZipFile(ZIP) as archive:
        names = set(archive.namelist())
        for name in sorted(names):
            if not name.endswith(".pb"):
                continue
            message = GraphDef.FromString(archive.read(name))
            graph = Graph.of(message, name)
            shapes = shapes_of(graph)
            folder = name.rpartition("/")[0]
            for node in graph.nodes.values():
                told = node.name.replace("/", "____")
                recorded = f"{folder}/{told}.0.prediction_inbw.shape"
                if recorded not in names or not shapes.known[node.name]:
                    continue
                axes = [int(size) for size in archive.read(recorded).split()]
                mine = shapes.known[node.name][0].shape
                if mine is None:
                    continue
                if mine == () and axes == [0]:
                    continue  # how scalars were recorded
                assert len(mine) == len(axes), (name, node.name)
                pairs = zip(mine, axes, strict=True)
                assert all(axis in (None, size) for axis, size in pairs), (
                    name,
                    node.name,
                )
                checked += 1
    assert checked > 1000


@pytest.mark.tf
@needs_artefacts
@pytest.mark.parametrize(
    "prefix",
    ["fsrcnn/x2_small/fsrcnn_ckpt", "tensorflow-onnx/regression/checkpoint/model"],
)
def test_the_arrays_of_a_checkpoint_are_those_of_tensorflow(prefix: str) -> None:
    from parity import tf1

    path = Path(GIVEN) / prefix
    reader = tf1.load().train.load_checkpoint(str(path))
    ours = Checkpoint.opened(path)
    shapes = reader.get_variable_to_shape_map()
    assert {name: list(stored.shape) for name, stored in ours.stored.items()} == shapes
    for name in shapes:
        theirs = reader.get_tensor(name)
        assert ours.array(name).dtype == theirs.dtype
        assert np.array_equal(ours.array(name), theirs)


@needs_artefacts
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("kws/DNN_S.pb", "a frozen graph"),
        ("fsrcnn/x2_small", "a checkpoint with its MetaGraph"),
        ("fsrcnn/x2_small/fsrcnn_ckpt", "a checkpoint with its MetaGraph"),
        ("fsrcnn/x2_small/fsrcnn_ckpt.meta", "a checkpoint with its MetaGraph"),
        ("fsrcnn/x2_small/fsrcnn_ckpt.index", "a checkpoint with its MetaGraph"),
        ("tensorflow-onnx/regression/saved_model", "a SavedModel"),
        ("tensorflow-onnx/regression/saved_model/saved_model.pb", "a SavedModel"),
        ("tensorflow-onnx/regression/saved_model/variables/variables", "a checkpoint"),
    ],
)
def test_a_path_is_known_by_what_lies_there(path: str, kind: str) -> None:
    assert read(Path(GIVEN) / path).kind == kind


@needs_artefacts
def test_a_graph_as_text_is_the_graph(tmp_path: Path) -> None:
    from google.protobuf import text_format

    file = Path(GIVEN) / "kws" / "CNN_S.pb"
    text = tmp_path / "graph.pbtxt"
    text.write_text(text_format.MessageToString(GraphDef.FromString(file.read_bytes())))
    ours, theirs = read(text).graph, read(file).graph
    assert ours is not None and theirs is not None
    known = shapes_of(theirs).known
    assert list(shapes_of(ours).known) == list(known)


def test_neither_tensorflow_nor_torch_is_imported() -> None:
    program = (
        "import sys, parity.inspection.report; "
        "print([name for name in ('tensorflow', 'torch') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def graph_of(*nodes: tuple[str, str, list[str]]) -> Any:
    """A `GraphDef` of names, operations and inputs."""
    message = GraphDef()
    for name, operation, inputs in nodes:
        message.node.add(name=name, op=operation, input=inputs)
    return message


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (graph_of(("a", "NoOp", []), ("a", "NoOp", [])), "two operations are called 'a'"),
        (graph_of(("a", "Relu", ["b"])), "'a' reads 'b', which is not there"),
        (graph_of(("a", "Relu", ["b"]), ("b", "Relu", ["a"])), "reads itself"),
        (graph_of(("a", "Relu", [])), "Relu 'a' is damaged"),
        (graph_of(("a", "Const", [])), "a Const holds no value"),
    ],
)
def test_a_graph_that_cannot_be_is_refused(message: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        shapes_of(Graph.of(message, "graph.pb"))


def test_an_operation_that_is_not_known_is_told() -> None:
    message = graph_of(("a", "MyOwn", []), ("b", "Relu", ["a"]))
    shapes = shapes_of(Graph.of(message, "graph.pb"))
    assert shapes.unknown == ["MyOwn"]
    assert shapes.known["b"][0].shape is None


@pytest.mark.parametrize(
    "content", [b"", b"no graph", b"\x0a\xff\xff\xff\xff", b"\x08\x01"]
)
def test_a_file_without_a_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "graph.pb"
    file.write_bytes(content)
    with pytest.raises(UserError):
        read(file)


def test_a_value_that_claims_too_much_memory_is_refused() -> None:
    message = GraphDef()
    node = message.node.add(name="a", op="Const")
    tensor = node.attr["value"].tensor
    tensor.dtype = 1
    tensor.float_val.extend([1.0, 2.0])
    tensor.tensor_shape.dim.add(size=1 << 40)
    with pytest.raises(UserError, match="a damaged value of float32"):
        shapes_of(Graph.of(message, "graph.pb"))


@pytest.mark.parametrize("dtype", ["qint8", "bfloat16", "string", "resource"])
def test_an_array_of_a_type_that_numpy_lacks_is_refused(
    tmp_path: Path, dtype: str
) -> None:
    stored = Stored(dtype=dtype, shape=(2,), shard=0, offset=0, size=2, parts=0, crc=0)
    checkpoint = Checkpoint(tmp_path / "a", 1, {"w": stored})
    with pytest.raises(UserError, match=f"'w' holds {dtype}, which is not read here"):
        checkpoint.array("w")


BOUND_MIB = 400
"""README: what a graph of 200,000 operations takes."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["many operations", "large constants"])
def test_what_is_read_takes_the_memory_that_the_readme_says(
    tmp_path: Path, kind: str
) -> None:
    message, file = GraphDef(), tmp_path / "graph.pb"
    if kind == "many operations":
        for number in range(MOST_OPERATIONS):
            inputs = [f"n{number - 1}"] if number else []
            message.node.add(name=f"n{number}", op="Relu", input=inputs)
        message.node[0].op = "Placeholder"
        message.node[0].attr["dtype"].type = 1
    else:
        for number in range(50):
            node = message.node.add(name=f"w{number}", op="Const")
            node.attr["dtype"].type = node.attr["value"].tensor.dtype = 1
            node.attr["value"].tensor.tensor_shape.dim.add(size=1 << 20)
            node.attr["value"].tensor.tensor_content = bytes(4 << 20)
    file.write_bytes(message.SerializeToString())
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from parity.inspection.report import inspect, lines\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10\n"
        "before = peak(); list(lines(inspect(Path(sys.argv[1])))); print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    twice = 2 * file.stat().st_size >> 20
    allowed = BOUND_MIB if kind == "many operations" else twice + 16
    assert int(done.stdout) <= allowed
