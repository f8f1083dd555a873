"""Classic TensorFlow 1 MNIST tutorials, reproduced in PyTorch Lightning.

`from mnistport import Classifier, MnistData` is how to use them in Python. Both are read
when they are first asked for, because torch and Lightning take seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnistport.training.datamodule import MnistData
    from mnistport.training.module import Classifier

__all__ = ["Classifier", "MnistData", "__version__"]
__version__ = "0.1.0"

_HOMES = {
    "Classifier": "mnistport.training.module",
    "MnistData": "mnistport.training.datamodule",
}


def __getattr__(name: str) -> Any:
    """Import a class when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
