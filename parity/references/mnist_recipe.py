"""The numbers of a training on both sides: what `mnistport fit` uses, and the tutorial's.

Our numbers are taken from a run of the command, right before its first step. The
tutorial's are `parity.references.recipes` and `parity.references.originals`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from mnistport.data.sources import ImageSet, scale, split
from mnistport.layers import Dropout
from mnistport.network import Network
from parity.reference import Array, Recipe, Start
from parity.references import mnist_data, recipes
from parity.references.original_files import Files
from parity.references.originals import validation_size
from parity.references.recipes import TutorialRecipe
from parity.sides import Answer

STREAM_STEPS = 1200
"""More than the steps in an epoch of each tutorial, which are at most 1,100."""

SMALL_BATCHES, SMALL_STEPS = 3.5, 20
"""Batches in an epoch of a small set, in which batches span two epochs, and steps."""

WITHOUT_FILE = ", where no configuration file is given"

NAMES = {
    "ApplyGradientDescent": {"alpha": "lr"},
    "ApplyAdam": {"lr": "lr", "beta1": "beta1", "beta2": "beta2", "epsilon": "epsilon"},
    "ApplyRMSProp": {"lr": "lr", "rho": "decay", "momentum": "mu", "epsilon": "epsilon"},
}
"""TF's kernels by name: what each calls its numbers -> what our optimizers call them."""


def recipe(network: Network) -> Recipe:
    """The numbers of a tutorial's training, on both sides."""
    typed = recipes.of(network.name)
    return Recipe(
        ours=lambda start: ours(network, start),
        theirs=lambda start: theirs(typed, start),
        numbers={typed.kernel: typed.numbers},
        keep_prob=typed.keep_prob,
        scalars=partial(scalars, typed),
    )


# Theirs ---------------------------------------------------------------------------------


def theirs(typed: TutorialRecipe, start: Start) -> Answer:
    """What the tutorial's author wrote."""
    files = mnist_data.original_data(**start.data_set)
    num_images = len(files.train_labels)
    num_train = num_images - validation_size(num_images)
    answer: Answer = {
        "batch size": np.asarray(typed.batch_size),
        **_length(typed.steps, typed.epochs),
        **_length(typed.steps, typed.epochs, WITHOUT_FILE),
        "steps in an epoch": np.asarray(num_train // typed.batch_size),
    }
    for name, value in typed.numbers.items():
        ours_name = NAMES[typed.kernel][name]
        answer[f"{ours_name} of the optimizer"] = np.asarray(np.float32(value))
    for draw, keep in typed.keep_prob.items():
        answer[f"keep_prob of {draw}"] = np.asarray(np.float32(keep))
    answer["dropouts that act"] = np.asarray(len(typed.keep_prob))
    answer["scaling of the bytes 0 to 255"] = typed.pixels(np.arange(256, dtype=np.uint8))
    answer |= _their_images(typed, files)
    for name, (size, steps) in streams(num_images, typed.batch_size).items():
        answer[name] = _their_stream(typed, size, start.seed, steps)
    return answer


def scalars(typed: TutorialRecipe, steps: int) -> Answer:
    """The powers of Adam's betas after some steps. Other kernels have no scalars.

    They begin with the betas. Each step multiplies them in float32, and TF's threads
    replace denormal numbers by 0.
    """
    if typed.kernel != "ApplyAdam":
        return {}
    powers: Answer = {}
    for name in ("beta1", "beta2"):
        beta = power = np.float32(typed.numbers[name])
        for _ in range(steps):
            power = np.float32(power * beta)
            if power < np.finfo(np.float32).tiny:
                power = np.float32(0)
        powers[f"{name}_power"] = np.asarray(power)
    return powers


def _length(steps: int | None, epochs: int | None, where: str = "") -> Answer:
    """The length of the training. -1 stands for a number that is not given."""
    return {
        f"steps{where}": np.asarray(-1 if steps is None else steps),
        f"epochs{where}": np.asarray(-1 if epochs is None else epochs),
    }


def _their_images(typed: TutorialRecipe, files: Files) -> Answer:
    """Fingerprints of the images, and the labels, of each part of the data set."""
    size = validation_size(len(files.train_labels))
    head, tail = slice(size), slice(size, None)
    if typed.validation == "end":
        head, tail = slice(-size, None), slice(-size)
    parts = {
        "validation": (files.train_images[head], files.train_labels[head]),
        "training": (files.train_images[tail], files.train_labels[tail]),
        "test": (files.test_images, files.test_labels),
    }
    answer: Answer = {}
    for part, (images, labels) in parts.items():
        table = typed.pixels(np.arange(256, dtype=np.uint8))
        answer |= _part(part, (table[block] for block in _blocks(images)), labels)
    return answer


def _their_stream(typed: TutorialRecipe, num_images: int, seed: int, steps: int) -> Array:
    """The images of each step, from the tutorial's own program: int64 `[steps, B]`."""
    labels = np.zeros(num_images, np.uint8)
    program = typed.program(numbered(num_images), labels, typed.batch_size, seed)
    batches = [np.rint(feeds["x"] * 255) for feeds in islice(program, steps)]
    return np.stack([numbers_of(batch) for batch in batches])


# Ours -----------------------------------------------------------------------------------


def ours(network: Network, start: Start) -> Answer:
    """What `mnistport fit` has right before its first step."""
    from parity.references.mnist_commands import watched
    from parity.references.mnist_watcher import Watch

    answer: Answer = {}

    def look(trainer: Any) -> None:
        answer.update(_seen(network, start, trainer))

    watch = Watch(reference=start.reference, look=look)
    watched(network, start, watch, [])
    return answer


def _seen(network: Network, start: Start, trainer: Any) -> Answer:
    """What stands in the trainer, its module, its data and its optimizer."""
    module, data = trainer.lightning_module, trainer.datamodule
    loader = trainer.train_dataloader
    stream = loader.stream
    answer: Answer = {
        "batch size": np.asarray(stream.batch_size),
        **_length(trainer.max_steps, trainer.max_epochs),
        **_length(data.recipe.steps, data.recipe.epochs, WITHOUT_FILE),
        "steps in an epoch": np.asarray(loader.plan.steps_per_epoch),
        **_our_optimizer(recipes.of(network.name).kernel, trainer.optimizers[0]),
        **_our_dropouts(start, module.net),
    }
    every_byte = np.arange(256, dtype=np.uint8)
    answer["scaling of the bytes 0 to 255"] = scale(every_byte, data.recipe.scaling)
    num_images = len(data.validation[1]) + len(module.labels)
    for name, (size, steps) in streams(num_images, stream.batch_size).items():
        answer[name] = _our_stream(data.recipe, stream, size, steps)
    fit_images = module.pixels.float().cpu().numpy(), module.labels.cpu().numpy()
    parts = {"validation": data.validation, "training": fit_images, "test": data.test}
    for part, (images, labels) in parts.items():
        answer |= _part(part, _blocks(np.asarray(images)), np.asarray(labels))
    return answer


def _our_optimizer(kernel: str, optimizer: Any) -> Answer:
    (group,) = optimizer.param_groups
    return {
        f"{name} of the optimizer": np.asarray(np.float32(group[name]))
        for name in NAMES[kernel].values()
        if name in group
    }


def _our_dropouts(start: Start, net: Any) -> Answer:
    """The dropouts that act, by TF1's names, and their number."""
    acting = {
        path: layer
        for path, layer in net.named_modules()
        if isinstance(layer, Dropout) and layer.keep_prob < 1
    }
    answer: Answer = {"dropouts that act": np.asarray(len(acting))}
    for draw in start.reference.draws:
        if draw.ours in acting:
            keep = np.float32(acting[draw.ours].keep_prob)
            answer[f"keep_prob of {draw.theirs}"] = np.asarray(keep)
    return answer


def _our_stream(recipe: Any, stream: Any, num_images: int, steps: int) -> Array:
    """The images of each step, from the stream that `fit` has, or one of its kind."""
    labels = np.zeros(num_images, np.uint8)
    train, _ = split(ImageSet(numbered(num_images), labels), recipe.split)
    if len(train) != stream.num_images:
        stream = type(stream)(len(train), stream.batch_size, stream.seed)
    return numbers_of(train.images[stream.indices(0, steps)])


# Both -----------------------------------------------------------------------------------

_BLOCK = 4096


def streams(num_images: int, batch_size: int) -> dict[str, tuple[int, int]]:
    """The sets and the number of steps over which the streams are compared, by name."""
    small = int(SMALL_BATCHES * batch_size * 12 / 11)
    return {
        f"images of {STREAM_STEPS:,} steps": (num_images, STREAM_STEPS),
        f"images of {SMALL_STEPS} steps of a set of {small}": (small, SMALL_STEPS),
    }


def numbered(num_images: int) -> Array:
    """Images of three pixels that hold the image's number in the file: uint8 `[N, 3]`."""
    numbers = np.arange(num_images)
    parts = [numbers >> 16, numbers >> 8 & 255, numbers & 255]
    return np.stack(parts, axis=1).astype(np.uint8)


def numbers_of(images: Array) -> Array:
    """The numbers that `numbered` images hold: `[..., 3]` to int64 `[...]`."""
    high, middle, low = np.moveaxis(images.astype(np.int64), -1, 0)
    return np.asarray(high << 16 | middle << 8 | low)


def _blocks(images: Array) -> Iterator[Array]:
    """The images in blocks, because all at once take much memory."""
    for begin in range(0, len(images), _BLOCK):
        yield images[begin : begin + _BLOCK]


def _part(part: str, blocks: Iterator[Array], labels: Array) -> Answer:
    """Labels, and a fingerprint of each image, in which every bit of a pixel counts."""
    prints = [fingerprints(block) for block in blocks]
    return {
        f"number of {part} images": np.asarray(len(labels)),
        f"labels of {part} images": labels.astype(np.int64),
        f"pixels of {part} images, a fingerprint for each": np.concatenate(prints),
    }


def fingerprints(images: Array) -> Array:
    """A whole number for each image, uint64 `[N]`. It changes with any single pixel.

    Each pair of float32 pixels is taken as a number of 64 bits, multiplied by an odd
    number of its own, and summed. Overflow wraps around.
    """
    words = np.ascontiguousarray(images, np.float32).view(np.uint64)
    random = np.random.default_rng(0)
    odd = random.integers(0, 2**63, words.shape[1], dtype=np.uint64) * np.uint64(2)
    return np.asarray((words * (odd + np.uint64(1))).sum(axis=1, dtype=np.uint64))
