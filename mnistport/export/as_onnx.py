"""A network as an ONNX file."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch

from mnistport.errors import UserError
from mnistport.export.programs import BATCH, refused, traced
from mnistport.export.proof import Answer, refuse_other_scores, refuse_other_tensors
from mnistport.export.trained import Trained, description
from mnistport.files import written_whole

NEEDS = ("onnx", "onnxscript", "onnxruntime")
"""Packages that are not installed with mnistport."""


def write(trained: Trained, out: Path) -> str:
    """Write the file, load it with onnxruntime, and compare the scores of images.

    The input is called "pixels", the output "scores".

    Returns:
        What was found, as a sentence.

    Raises:
        UserError: The scores are not the network's, or nothing can be written.
    """
    import onnxruntime

    with written_whole(out) as partial:
        with refused("torch.onnx", trained), _silent():
            _write(partial, trained)
        with refused("onnxruntime", trained):
            answer = _loaded(partial, trained)
            tensors = _refuse_other_weights(partial, trained)
            found = refuse_other_scores("onnxruntime", trained, answer)
    return f"run by onnxruntime {onnxruntime.__version__}: {found}; {tensors}"


def _write(file: Path, trained: Trained) -> None:
    program = torch.onnx.export(
        traced(trained),
        (torch.rand(2, 784),),
        dynamo=True,
        input_names=["pixels"],
        output_names=["scores"],
        dynamic_shapes=({0: BATCH},),
        external_data=False,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(description(trained))
    program.model.doc_string = f"{trained.name}; see the metadata"
    program.save(str(file), external_data=False)


def _loaded(file: Path, trained: Trained) -> Answer:
    """The file as onnxruntime reads it: pixels `[N, 784]` -> scores `[N, 10]`."""
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(file), full_check=True)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    inputs = [(one.name, one.shape) for one in session.get_inputs()]
    told = session.get_modelmeta().custom_metadata_map
    if inputs != [("pixels", [BATCH, 784])] or told != description(trained):
        raise UserError(
            f"onnxruntime: the inputs are {inputs}, and the metadata {told}. "
            "The export is wrong, and was not written"
        )
    return lambda pixels: session.run(["scores"], {"pixels": pixels})[0]


def _refuse_other_weights(file: Path, trained: Trained) -> str:
    """Compare the tensors that kept their names. Returns what was found.

    No image may reach some of them, such as those of a unit that is always 0.
    """
    import onnx
    from onnx.numpy_helper import to_array

    parts = onnx.load(str(file)).graph.initializer
    ours = {part.name: to_array(part) for part in parts}
    weights = trained.weights()
    both = [name for name in weights if name in ours]
    if both:
        refuse_other_tensors(
            "onnx", {name: ours[name] for name in both}, {n: weights[n] for n in both}
        )
    return f"{len(both)} of {len(weights)} tensors are equal bit for bit"


@contextmanager
def _silent() -> Iterator[None]:
    """Leave out what torch.onnx and onnxscript log, or print, of their own work."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
