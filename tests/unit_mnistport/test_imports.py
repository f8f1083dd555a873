"""torchmetrics is imported when it is used, and is then what it would have been."""

import subprocess
import sys

import pytest

from mnistport.imports import delay_torchmetrics

LIGHTNING = """
import sys
from mnistport.imports import delay_torchmetrics
delay_torchmetrics()
import torchmetrics
from pytorch_lightning.core.module import Metric, MetricCollection
assert torchmetrics.__version__[0].isdigit()
unused = {"scipy", "torchvision", "torchmetrics.functional"} & set(sys.modules)
assert not unused, unused
"""
USES = {
    "a part": "import torchmetrics.classification as found",
    "a name of a part": "from torchmetrics.classification import Accuracy as found",
    "a name": "from torchmetrics import Accuracy as found",
    "an attribute": "found = torchmetrics.functional.accuracy",
}
SAME = """
assert found
assert torchmetrics.Metric is Metric is torchmetrics.metric.Metric
assert torchmetrics.MetricCollection is MetricCollection
assert issubclass(torchmetrics.Accuracy, object) and torchmetrics.__path__
assert issubclass(torchmetrics.MeanMetric, Metric)
assert "torchmetrics.functional" in sys.modules
"""


@pytest.mark.parametrize(
    "use",
    [
        USES["a part"],
        *(pytest.param(USES[name], marks=pytest.mark.slow) for name in USES),
    ],
)
def test_lightning_needs_two_classes_and_later_there_is_all(use: str) -> None:
    program = f"{LIGHTNING}\n{use}\n{SAME}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_has_been_imported_stays() -> None:
    import torchmetrics

    delay_torchmetrics()
    assert sys.modules["torchmetrics"] is torchmetrics
