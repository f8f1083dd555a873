"""What stands before networks: sound, files, texts."""

from __future__ import annotations

from collections.abc import Sequence

from parity.artefacts.graph import Node
from parity.artefacts.shapes.known import Axis, Known, rule


@rule("DecodeWav")
def decode_wav(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Samples by channels, and the rate."""
    samples, channels = node.get("desired_samples", -1), node.get("desired_channels", -1)
    shape = tuple(None if size < 0 else size for size in (samples, channels))
    return [Known("float32", shape), Known("int32", ())]


@rule("AudioSpectrogram")
def spectrogram(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Channels by windows by frequencies."""
    size, stride = node.get("window_size"), node.get("stride")
    shape = inputs[0].shape or (None, None)
    samples, channels = shape
    count: Axis = None
    if samples is not None:
        count = 0 if samples < size else 1 + (samples - size) // stride
    half = 1 << max((size - 1).bit_length() - 1, 0)
    return [Known("float32", (channels, count, 1 + half))]


@rule("Mfcc")
def mfcc(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Channels by windows by coefficients."""
    shape = inputs[0].shape or (None, None, None)
    return [Known("float32", (*shape[:2], node.get("dct_coefficient_count")))]


@rule("ReadFile", "StringJoin", "AsString", "StringToHashBucketFast")
def text(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Texts, or numbers that stand for them."""
    kind = "int64" if node.op == "StringToHashBucketFast" else "string"
    return [Known(kind, inputs[0].shape)]


@rule("ShardedFilename")
def file_name(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The name of a file."""
    return [Known("string", ())]
