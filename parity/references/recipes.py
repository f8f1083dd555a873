"""The numbers of the eight tutorials' trainings, typed from the tutorials.

Nothing here comes from `mnistport`, whose own recipes are in `mnistport/networks/`. TF1's
side takes its batches, its validation part and its scaling from here. The check `recipe`
compares each number with what `mnistport fit` really uses and, where the graph holds it,
with what the graph really uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mnistport.errors import UserError
from parity.reference import Array, Feeds
from parity.references.originals import (
    batches_in_file_order,
    divided,
    multiplied,
    next_batches,
    random_batches,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TutorialRecipe:
    """How a tutorial trains.

    Attributes:
        program: Its input program, a function of `parity.references.originals`: (images,
            labels, batch size, seed) -> batches without end.
        batch_size: Images in a batch.
        steps: Training steps. None if the tutorial counts epochs.
        epochs: Epochs. None if the tutorial counts steps.
        validation: The end of the training file at which the images are that it does not
            train on.
        pixels: A function: bytes -> float32 pixels in [0, 1].
        kernel: The TF kernel that updates a weight.
        numbers: What the kernel is given, by the kernel's names.
        keep_prob: The fraction kept by each dropout that acts, by the draw's name.
    """

    program: Callable[[Array, Array, int, int], Iterator[Feeds]]
    batch_size: int
    steps: int | None = None
    epochs: int | None = None
    validation: Literal["beginning", "end"] = "beginning"
    pixels: Callable[[Array], Array] = multiplied
    kernel: str
    numbers: Mapping[str, float]
    keep_prob: Mapping[str, float] = field(default_factory=dict)


SOFTMAX_BEGINNERS = TutorialRecipe(
    program=next_batches,
    batch_size=100,
    steps=1000,
    kernel="ApplyGradientDescent",
    numbers={"alpha": 0.5},
)
SOFTMAX = TutorialRecipe(
    program=next_batches,
    batch_size=100,
    steps=1000,
    kernel="ApplyGradientDescent",
    numbers={"alpha": 0.5},
)
DEEP = TutorialRecipe(
    program=next_batches,
    batch_size=50,
    steps=20000,
    kernel="ApplyAdam",
    numbers={"lr": 1e-4, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    keep_prob={"dropout": 0.5},
)
HVASS = TutorialRecipe(
    program=random_batches,
    batch_size=64,
    steps=10000,
    validation="end",
    pixels=divided,
    kernel="ApplyAdam",
    numbers={"lr": 1e-4, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
)
THREE_MINUTE_ADAM = TutorialRecipe(
    program=next_batches,
    batch_size=100,
    epochs=15,
    kernel="ApplyAdam",
    numbers={"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    keep_prob={"dropout": 0.7},
)
THREE_MINUTE_RMSPROP = TutorialRecipe(
    program=next_batches,
    batch_size=100,
    epochs=15,
    kernel="ApplyRMSProp",
    numbers={"lr": 0.001, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-10},
    keep_prob={"dropout": 0.7},
)
# Its three dropouts never act, because `is_training` is passed as `noise_shape`.
THREE_MINUTE_LAYERS = TutorialRecipe(
    program=next_batches,
    batch_size=100,
    epochs=15,
    kernel="ApplyAdam",
    numbers={"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
)
CONVNET = TutorialRecipe(
    program=batches_in_file_order,
    batch_size=128,
    epochs=100,
    kernel="ApplyRMSProp",
    numbers={"lr": 0.001, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-10},
    keep_prob={"l1": 0.8, "l2": 0.8, "l3": 0.8, "l4": 0.5},
)

RECIPES = {
    "softmax_beginners": SOFTMAX_BEGINNERS,
    "softmax": SOFTMAX,
    "deep": DEEP,
    "hvass": HVASS,
    "three_minute_adam": THREE_MINUTE_ADAM,
    "three_minute_rmsprop": THREE_MINUTE_RMSPROP,
    "three_minute_layers": THREE_MINUTE_LAYERS,
    "convnet": CONVNET,
}


def of(name: str) -> TutorialRecipe:
    """The recipe of a tutorial.

    Raises:
        UserError: Nobody has typed its numbers yet.
    """
    if name not in RECIPES:
        raise UserError(
            f"the numbers of {name!r} as its tutorial has them are not known; "
            "add them to RECIPES in parity/references/recipes.py"
        )
    return RECIPES[name]
