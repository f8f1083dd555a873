"""The class that reads a folder in the layout of the Hugging Face hub.

It needs the package huggingface_hub, so nothing else in `mnistport` imports this file at
its head.
"""

from __future__ import annotations

from typing import Any

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from mnistport import networks


class HubNetwork(nn.Module, PyTorchModelHubMixin, library_name="mnistport"):
    """A tutorial's network: pixels `[N, 784]` in [0, 1] -> scores `[N, 10]`.

    `HubNetwork.from_pretrained(FOLDER or "owner/name")` reads what
    `mnistport export --format hf` wrote. It returns the network in evaluation mode.
    Different from the library's own default: a weight that is missing is an error. It
    would keep its random value otherwise.

    Args:
        network: The name of a registered network (see `mnistport list`).
        options: The options of the network.

    Raises:
        UserError: There is no such network or option.
    """

    def __init__(self, network: str, options: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.net = networks.make_module(networks.get(network), options or {})

    def forward(self, pixels: Tensor) -> Tensor:
        scores: Tensor = self.net(pixels)
        return scores

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **known: Any) -> Any:
        network = super()._from_pretrained(strict=strict, **known)
        return network.eval()  # not every version of the library does this
