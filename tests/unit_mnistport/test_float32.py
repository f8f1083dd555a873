"""How numbers are rounded."""

import pytest
import torch

from mnistport.float32 import float32, use_tf32


def test_a_hyper_parameter_acts_as_its_float32_value():
    assert float32(1e-4) == 9.999999747378752e-05
    assert float32(0.5) == 0.5


@pytest.mark.parametrize(
    ("allowed", "matmul", "convolution"),
    [(False, "highest", "ieee"), (True, "high", "tf32")],
)
def test_float32_is_float32_unless_tf32_is_asked_for(
    allowed, matmul, convolution
) -> None:
    try:
        use_tf32(allowed)
        assert torch.get_float32_matmul_precision() == matmul
        assert torch.backends.cudnn.conv.fp32_precision == convolution
        # torch's older switches can still be read, and agree.
        assert (
            torch.backends.cudnn.allow_tf32
            is torch.backends.cuda.matmul.allow_tf32
            is allowed
        )
    finally:
        use_tf32(False)
