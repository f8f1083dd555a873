"""Batches of one's own loader can be scored, or one line says why not."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.nn.functional import one_hot

from mnistport import Classifier
from mnistport.errors import UserError
from mnistport.training.own_batches import pixels_alone, pixels_and_labels

PIXELS, LABELS = torch.rand(20, 784), torch.arange(20) % 10


def trainer_in(folder):
    return pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


class Loader:
    """Gives one batch, whatever it is."""

    def __init__(self, batch):
        self.batch = batch

    def __iter__(self):
        return iter([self.batch])

    def __len__(self):
        return 1


WRONG_PIXELS = {
    "images": (
        PIXELS.reshape(20, 28, 28),
        r"float32 \[20, 28, 28\]; expected pixels \[N, 784\], floating-point numbers "
        r"from 0 to 1; give pixels\.flatten\(1\)$",
    ),
    "images with a channel": (
        PIXELS.reshape(20, 1, 28, 28),
        r"float32 \[20, 1, 28, 28\]; .*; give pixels\.flatten\(1\)$",
    ),
    "bytes": ((PIXELS * 255).byte(), r"uint8 \[20, 784\]; .*; give pixels / 255$"),
    "images of bytes": (
        (PIXELS * 255).byte().reshape(20, 28, 28),
        r"uint8 \[20, 28, 28\]; .*; give pixels\.flatten\(1\) / 255$",
    ),
    "whole numbers": (PIXELS.long(), r"int64 \[20, 784\]; expected .* to 1$"),
    "other images": (torch.rand(20, 64), r"float32 \[20, 64\]; expected .* to 1$"),
    "one image": (PIXELS[0], r"float32 \[784\]; expected .* to 1$"),
    "no image": (PIXELS[:0], "the batch has no image; expected at least one"),
}

WRONG_LABELS = {
    "one-hot": (
        one_hot(LABELS, 10),
        r"labels are int64 \[20, 10\]; expected labels \[N\], whole numbers from 0 to 9; "
        r"give labels\.argmax\(1\) if they are one-hot$",
    ),
    "one-hot floats": (one_hot(LABELS, 10).float(), r"float32 \[20, 10\]; .*argmax\(1\)"),
    "a column": (LABELS[:, None], r"int64 \[20, 1\]; .*; give labels\.flatten\(\)$"),
    "floats": (LABELS.float(), r"labels are float32 \[20\]; .*; give labels\.long\(\)$"),
    "true or false": (LABELS > 4, r"labels are bool \[20\]; expected"),
    "too large": (LABELS + 1, r"go from 1 to 10; expected .* from 0 to 9$"),
    "negative": (LABELS - 1, r"go from -1 to 8; expected .* from 0 to 9$"),
    "too few": (LABELS[:7], "there are 7 labels for 20 images; expected one for each"),
    "too many": (LABELS.repeat(2), "there are 40 labels for 20 images"),
    "a list": (LABELS.tolist(), "the labels are a list of 20 items; expected"),
    "None": (None, "the labels are None; expected"),
}

WRONG_BATCHES = {
    "a dict": ({"image": PIXELS, "label": LABELS}, "the batch is a dict; expected"),
    "pixels alone": (PIXELS, r"the batch is float32 \[20, 784\]; expected \(pixels, lab"),
    "one part": ([PIXELS], r"the batch is \(float32 \[20, 784\]\); expected"),
    "three parts": (
        [PIXELS, LABELS, LABELS],
        r"is \(float32 \[20, 784\], int64 \[20\], int64 \[20\]\); expected",
    ),
    "arrays": ((np.zeros((2, 784)), np.zeros(2)), "the pixels are a ndarray; expected"),
}

WRONG = {
    **{name: ((wrong, LABELS), why) for name, (wrong, why) in WRONG_PIXELS.items()},
    **{name: ((PIXELS, wrong), why) for name, (wrong, why) in WRONG_LABELS.items()},
    **WRONG_BATCHES,
}


@pytest.mark.parametrize("command", ["test", "validate"])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_scored_is_refused_in_one_line(wrong, command, tmp_path):
    batch, reason = WRONG[wrong]
    with pytest.raises(UserError, match=reason) as error:
        getattr(trainer_in(tmp_path), command)(Classifier("softmax"), Loader(batch))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [*WRONG_PIXELS, "a dict", "arrays"])
def test_what_cannot_be_classified_is_refused_in_one_line(wrong, tmp_path):
    batch, reason = {**WRONG_PIXELS, **WRONG_BATCHES}[wrong]
    if wrong == "arrays":
        reason = r"the batch is \(a ndarray, a ndarray\); expected pixels \[N, 784\]"
    with pytest.raises(UserError, match=reason) as error:
        trainer_in(tmp_path).predict(Classifier("softmax"), Loader(batch))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [*WRONG_PIXELS, *WRONG_LABELS])
def test_score_refuses_the_same(wrong):
    pixels, reason = WRONG_PIXELS.get(wrong, (PIXELS, ""))
    labels, reason = WRONG_LABELS.get(wrong, (LABELS, reason))
    with pytest.raises(UserError, match=reason):
        Classifier("softmax").score(pixels, labels)


@pytest.mark.parametrize(
    "batch",
    [PIXELS, [PIXELS], (PIXELS, LABELS), (PIXELS, one_hot(LABELS)), PIXELS.double()],
    ids=["pixels", "one part", "with labels", "with other labels", "float64"],
)
def test_labels_are_not_needed_to_classify(batch, tmp_path):
    module = Classifier("softmax")
    (classes,) = trainer_in(tmp_path).predict(module, Loader(batch))
    assert torch.equal(classes, module(PIXELS).argmax(1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64])
@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.float16])
def test_any_whole_and_any_floating_point_numbers_will_do(dtype, precision, tmp_path):
    module = Classifier("softmax")
    pixels = PIXELS.to(precision)
    batch = (pixels, LABELS.to(dtype))
    trainer_in(tmp_path).test(module, Loader(batch), verbose=False)
    expected = int((module(pixels.float()).argmax(1) == LABELS).sum())
    assert module.last_score == (expected, 20)
    assert module.score(*batch) == (expected, 20)


def test_the_checks_copy_nothing_that_is_right():
    pixels, labels = pixels_and_labels((PIXELS, LABELS))
    assert pixels is PIXELS and labels is LABELS
    assert pixels_alone(PIXELS) is PIXELS
