"""Some packages are imported when they are used. They are then what they always are."""

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
unused = {"scipy", "torchvision", "matplotlib", "torchmetrics.functional"}
unused &= set(sys.modules)
assert not unused, unused
"""
USES = {
    "a part": "import torchmetrics.classification as found",
    "a name of a part": "from torchmetrics.classification import Accuracy as found",
    "a name": "from torchmetrics import Accuracy as found",
    "an attribute": "found = torchmetrics.functional.accuracy",
}
SAME = """
assert found is not None
assert torchmetrics.Metric is Metric is torchmetrics.metric.Metric
assert torchmetrics.MetricCollection is MetricCollection
assert issubclass(torchmetrics.Accuracy, object) and torchmetrics.__path__
assert issubclass(torchmetrics.MeanMetric, Metric)
assert "torchmetrics.functional" in sys.modules
import torch
figure, axes = torchmetrics.MeanMetric().plot(torch.tensor(1.0))
assert "matplotlib" in sys.modules and figure and axes
assert torchmetrics.utilities.plot.plot_curve
"""


@pytest.mark.parametrize(
    "use",
    [
        USES["a part"],
        *(pytest.param(USES[name], marks=pytest.mark.slow) for name in USES),
    ],
)
def test_lightning_needs_two_classes_and_later_there_is_all(use: str) -> None:
    run(f"{LIGHTNING}\n{use}\n{SAME}")


def run(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


COMPILER = """
import sys
import torch
from torch import nn
from mnistport.imports import delay_imports
delay_imports()
import pytorch_lightning
from lightning_fabric.wrappers import OptimizedModule
def counted(x, calls=[]):
    calls.append(x)
    return len(calls)
disabled = torch.compiler.disable(counted)
layer = nn.Linear(2, 2)
def step():
    optimizer = torch.optim.Adam(layer.parameters())
    optimizer.zero_grad()
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
assert not isinstance(layer, OptimizedModule)
assert disabled(0) == 1
parts = {name for name in sys.modules if name.startswith("torch._dynamo.")}
assert not parts and "sympy" not in sys.modules, parts
"""
COMPILES = {
    "a part": "import torch._dynamo.config as found",
    "a name of a part": "from torch._dynamo.utils import counters as found",
    "a name": "from torch._dynamo import reset as found",
    "an attribute": "found = torch._dynamo.explain",
    "compiling": "found = torch.compile(layer, backend='eager')",
}
COMPILED = """
assert found is not None
real = sys.modules["torch._dynamo"]
assert real is torch._dynamo and real.reset and type(real).__name__ == "module"
assert sys.modules["torch._dynamo.config"] is real.config
assert real.config.__spec__.name == "torch._dynamo.config"
assert real.utils.counters is sys.modules["torch._dynamo.utils"].counters
compiled = torch.compile(layer, backend="eager")
assert isinstance(compiled, OptimizedModule) and not isinstance(layer, OptimizedModule)
assert torch.equal(compiled(torch.ones(1, 2)), layer(torch.ones(1, 2)))
real.reset()
traced = torch.compile(lambda x: x * disabled(0), backend="eager")
assert traced(torch.ones(1)) == 2 and traced(torch.ones(1)) == 3, "it is not traced"
step()
"""


@pytest.mark.parametrize(
    "use",
    [
        COMPILES["a part"],
        *(pytest.param(COMPILES[name], marks=pytest.mark.slow) for name in COMPILES),
    ],
)
def test_the_compiler_is_imported_when_it_is_used(use: str) -> None:
    run(f"{COMPILER}\n{use}\n{COMPILED}")


def test_an_optimizer_needs_no_compiler() -> None:
    ours = (
        "from mnistport.optimizers import Adam\nAdam(layer.parameters(), 0.1).zero_grad()"
    )
    run(f"{COMPILER}\n{ours}\nassert 'sympy' not in sys.modules")


def test_what_has_been_imported_stays() -> None:
    import torchmetrics

    delay_torchmetrics()
    assert sys.modules["torchmetrics"] is torchmetrics
