"""The tensors at torch's functions with a kink, whoever calls these functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from parity.reference import Array

RETURNED = ("relu", "clamp", "clamp_min", "hardtanh", "threshold", "maximum", "elu")
"""Functions whose result shows the side of the kink."""
GIVEN = ("max_pool2d_with_indices", "max_pool2d", "constant_pad_nd", "leaky_relu")
"""Functions whose argument does. A padded image has other axes than TF1's."""


class SeenAtKinks(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, it copies the tensors at functions with a kink.

    Attributes:
        seen: The copies, in the order of the calls.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[Array] = []

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, and copy its argument or its result."""
        name = function.overloadpacket.__name__.rstrip("_")
        if name in GIVEN:
            self._keep(args[0])
        result = function(*args, **(kwargs or {}))
        if name in RETURNED:
            self._keep(result)
        return result

    def _keep(self, tensor: Tensor) -> None:
        self.seen.append(tensor.detach().cpu().numpy().copy())
