"""Steps of small networks for the tests of the engines."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from mnistport import networks
from mnistport.draws import KeyedDraws
from mnistport.step import Step

BATCH = 6
IMAGES = 40


class Odd(nn.Module):
    """A network with what the eight tutorials do not have.

    Buffers that change, torch's own dropout, a weight that is not used, and a frozen one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, stride=3)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(4 * 81, 10)
        self.unused = nn.Parameter(torch.ones(3))
        self.last.bias.requires_grad_(False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        image = self.norm(self.first(pixels.view(-1, 1, 28, 28)))
        return self.last(self.dropout(image).flatten(1))


def step_of(
    name: str,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    *,
    module: nn.Module | None = None,
    pure: bool = True,
    optimizer: Callable[..., Optimizer] | None = None,
    **options: object,
) -> Step:
    """A step of a network on 40 invented images, about as dark as those of MNIST."""
    torch.manual_seed(0)
    network = networks.get("deep" if name == "odd" else name)
    if module is None:
        module = Odd() if name == "odd" else network.module(**options)
    module = module.to(device, dtype)
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    pixels = (torch.rand(IMAGES, 784) / 8).to(device, dtype)
    return Step(
        module=module,
        loss=lambda output, labels: network.loss(output, labels).sum() / BATCH,
        optimizer=(optimizer or network.recipe.optimizer)(trained),
        draws=KeyedDraws(module, 3, BATCH, slice(None)),
        pixels=pixels,
        labels=torch.randint(10, (IMAGES,)).to(device),
        num_images=BATCH,
        pure=pure,
    )


def state(step: Step) -> dict[str, torch.Tensor]:
    """Copies of everything that a step changes, by name."""
    found = {name: tensor.detach() for name, tensor in step.module.state_dict().items()}
    for number, slots in enumerate(step.optimizer.state.values()):
        found |= {f"{number}.{slot}": value for slot, value in slots.items()}
    group = step.optimizer.param_groups[0]
    tensors = {
        name: value for name, value in group.items() if isinstance(value, torch.Tensor)
    }
    return found | tensors


def apart(one: Step, other: Step) -> float:
    """The largest |difference| of any weight, slot or scalar."""
    ours, theirs = state(one), state(other)
    assert ours.keys() == theirs.keys()
    gaps = [
        (ours[name].cpu() - theirs[name].cpu()).abs().max().double() for name in theirs
    ]
    return float(torch.stack(gaps).max())


def batches(steps: int) -> torch.Tensor:
    """Which images each step sees: `[steps, BATCH]`."""
    return torch.randint(
        IMAGES, (steps, BATCH), generator=torch.Generator().manual_seed(2)
    )
