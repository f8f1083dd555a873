"""`parity convert`: a training state between TF1 Saver checkpoints, Lightning checkpoints and safetensors.

The state is weights, optimizer slots, the optimizer's scalars (Adam's beta powers) and the step. In between it is
held in TF1's names and layouts, float32, bit for bit.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mnistport.errors import UserError
from parity import references, tf1
from parity.reference import Array, Reference
from parity.runners import Answer, Theirs

Format = Literal["tf1", "lightning", "safetensors"]


@dataclass(frozen=True, kw_only=True)
class State:
    """A training state in TF1's names: "W_conv1", "W_conv1/m", "beta1_power"."""

    arrays: Answer
    step: int

    @property
    def dtype(self) -> str:
        """The precision it was trained in."""
        wide = any(array.dtype == np.float64 for array in self.arrays.values())
        return "float64" if wide else "float32"


def format_of_source(path: Path) -> Format:
    """What a checkpoint is.

    Raises:
        UserError: It is not there, or none of the three.
    """
    if Path(f"{path}.index").is_file():
        return "tf1"
    if path.suffix == ".index" and path.is_file():
        raise UserError(f"{path}: a TF1 checkpoint goes by its prefix; use {path.with_suffix('')}")
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint (neither {path}.index, TF1's, nor a file of that name)")
    if path.suffix == ".safetensors":
        return "safetensors"
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            return "lightning"
    raise UserError(f"{path}: neither a TF1, nor a Lightning, nor a safetensors checkpoint")


def format_of_target(path: Path, source: Format) -> Format:
    """What to write: safetensors by its suffix; otherwise the other framework's format."""
    if path.suffix == ".safetensors":
        return "safetensors"
    if source == "safetensors":
        raise UserError(f"{path}: say which format to write, --to tf1 or --to lightning")
    return "lightning" if source == "tf1" else "tf1"


# TF1 ------------------------------------------------------------------------------------------------------------------


def read_tf1(path: Path, reference: Reference, step: int | None) -> State:
    """A Saver checkpoint of the reference's graph, or of the tutorial's own program with its unnamed variables.

    Variables are found by name; where the program's names are others (a scope around each layer), by shape, and among
    equal shapes by the number TF gave them. That must leave exactly one way.

    Raises:
        UserError: What is stored does not match; both lists of names and shapes are given.
    """
    tf = tf1.load()
    reader = tf.train.load_checkpoint(str(path))
    stored = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
    dtypes = reader.get_variable_to_dtype_map()
    theirs = Theirs(reference, "float64" if tf.float64 in dtypes.values() else "float32")
    graph = {state: variable.op.name for state, variable in theirs.variables.items()}
    shapes = {state: tuple(variable.shape.as_list()) for state, variable in theirs.variables.items()}
    names = _matched(graph, shapes, stored, str(path))
    arrays = {state: np.asarray(reader.get_tensor(name)) for state, name in names.items()}
    return State(arrays=arrays, step=_step_of_tf1(path, arrays, step))


def _matched(
    graph: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], stored: Mapping[str, tuple[int, ...]], where: str
) -> dict[str, str]:
    """State name -> name in the checkpoint."""
    if all(stored.get(name) == shapes[state] for state, name in graph.items()):
        spare = set(stored) - set(graph.values()) - {"global_step"}
        if not spare:
            return dict(graph)
    renamed = _by_structure(graph, shapes, stored)
    if renamed is None:
        ours = ", ".join(f"{graph[state]} {list(shapes[state])}" for state in graph)
        found = ", ".join(f"{name} {list(shape)}" for name, shape in sorted(stored.items()))
        raise UserError(f"{where}: the stored variables do not match the network. Expected: {ours}. Stored: {found}")
    return renamed


def _by_structure(
    graph: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], stored: Mapping[str, tuple[int, ...]]
) -> dict[str, str] | None:
    """Match weights by shape, several of one shape by number; slots by their weight's name. None unless all fits."""
    slots = {state for state in graph if state.rpartition("/")[0] in graph}
    endings = {graph[state].rpartition("/")[2] for state in slots}
    weights = [state for state in graph if state not in slots and shapes[state] != ()]
    named = [name for name in stored if stored[name] != () and name.rpartition("/")[2] not in endings]
    renamed: dict[str, str] = {}
    for shape in {shapes[state] for state in weights}:
        wanted = [state for state in weights if shapes[state] == shape]
        found = sorted((name for name in named if stored[name] == shape), key=_number)
        stems = {re.sub(r"_\d+$", "", name) for name in found}
        if len(found) != len(wanted) or (len(found) > 1 and len(stems) > 1):
            return None
        renamed.update(zip(wanted, found, strict=True))
    for state in slots:
        owner, _, _ = state.rpartition("/")
        renamed[state] = f"{renamed[owner]}/{graph[state].rpartition('/')[2]}"
    for state in set(graph) - slots - set(weights):
        ends = [name for name in stored if name.rpartition("/")[2] == graph[state].rpartition("/")[2]]
        if len(ends) != 1:
            return None
        renamed[state] = ends[0]
    fits = all(stored.get(name) == shapes[state] for state, name in renamed.items())
    return renamed if fits and set(renamed.values()) == set(stored) - {"global_step"} else None


def _number(name: str) -> int:
    """TF numbers repeated names: Variable, Variable_1, ..., Variable_10."""
    found = re.search(r"_(\d+)$", name)
    return int(found[1]) if found else 0


def _step_of_tf1(path: Path, arrays: Mapping[str, Array], given: int | None) -> int:
    """From --step, the prefix's own "-20000", or Adam's beta2 power."""
    if given is not None:
        return given
    if found := re.search(r"-(\d+)$", path.name):
        return int(found[1])
    power = float(arrays["beta2_power"]) if "beta2_power" in arrays else 0.0
    if power > np.finfo(np.float32).tiny:
        return round(math.log(power) / math.log(float(np.float32(0.999)))) - 1
    raise UserError(f"{path}: the step is not known from the name or the optimizer; give --step")


def write_tf1(path: Path, reference: Reference, state: State) -> None:
    """A Saver checkpoint that the reference's graph, and so the tutorial's unnamed variables, can restore."""
    theirs = Theirs(reference, state.dtype)
    _complete(theirs, state)
    theirs.session.run(theirs.initializer)
    theirs.load(state.arrays)
    save(theirs, path)


def save(theirs: Theirs, path: Path) -> None:
    """What `tf.train.Saver` writes of a session; the index last, since it makes the checkpoint visible."""
    tf = tf1.load()
    with tempfile.TemporaryDirectory(dir=path.resolve().parent) as folder, theirs.graph.as_default():
        saver = tf.train.Saver(list(theirs.variables.values()))
        saver.save(theirs.session, str(Path(folder) / path.name), write_meta_graph=False, write_state=False)
        for part in sorted(Path(folder).iterdir(), key=lambda part: part.suffix == ".index"):
            os.replace(part, path.parent / part.name)


def _complete(theirs: Theirs, state: State) -> None:
    missing = sorted(set(theirs.variables) - set(state.arrays))
    if missing:
        raise UserError(
            f"the checkpoint lacks {', '.join(missing)}; a checkpoint of {theirs.reference.name} has them all"
        )


# Lightning ------------------------------------------------------------------------------------------------------------


def read_lightning(path: Path, reference: Reference) -> State:
    """A checkpoint of `mnistport fit`.

    Raises:
        UserError: It is another network's, or lacks the optimizer.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    network = checkpoint.get("mnistport", {}).get("network")
    if network != reference.name:
        raise UserError(f"{path}: holds the network {network!r}, not {reference.name!r}; use --network {network}")
    weights = {name.removeprefix("net."): tensor.numpy() for name, tensor in checkpoint["state_dict"].items()}
    optimizer = checkpoint["optimizer_states"][0]
    keys = [name for name in weights if name in set(_parameter_names(reference))]
    slots = {key: optimizer["state"].get(number, {}) for number, key in enumerate(keys)}
    arrays = _to_theirs(reference, weights, slots, optimizer["param_groups"][0])
    return State(arrays=arrays, step=int(checkpoint["global_step"]))


def _parameter_names(reference: Reference) -> list[str]:
    return [name for name, _ in reference.port.module().named_parameters()]


def _to_theirs(
    reference: Reference,
    weights: Mapping[str, Array],
    slots: Mapping[str, Mapping[str, torch.Tensor]],
    group: Mapping[str, torch.Tensor],
) -> Answer:
    """Ours by our names -> a state in TF1's."""
    arrays = reference.weights.to_theirs(weights)
    for row in reference.weights.weights:
        for theirs, ours in reference.slots.per_weight.items():
            if row.ours in slots:
                slot = slots[row.ours][ours].numpy()
                arrays[f"{row.theirs}/{theirs}"] = np.ascontiguousarray(row.layout.backward(slot))
    for theirs, ours in reference.slots.shared.items():
        arrays[theirs] = np.asarray(group[ours])
    return arrays


def write_lightning(path: Path, reference: Reference, state: State) -> None:
    """A checkpoint that `mnistport fit --ckpt_path` goes on from."""
    from parity.references.mnist_trainer import save_checkpoint

    partial = path.with_name(path.name + ".partial")
    try:
        save_checkpoint(partial, reference, state.arrays, state.step, state.dtype)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


# safetensors ----------------------------------------------------------------------------------------------------------


def read_safetensors(path: Path, reference: Reference) -> State:
    """What `write_safetensors` wrote.

    Raises:
        UserError: It is another network's, or not ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            about = file.metadata() or {}
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a mapping
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file that can be read ({error})") from error
    if about.get("network") != reference.name or "step" not in about:
        raise UserError(
            f"{path}: holds {about.get('network', 'no named network')!r}, not {reference.name!r} with a step"
        )
    weights = {key: array for key, array in stored.items() if not key.startswith("optimizer.")}
    slots: dict[str, dict[str, torch.Tensor]] = {}
    group: dict[str, torch.Tensor] = {}
    for key, array in stored.items():
        if key.startswith("optimizer.") and (name := key.removeprefix("optimizer.").split("/"))[-1]:
            tensor = torch.from_numpy(np.array(array))
            if len(name) == 1:
                group[name[0]] = tensor
            else:
                slots.setdefault(name[1], {})[name[0]] = tensor
    return State(arrays=_to_theirs(reference, weights, slots, group), step=int(about["step"]))


def write_safetensors(path: Path, reference: Reference, state: State) -> None:
    """Our names and layouts: "conv1.weight", "optimizer.m/conv1.weight", "optimizer.beta1_power"; the step beside."""
    from safetensors.numpy import save_file

    mapped = {row.theirs: row for row in reference.weights.weights}
    tensors = reference.weights.to_ours({name: state.arrays[name] for name in mapped})
    for name, array in state.arrays.items():
        owner, _, kind = name.rpartition("/")
        if name in mapped:
            continue
        if name in reference.slots.shared:
            tensors[f"optimizer.{reference.slots.shared[name]}"] = np.asarray(array)
        else:
            row = mapped[owner]
            slot = np.ascontiguousarray(row.layout.forward(array))
            tensors[f"optimizer.{reference.slots.per_weight[kind]}/{row.ours}"] = slot
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, {"network": reference.name, "step": str(state.step)})
    os.replace(partial, path)


# The command ----------------------------------------------------------------------------------------------------------


def network_of(path: Path, kind: Format) -> str | None:
    """The network a checkpoint says it holds, if it does."""
    if kind == "lightning":
        name = torch.load(path, map_location="cpu", weights_only=True).get("mnistport", {}).get("network")
        return None if name is None else str(name)
    if kind == "safetensors":
        from safetensors import safe_open

        with safe_open(path, "np") as file:
            return (file.metadata() or {}).get("network")
    return None


def convert(
    source: Path, target: Path, *, reference: Reference | None = None, to: Format | None = None, step: int | None = None
) -> State:
    """Read one format, write another; what was converted.

    Args:
        source: A TF1 prefix, a Lightning or a safetensors file.
        target: What to write; nothing is overwritten.
        reference: Whose state it is; None where the source says so itself.
        to: The format to write; None: safetensors by its suffix, else the other framework's.
        step: The step, where a TF1 checkpoint does not tell.

    Raises:
        UserError: The source does not match the network, or the target exists or cannot be written.
    """
    kind = format_of_source(source)
    wanted = to or format_of_target(target, kind)
    if target.exists() or Path(f"{target}.index").exists():
        raise UserError(f"{target}: exists already; nothing is overwritten, name another")
    if not target.resolve().parent.is_dir():
        raise UserError(f"{target}: its folder does not exist")
    if reference is None:
        name = network_of(source, kind)
        if name is None:
            raise UserError(f"{source}: does not say which network it holds; add --network NAME (`parity list`)")
        reference = references.get(name)
    readers = {"lightning": read_lightning, "safetensors": read_safetensors}
    state = read_tf1(source, reference, step) if kind == "tf1" else readers[kind](source, reference)
    writers = {"tf1": write_tf1, "lightning": write_lightning, "safetensors": write_safetensors}
    writers[wanted](target, reference, state)
    return state
