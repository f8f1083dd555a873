"""No command of `parity` prints a traceback for what a user typed or for a file he had.

Each row is a command line: `{good}` is a sound Lightning checkpoint of softmax, `{tf1}` a
sound TF1 checkpoint of it, `{made}` a file with the row's content, `{new}` a free name.
The answer is one line on standard error, status 2, and nothing new on disk.
"""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import warnings
import zipfile
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parity import references
from parity.cli import main
from parity.convert import save
from parity.convert.selection import FACTS
from parity.convert.tf1_writing import write_arrays
from parity.reference import Facts
from parity.references import get
from parity.sides import Ours, Theirs

pytestmark = pytest.mark.tf

WRONG_LINES = [
    "inspect",
    "verify softmax --options=--",
    "verify softmax --json=--",
    "verify softmax --seed=--",
    "inspect {tf1} --json=--",
    "inspect {new}",
    "inspect {good}",
    "inspect {tf1} --json {new}/below",
    "inspect /dev/null",
    "inspect .",
    "convert",
    "convert {good}",
    "convert {good} {good}",
    "convert {good} {new} --network deep",
    "convert {good} {new} --network nope",
    "convert {good} {new} --to onnx",
    "convert {good} {new} --step 3",
    "convert {good} {new} --step -1",
    "convert {good} {new} --options a=1",
    "convert {good} {new} --options fc_size",
    "convert {good} {new} --options '{{'",
    "convert {good} {new} --like {new}",
    "convert {good} {new} --like {good}",
    "convert {good} {new} --like {tf1} --ignore nothing",
    "convert {good} {new} --like {tf1} --map W",
    "convert {good} {new} --like {tf1} --map W=",
    "convert {good} {new} --like {tf1} --map Q=Variable",
    "convert {good} {new} --map W=Variable",
    "convert {good} {new} --ignore x",
    "convert {good} {new}/below/a/file/that/is/not/there --to safetensors",
    "convert {good} /proc/nothing/x --to tf1",
    "convert {tf1} {new}",
    "convert {tf1} {new} --network deep",
    "convert {tf1} {new} --network softmax_beginners --options a=b",
    "convert {tf1} {new} --network softmax --map '*=x*y'",
    "convert {tf1} {new} --network softmax --map W=Variable_1",
    "convert {tf1} {new} --network softmax --ignore 'V*'",
    "convert {tf1} {new} --network softmax --like {tf1}",
    "convert {tf1}.index {new}",
    "convert {tf1}.data-00000-of-00001 {new}",
    "convert . {new} --network softmax",
    "convert / {new} --network softmax",
    "convert /dev/null {new} --network softmax",
    "convert /proc/self {new} --network softmax",
    "convert {long} {new} --network softmax",
    "convert {good} {long}",
    "convert {good} {long} --to safetensors",
    "convert {tf1} {long} --network softmax",
    "convert {good} {long:.250}",
    "convert {good} {long:.240}",
    "convert {good} {long:.250} --to safetensors",
    "convert {good} {new} --network {long}.py",
    "convert {good} {new} --like {long}",
    "convert {good} new[1]",
    "convert {good} new.index",
    "convert {good} new.index --to safetensors",
    "convert {good} new.meta",
    "convert {tf1} new.data-00000-of-00001 --network softmax",
    "convert {tf1} new-00000-of-00001 --network softmax",
    "convert {tf1} checkpoint --network softmax",
    "convert {good} {new} --like {tf1}.index",
    "convert {good} {new} --like {tf1}.data-00000-of-00001",
    "convert {good} {new} --like .",
    "convert {tf1} {new} --network softmax --map 'zzz*=q*'",
    "convert {tf1} {new} --network softmax --map W=nonsense --map W=Variable",
    "convert {tf1} {new} --network softmax --map W=Variable --map W=Variable",
    "convert {tf1} {new} --network softmax --map W=Variable --map Variable=Variable",
    "convert {tf1} {new} --network softmax --map 'V*=a*' --map '*=b*'",
    "convert {tf1} {new} --network softmax --step 8 --weights-only",
    "convert {tf1} {new} --network softmax --step 99999999999999999999999",
    "convert {tf1} {new} --network hvass --options fc_size=8 --options fc_size=16",
    "verify {long}.py",
    "verify hvass --options fc_size=8,fc_size=16",
    'verify hvass --options \'{{"fc_size": 8, "fc_size": 16}}\'',
    "verify hvass --options fc_size=8 --options fc_size=16",
    "verify softmax --json {long}",
    "verify softmax --out {long}",
    "lockstep softmax --steps 3 --out {long}",
    "verify nope",
    "verify softmax softmax --checks nope",
    "verify softmax --options a=1",
    "verify hvass --options fc_size=0",
    "verify hvass --options fc_size=x",
    "verify hvass --options keep_prob=2",
    "verify hvass --options pooling=min",
    "verify hvass --options '[1]'",
    "verify softmax --dtype float16",
    "verify softmax --seed x",
    "verify softmax --device cuda:99",
    "verify softmax --data.source cifar",
    "verify softmax --data.source mnist --data.dir {new}",
    "verify softmax --json /",
    "verify softmax --out /proc/x",
    "verify {good}",
    "verify softmax:REFERENCE",
    "verify os:path",
    "verify json:",
    "verify :",
    "verify ''",
    "lockstep",
    "lockstep softmax",
    "lockstep softmax --steps 0",
    "lockstep softmax --steps many",
    "lockstep softmax --steps 3 --every 0",
    "lockstep softmax --steps 3 --nudge --floor-steps 0",
    "lockstep softmax --steps 3 --out /proc/x",
    "lockstep softmax --steps 3 --options a=1",
    "lockstep nope --steps 3",
    "list softmax",
    "--nope",
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound checkpoint in each framework's format."""
    folder = tmp_path_factory.mktemp("sound")
    reference = get("softmax")
    ours = Ours.made(reference, "float32").own_state()
    assert reference.trainer is not None
    said = Facts(network="softmax")
    reference.trainer.write(folder / "good.ckpt", reference, ours, 5, said)
    theirs = Theirs(reference, "float32")
    theirs.load(theirs.initial)
    save(theirs, folder / "theirs-5")
    return folder


@pytest.fixture
def refused(
    sound: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Runs a command line that must be refused. Returns the line that says why."""
    monkeypatch.chdir(tmp_path)

    def run(line: str, made: Path | str = "") -> str:
        names = {
            "good": sound / "good.ckpt",
            "tf1": sound / "theirs-5",
            "new": "new",
            "made": made,
            "long": "n" * 300,
        }
        before = sorted(tmp_path.rglob("*"))
        try:
            status = main(shlex.split(line.format(**names)))
        except SystemExit as stop:  # argparse's way
            status = int(str(stop.code))
        error = capsys.readouterr().err
        assert (status, error.count("\n")) == (2, 1), error
        assert "Traceback" not in error
        assert sorted(tmp_path.rglob("*")) == before
        return error

    return run


@pytest.mark.thinned
@pytest.mark.parametrize("line", WRONG_LINES)
def test_a_wrong_line_is_answered_with_one_line(line: str, refused: Any) -> None:
    assert refused(line).startswith("parity")


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], bytes]:
    """A sound Lightning checkpoint after a change."""

    def make(sound: Path) -> bytes:
        checkpoint = torch.load(sound / "good.ckpt", weights_only=True)
        change(checkpoint)
        file = io.BytesIO()
        torch.save(checkpoint, file)
        return file.getvalue()

    return make


def safetensors(header: Any, data: bytes = b"") -> Callable[[Path], bytes]:
    """A safetensors file with this header, which may lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return lambda _: len(text).to_bytes(8, "little") + text + data


def hyper(**values: Any) -> Callable[[Path], bytes]:
    """A Lightning checkpoint with these hyper-parameters."""
    return changed(lambda c: c["hyper_parameters"].update(values))


def weight(change: Callable[[torch.Tensor], object]) -> Callable[[Path], bytes]:
    """A Lightning checkpoint with another weight."""

    def put(checkpoint: dict[str, Any]) -> None:
        weights = checkpoint["state_dict"]
        with warnings.catch_warnings(action="ignore"):
            weights["net.fc.weight"] = change(weights["net.fc.weight"])

    return changed(put)


def that_says(**said: Any) -> Callable[[Path], bytes]:
    """A sound safetensors file, but for what it says of its run."""
    facts = {"network": "softmax", "options": {}, "others": {}, "optimizer": {}}
    text = json.dumps({**facts, "step": 3, **said})
    return tensors_that_say(network="softmax", step="3", facts=text)


def tensors_that_say(**metadata: str) -> Callable[[Path], bytes]:
    """A safetensors file of softmax with these metadata."""
    from safetensors.numpy import save

    arrays = {"fc.weight": np.zeros((10, 784), "f4"), "fc.bias": np.zeros(10, "f4")}
    return lambda _: save(arrays, metadata)


def a_zip(_: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", "cos\nsystem\n(S'touch owned'\ntR.")
    return file.getvalue()


F32 = {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]}
SAID = {"network": "softmax", "step": "3"}
FILES: dict[str, Callable[[Path], bytes]] = {
    "empty.ckpt": lambda _: b"",
    "text.ckpt": lambda _: b"hello",
    "zip.ckpt": a_zip,
    "cut.ckpt": lambda sound: (sound / "good.ckpt").read_bytes()[:2000],
    "zeros.ckpt": lambda sound: b"PK" + bytes(5000),
    "list.ckpt": changed(lambda c: c.clear()),
    "weights.ckpt": changed(lambda c: c.pop("state_dict")),
    "step.ckpt": changed(lambda c: c.pop("global_step")),
    "step-text.ckpt": changed(lambda c: c.update(global_step="x")),
    "step-none.ckpt": changed(lambda c: c.update(global_step=None)),
    "state-text.ckpt": changed(lambda c: c.update(state_dict="x")),
    "state-list.ckpt": changed(lambda c: c.update(state_dict=[1])),
    "weight-text.ckpt": changed(lambda c: c["state_dict"].update({"net.fc.bias": "x"})),
    "weight-more.ckpt": changed(lambda c: c["state_dict"].update(x=torch.ones(1))),
    "network.ckpt": changed(lambda c: c["mnistport"].update(network="nope")),
    "network-list.ckpt": changed(lambda c: c["mnistport"].update(network=[1])),
    "ours.ckpt": changed(lambda c: c.update(mnistport=3)),
    "no-ours.ckpt": changed(lambda c: c.pop("mnistport")),
    "hyper.ckpt": changed(lambda c: c.update(hyper_parameters="x")),
    "options.ckpt": changed(lambda c: c["hyper_parameters"].update(options=[1])),
    "options-text.ckpt": changed(lambda c: c["hyper_parameters"].update(options="x")),
    "rate.ckpt": changed(lambda c: c["hyper_parameters"].update(learning_rate="x")),
    "rate-tensor.ckpt": changed(
        lambda c: c["hyper_parameters"].update(learning_rate=torch.ones(1))
    ),
    "optimizer.ckpt": changed(lambda c: c.update(optimizer_states="x")),
    "optimizer-list.ckpt": changed(lambda c: c.update(optimizer_states=[1])),
    "optimizer-state.ckpt": changed(lambda c: c["optimizer_states"][0].pop("state")),
    "optimizer-slot.ckpt": changed(
        lambda c: c["optimizer_states"][0].update(state={0: 1})
    ),
    "optimizer-groups.ckpt": changed(
        lambda c: c["optimizer_states"][0].update(param_groups=[])
    ),
    "callbacks.ckpt": changed(lambda c: c.update(callbacks=[1])),
    "empty.safetensors": lambda _: b"",
    "text.safetensors": lambda _: b"hello, this is a text",
    "nothing.safetensors": safetensors({}),
    "network.safetensors": safetensors({"__metadata__": {"network": "nope"}}),
    "step.safetensors": safetensors({"__metadata__": {"network": "softmax"}}),
    "lying.safetensors": safetensors(
        {"__metadata__": SAID, "fc.bias": {**F32, "data_offsets": [0, 2**40]}}
    ),
    "short.safetensors": safetensors({"__metadata__": SAID, "fc.bias": F32}, bytes(39)),
    "weight.safetensors": safetensors({"__metadata__": SAID, "fc.bias": F32}, bytes(40)),
    "huge.safetensors": lambda _: (2**62).to_bytes(8, "little") + b"{}",
    "json.safetensors": safetensors(b"{'a': }"),
    "facts.safetensors": safetensors({"__metadata__": {**SAID, "facts": "[]"}}),
    "facts-text.safetensors": safetensors({"__metadata__": {**SAID, "facts": "{"}}),
    "facts-options.safetensors": safetensors(
        {
            "__metadata__": {
                **SAID,
                "facts": json.dumps(
                    {"network": None, "options": 3, "others": {}, "step": 1}
                ),
            }
        }
    ),
    "step-negative.ckpt": changed(lambda c: c.update(global_step=-3)),
    "step-huge.ckpt": changed(lambda c: c.update(global_step=2**70)),
    "key.ckpt": changed(lambda c: c["state_dict"].update({3: torch.ones(1)})),
    "twice.ckpt": changed(
        lambda c: c["state_dict"].update({"fc.bias": c["state_dict"]["net.fc.bias"]})
    ),
    "rate-huge.ckpt": hyper(learning_rate=10**400),
    "rate-nan.ckpt": hyper(learning_rate=float("nan")),
    "rate-negative.ckpt": hyper(learning_rate=-1.0),
    "rate-bool.ckpt": hyper(learning_rate=True),
    "whole.ckpt": weight(lambda w: w.to(torch.int32)),
    "bool.ckpt": weight(lambda w: w > 0),
    "sparse.ckpt": weight(lambda w: w.to_sparse()),
    "csr.ckpt": weight(lambda w: w.to_sparse_csr()),
    "quantized.ckpt": weight(lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8)),
    "order.ckpt": changed(
        lambda c: c["optimizer_states"][0]["param_groups"][0].update(params=[1, 0])
    ),
    "step-negative.safetensors": that_says(step=-5),
    "step-infinite.safetensors": that_says(step=float("inf")),
    "step-text.safetensors": that_says(step="3"),
    "step-half.safetensors": that_says(step=3.5),
    "step-other.safetensors": that_says(step=4),
    "network-other.safetensors": that_says(network="deep"),
    "rate-text.safetensors": that_says(
        others={"hyper_parameters": {"learning_rate": "x"}}
    ),
    "rate-list.safetensors": that_says(
        others={"hyper_parameters": {"learning_rate": [1]}}
    ),
    "others.safetensors": that_says(others={"global_step": {}}),
    "others-network.safetensors": that_says(others={"mnistport": {"network": "deep"}}),
    "optimizer-bool.safetensors": that_says(optimizer={"lr": True}),
    "optimizer-huge.safetensors": that_says(optimizer={"lr": 10**400}),
    "digits.safetensors": tensors_that_say(network="softmax", step="9" * 5000),
    "arabic.safetensors": tensors_that_say(network="softmax", step="\u0663"),
    "cut.index": lambda sound: (sound / "theirs-5.index").read_bytes()[:-30],
    "empty.index": lambda _: b"",
    "alone.index": lambda sound: (sound / "theirs-5.index").read_bytes(),
    "bits.index": lambda sound: bytes(
        np.frombuffer((sound / "theirs-5.index").read_bytes(), np.uint8) ^ 0x11
    ),
    "v1": lambda sound: (sound / "theirs-5.index").read_bytes()[-60:],
}


@pytest.mark.thinned
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("named", [False, True], ids=["", "--network"])
def test_a_damaged_file_is_answered_with_one_line(
    name: str, named: bool, refused: Any, sound: Path, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(FILES[name](sound))
    source = file.with_suffix("") if file.suffix == ".index" else file
    line = "convert {made} {new} --to " + ("lightning" if "tensors" in name else "tf1")
    refused(line + (" --network softmax" if named else ""), source)
    assert not (tmp_path / "owned").exists()


PORT = """
import sys
from dataclasses import replace

import torch

from parity import references
from parity.reference import Stage

SOUND = references.get({tiny!r})
PORT = replace(SOUND.port, name="wrong")
DATA = SOUND.data(0)


def no(*_):
    raise RuntimeError("no")


def leave(*_):
    sys.exit(0)


def close(*_):
    raise GeneratorExit


def raised(error):
    raise error


class Nothing(torch.nn.Module):
    def forward(self, image):
        return None


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.__dict__ = SOUND.port.module().__dict__
        self.nothing = Nothing()

    def forward(self, image):
        self.nothing(image)
        return type(SOUND.port.module()).forward(self, image)


def asserted(tf):
    endpoints = SOUND.build(tf)
    stages = dict(endpoints.stages)
    small = tf.Assert(tf.reduce_all(stages["fc"] > 1e9), ["too small"])
    with tf.control_dependencies([small]):
        stages["fc"] = tf.identity(stages["fc"])
    return replace(endpoints, stages=stages)


def built(**changes):
    return lambda tf: replace(SOUND.build(tf), **changes)


def with_variable(shape):
    def build(tf):
        endpoints, texts = SOUND.build(tf), tf.fill(shape, "" if shape == [] else 0.0)
        more = {{"q": tf.Variable(texts, trainable=False)}}
        return replace(endpoints, variables={{**endpoints.variables, **more}})
    return build


def fed(**changes):
    # Data whose batches are changed.
    def batch(step):
        feeds = DATA.batch(step)
        return {{name: changes.get(name, lambda x: x)(feeds[name]) for name in feeds}}
    return lambda seed: replace(DATA, batch=batch)


REFERENCE = replace(SOUND, **{{"port": PORT, {change}}})
"""
MAPPING = " Endpoints.feeds to arrays; stopped at wrong weights float64"
AT_WEIGHTS = "; stopped at wrong weights float64"
NOT_READ = {
    "'build': no": f"line 16: RuntimeError: no{AT_WEIGHTS}",
    "'build': lambda tf: None": "Reference(build=...) returns a NoneType; it has to",
    "'build': asserted": "TF1's graph cannot be run: InvalidArgumentError: "
    f"'Assert/Assert' assertion failed: [too small]{AT_WEIGHTS}",
    "'data': lambda seed: 3": "wrong: Reference(data=...) returns a int; it has to",
    "'data': fed(x=lambda x: x[:, :5])": "TF1's graph cannot be run: ValueError: Cannot "
    "feed value of shape (8, 5, 7, 2) for Tensor",
    "'data': fed(y_=lambda y: y[:3])": "cannot be run: InvalidArgumentError: "
    "'softmax_cross_entropy_with_logits_sg' logits and labels must be broadcastable",
    "'data': fed(x=torch.from_numpy)": "the data give Tensor for the feed 'x'; give a",
    "'data': fed(x=lambda x: x.astype(str))": "the data give <U32 for the feed 'x'",
    "'data': lambda seed: replace(DATA, evaluation={'x': DATA.evaluation['y_'], "
    "'y_': DATA.evaluation['y_']})": "Cannot feed value of shape (60, 3) for Tensor "
    "Placeholder:0, which has shape (None, 7, 7, 2); stopped at wrong accuracy float64",
    "'port': replace(PORT, module=no)": f"line 16: RuntimeError: no{AT_WEIGHTS}",
    "'port': replace(PORT, module=lambda: 3)": "wrong: Port(module=...) returns a int",
    "'port': replace(PORT, optimizer=lambda w: 3)": "Port(optimizer=...) returns a int",
    "'port': replace(PORT, forward=lambda m, f: (m(f['x']), 1))": "Port(forward=...) "
    "returns (a tensor, a int); it has to return a Tensor",
    "'port': replace(PORT, loss=lambda o, f: 1.0)": "Port(loss=...) returns a float",
    "'port': replace(PORT, module=Tiny), 'stages': [Stage('conv', 'nothing')]": "the "
    "stage 'conv': 'nothing' returns a NoneType; name a submodule that returns a tensor",
    "'port': None": "Reference(port=...) is None; it has to be a Port",
    "'port': replace(PORT, name='')": "Port(name=...) is ''; it has to be a text",
    "'port': replace(PORT, module=SOUND.port.module())": "Port(module=...) is of the "
    "type Tiny; it has to be a function",
    "'port': replace(PORT, module=torch.nn.LazyLinear)": "missing 1 required positional",
    "'weights': list(SOUND.weights.rows)": "Reference(weights=...) is a list of Weight",
    "'stages': {'conv': 'conv'}": "(stages=...) is a dict of str; it has to be a list of",
    "'stages': [Stage('conv', 'conv', 'a -> a')]": "Stage(layout=...) is 'a -> a'; it",
    "'draws': None": "Reference(draws=...) is None; it has to be a list of Draw",
    "'slots': None": "Reference(slots=...) is None; it has to be a Slots",
    "'positive': 'W_fc'": "(positive=...) is 'W_fc'; it has to be a collection of names",
    "'trained_steps': -1": "(trained_steps=...) is -1; it has to be a whole number",
    "'data': DATA": "Reference(data=...) is of the type Data; it has to be a function",
    "'data': lambda: DATA": "but 1 was given; stopped at the data of wrong",
    "'data': lambda seed: replace(DATA, batch=lambda step: [1])": "Data(batch=...) gives "
    f"a list of int; it has to give a mapping from the names in{MAPPING}",
    "'data': lambda seed: replace(DATA, batch=lambda step: {})": "(batch=...) gives a "
    f"dict of nothing; it has to give a mapping from the names in{MAPPING}",
    "'data': lambda seed: replace(DATA, batch=lambda step: next(iter(())))": "line 76: "
    f"StopIteration{AT_WEIGHTS}",
    "'data': fed(x=lambda x: x[:0])": "gives no example for the feed 'x', as its shape "
    f"is (0, 7, 7, 2); its first axis is that of the examples{AT_WEIGHTS}",
    "'data': lambda seed: replace(DATA, evaluation={})": "Data(evaluation=...) gives a "
    "dict of nothing; it has to give",
    "'data': lambda seed: replace(DATA, evaluation={'x': DATA.evaluation['x']})": "do "
    f"not give the same feeds: ['y_']{AT_WEIGHTS}",
    "'data': lambda seed: replace(DATA, labels=DATA.labels[1:])": "Data(labels=...) has "
    "the shape (59,), and there are 60 examples in Data(evaluation=...)",
    "'data': lambda seed: replace(DATA, labels=[1])": "Data(labels=...) is a list of int",
    "'data': lambda seed: raised(BrokenPipeError('gone'))": "line 28: BrokenPipeError: "
    "gone; stopped at the data of wrong",
    "'build': lambda tf: raised(ValueError('a\\x1b[31m\\nb'))": "line 28: ValueError: a "
    f"[31m b{AT_WEIGHTS}",
    "'build': built(loss=None)": "Endpoints(loss=...) is None; it has to be a tensor",
    "'build': built(train_op=None)": "(train_op=...) is None; it has to be an operation",
    "'build': built(optimizer=3)": "(optimizer=...) is 3; it has to be a tf.train.Opt",
    "'build': built(variables=[])": "is a list of nothing; it has to be a mapping from",
    "'build': built(training={'rate': 0.5})": "is a dict of float; it has to be a map",
    "'build': with_variable([0, 3])": "the variable 'q' has the shape (0, 3); it needs",
    "'build': with_variable([])": "'q' holds texts; only numbers can be compared",
}
"""What stands in a reference's place, and what is said of it."""
LEFT = "line 20: ends the program (SystemExit: 0); a port has to return, or to raise"
AT_FORWARD = "; stopped at wrong forward float64"
LEAVES = {
    "'build': leave": (LEFT, AT_FORWARD),
    "'data': leave": (LEFT, "; stopped at the data of wrong"),
    "'data': lambda seed: replace(DATA, batch=leave)": (LEFT, AT_FORWARD),
    "'port': replace(PORT, module=leave)": (LEFT, AT_FORWARD),
    "'port': replace(PORT, optimizer=leave)": (LEFT, AT_FORWARD),
    "'port': replace(PORT, forward=leave)": (LEFT, AT_FORWARD),
    "'port': replace(PORT, forward=close)": ("line 24: GeneratorExit", AT_FORWARD),
    "'port': replace(PORT, loss=leave)": (LEFT, AT_FORWARD),
    "'port': replace(PORT, update=leave)": (LEFT, "; stopped at wrong step float64"),
}
"""Functions of a port that end the program, and what is said of them."""
DIFFERS = {
    "'port': replace(PORT, forward=no)": ("forward", "conv"),
    "'port': replace(PORT, loss=no)": ("loss", "loss"),
    "'port': replace(PORT, loss=lambda o, f: o.sum(1))": ("loss", "loss"),
    "'port': replace(PORT, update=no)": ("step", "W_conv after 1 step"),
}
"""Wrong functions of a port, the check that tells each, and what it names."""


def write_port(folder: Path, change: str) -> Path:
    tiny = str(Path(__file__).parent / "tiny_port.py")
    (folder / "port.py").write_text(PORT.format(tiny=tiny, change=change))
    return folder / "port.py"


@pytest.mark.thinned
@pytest.mark.parametrize("change", NOT_READ)
def test_what_cannot_be_read_ends_with_status_2_and_says_where(
    change: str, tmp_path: Path, refused: Any
) -> None:
    port = write_port(tmp_path, change)
    line = refused("verify {made} --checks weights,accuracy --dtype float64", port)
    assert NOT_READ[change] in line


@pytest.mark.parametrize("change", LEAVES)
@pytest.mark.parametrize("command", ["verify", "lockstep"])
def test_a_port_that_ends_the_program_is_not_taken_for_a_sound_one(
    command: str, change: str, tmp_path: Path, refused: Any
) -> None:
    port = write_port(tmp_path, change)
    said, where = LEAVES[change]
    options = {"verify": "--checks forward,step", "lockstep": "--steps 2 --out {new}"}
    with contextlib.redirect_stdout(io.StringIO()):
        line = refused(f"{command} {{made}} {options[command]} --dtype float64", port)
    assert said in line
    if command == "verify":
        assert where in line


@pytest.mark.parametrize("command", ["verify {}", "lockstep {} --steps 2"])
@pytest.mark.parametrize("named", ["leaving:REFERENCE", "leaving_plug_in"])
def test_a_module_that_ends_the_program_is_named(
    command: str,
    named: str,
    tmp_path: Path,
    refused: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = EntryPoint("leaving_plug_in", "leaving:REFERENCE", "parity.references")
    monkeypatch.setattr(references, "plug_ins", lambda: {entry.name: entry})
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit()\n")
    monkeypatch.syspath_prepend(tmp_path)
    line = refused(command.format(named))
    assert "leaving.py, line 2: ends the program (SystemExit)" in line


@pytest.mark.thinned
@pytest.mark.parametrize("change", DIFFERS)
def test_a_port_that_is_wrong_ends_with_status_1(
    change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check, name = DIFFERS[change]
    checks = "forward,loss" if check == "loss" else check
    words = ["verify", str(write_port(tmp_path, change)), "--dtype", "float64"]
    assert main([*words, "--checks", checks]) == 1
    said = f"wrong · {check}: '{name}' cannot be judged"
    assert said in capsys.readouterr().out


def saved(arrays: dict[str, Any], path: Path) -> Path:
    """Softmax' TF1 checkpoint with changes to its arrays, some of which are facts."""
    own = {"Variable": np.zeros((784, 10), "f4"), "Variable_1": np.zeros(10, "f4")}
    if FACTS in arrays:
        arrays[FACTS] = np.array(arrays[FACTS].encode(), dtype=object)
    write_arrays(path, {**own, **arrays})
    return path


def facts(**said: Any) -> str:
    first = {"network": "softmax", "options": {}, "others": {}, "optimizer": {}}
    return json.dumps({**first, "step": 3, **said})


DAMAGED_TF1: dict[str, dict[str, Any]] = {
    "vector": {"global_step": np.zeros(3, np.int64)},
    "text": {"global_step": np.array(b"x", dtype=object)},
    "nan": {"global_step": np.float32("nan")},
    "infinite": {"global_step": np.float32("inf")},
    "negative": {"global_step": np.int64(-4)},
    "half": {"global_step": np.float32(3.5)},
    "bool": {"global_step": np.bool_(True)},
    "huge": {"global_step": np.int64(2**62)},
    "whole weight": {"Variable": np.zeros((784, 10), np.int32)},
    "bool weight": {"Variable_1": np.zeros(10, bool)},
    "facts infinite": {FACTS: facts(step=float("inf"))},
    "facts negative": {FACTS: facts(step=-5)},
    "facts text": {FACTS: facts(step="3")},
    "facts rate": {FACTS: facts(others={"hyper_parameters": {"learning_rate": "x"}})},
    "facts rates": {FACTS: facts(others={"hyper_parameters": {"learning_rate": [1]}})},
    "facts others": {FACTS: facts(others={"global_step": {}})},
    "facts network": {FACTS: facts(network="softmax_beginners")},
    "facts contradicted": {FACTS: facts(), "global_step": np.int64(4)},
}


@pytest.mark.thinned
@pytest.mark.parametrize("name", DAMAGED_TF1)
def test_a_damaged_tf1_checkpoint_is_answered_with_one_line(
    name: str, refused: Any, tmp_path: Path
) -> None:
    source = saved({**DAMAGED_TF1[name]}, tmp_path / "damaged-3")
    line = refused("convert {made} {new} --network softmax --to lightning", source)
    assert line.startswith(f"parity: {source}: ")


@pytest.mark.parametrize("kept", [0, 100, 31390])
@pytest.mark.parametrize("line", ["{made} {new}", "{good} {new} --like {made}"])
def test_shards_that_are_cut_are_answered_with_one_line(
    kept: int, line: str, refused: Any, tmp_path: Path
) -> None:
    source = saved({}, tmp_path / "cut-3")
    (shard,) = tmp_path.glob("cut-3.data-*")
    shard.write_bytes(shard.read_bytes()[:kept])
    more = " --network softmax" * ("--like" not in line)
    assert "cannot be read" in refused(f"convert {line}{more}", source)


@pytest.mark.parametrize("name", ["rate-nan.ckpt", "rate-huge.ckpt", "options.ckpt"])
def test_the_file_that_is_wrong_is_named(
    name: str, refused: Any, sound: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(FILES[name](sound))
    assert refused("convert {made} {new}", name).startswith(f"parity: {name}: ")


def test_no_code_for_colours_is_in_the_line(refused: Any, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 3), tmp_path / "module.pt")
    line = refused("convert {made} {new} --network softmax", "module.pt")
    assert line.rstrip("\n").isprintable()
