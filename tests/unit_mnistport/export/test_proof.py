"""What the comparison of an export notices."""

import numpy as np
import pytest
import torch

from mnistport.errors import UserError
from mnistport.export import proof
from mnistport.export.proof import BATCHES, images, refuse_other_scores


def answer_of(trained):
    return lambda pixels: trained.scores(torch.from_numpy(pixels)).numpy()


def test_the_images_are_digits_and_noise_in_which_every_pixel_is_used():
    pixels = images("divide")
    assert pixels.shape == (sum(BATCHES), 784)
    assert pixels.dtype == np.float32
    assert pixels.min() == 0 and pixels.max() == 1
    assert (np.ptp(pixels, axis=0) > 0.5).all()


def test_the_network_itself_is_found_equal(hvass):
    found = refuse_other_scores("nobody", hvass, answer_of(hvass), exact=True)
    assert (found.images, found.largest, found.allowed) == (64, 0, 0)
    assert "equal bit for bit" in str(found)
    found = refuse_other_scores("nobody", hvass, answer_of(hvass))
    assert 0 < found.largest < found.allowed < 1e-4
    assert "in batches of 1, 2 and 61, are off from float64 by" in str(found)


def moved(by):
    def change(scores):
        scores[-1, 3] += by
        return scores

    return change


@pytest.mark.parametrize(
    ("change", "exact", "refused"),
    [
        (moved(1e-6), False, ""),  # rounding
        (moved(1e-4), False, "its scores are off from the network in float64 by 0.0001"),
        (moved(1e-6), True, "of 640 values of scores differ"),
        (moved(float("nan")), False, "are off from the network in float64 by nan"),
        (moved(float("nan")), True, "of 640 values of scores differ"),
        (lambda scores: scores[:, ::-1].copy(), False, "its scores are off"),
        (lambda scores: scores.astype(np.float64), False, "scores is ('float64'"),
        (lambda scores: scores[:1], False, "1 rows of scores for 2 images"),
        (lambda scores: scores[:, :9], False, "scores is ('float32', [64, 9])"),
    ],
)
def test_a_difference_is_refused(hvass, change, exact, refused):
    def answer(pixels):
        return change(answer_of(hvass)(pixels))

    if not refused:
        refuse_other_scores("it", hvass, answer, exact=exact)
        return
    with pytest.raises(UserError) as raised:
        refuse_other_scores("it", hvass, answer, exact=exact)
    assert refused in str(raised.value)


def test_a_network_whose_scores_are_nan_is_not_compared(hvass):
    with torch.no_grad():
        hvass.net.fc2.bias[0] = float("nan")
    with pytest.raises(UserError, match="export an earlier checkpoint"):
        refuse_other_scores("it", hvass, answer_of(hvass), exact=True)


def test_the_figures_are_those_with_which_parity_judges():
    tolerances = pytest.importorskip("parity.tolerances")
    assert proof.OWN_ERROR_TIMES == tolerances.OWN_ERROR_TIMES
    assert proof.FLOOR_ULP == tolerances.FLOOR_ULP
