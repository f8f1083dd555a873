"""Rows of the weight map for layers that TF1 and torch store differently.

    WeightMap(*lstm("rnn/basic_lstm_cell", "lstm", inputs=3, units=8), ...)

This file needs NumPy, but neither torch nor TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.weights import Held, Weight

GATES = (0, 2, 1, 3)
"""Where TF1's gates i, j, f, o stand among those of `nn.LSTM`, which are i, f, g, o."""
FORGET = 2
"""The number of the forget gate among TF1's gates."""


def lstm(
    theirs: str,
    ours: str,
    *,
    inputs: int,
    units: int,
    forget_bias: float = 1.0,
    layer: str = "l0",
) -> Iterator[Weight | Held]:
    """The rows of a `BasicLSTMCell`, or a plain `LSTMCell`, and a layer of `nn.LSTM`.

    TF1 has one kernel `[inputs + units, 4 * units]` for inputs and outputs. torch has two
    weights, `[4 * units, inputs]` and `[4 * units, units]`. The gates stand in another
    order. TF1's cell adds `forget_bias` to the forget gate, and torch's bias has it
    inside. torch has a second bias. It has to stay 0 and must not be trained, as else
    both biases would move: `lstm.bias_hh_l0.requires_grad_(False)`.

    Args:
        theirs: The cell's scope, in front of "/kernel" and "/bias".
        ours: The path of the `nn.LSTM`.
        inputs: Numbers in one input.
        units: Numbers in one output.
        forget_bias: The cell's argument of this name.
        layer: The end of the names of torch's tensors, such as "l0_reverse".
    """
    for number, place in enumerate(GATES):
        gate = f"{number * units}:{(number + 1) * units}"
        rows = f"{place * units}:{(place + 1) * units}"
        plus = forget_bias if number == FORGET else 0.0
        kernel = f"{theirs}/kernel"
        yield Weight(
            f"{kernel}[:{inputs}, {gate}]",
            f"{ours}.weight_ih_{layer}[{rows}]",
            "i o -> o i",
        )
        yield Weight(
            f"{kernel}[{inputs}:, {gate}]",
            f"{ours}.weight_hh_{layer}[{rows}]",
            "i o -> o i",
        )
        yield Weight(
            f"{theirs}/bias[{gate}]", f"{ours}.bias_ih_{layer}[{rows}]", plus=plus
        )
    yield Held(f"{ours}.bias_hh_{layer}", 0.0, "TF1's cell has one bias")
