"""Which classes a configuration may have made: the parts that a Trainer has.

jsonargparse calls whatever `class_path` names where a function may stand, for example in
a `LambdaCallback`. So `class_path: os.system` would run the commands of a stranger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from jsonargparse import Namespace
from lightning_fabric.plugins import CheckpointIO, ClusterEnvironment
from pytorch_lightning.accelerators import Accelerator
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins import LayerSync
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.profilers import Profiler
from pytorch_lightning.strategies import Strategy

from mnistport.errors import UserError
from mnistport.values import shown

PARTS: tuple[type, ...] = (
    *(Accelerator, Callback, CheckpointIO, ClusterEnvironment, LayerSync, Logger),
    *(Precision, Profiler, Strategy),
)


def refuse_other_classes(config: Namespace) -> None:
    """Refuse a configuration that names something else than a part of a Trainer.

    Args:
        config: What was parsed, before anything in it is made.

    Raises:
        UserError: A `class_path` names a function, or a class of another kind.
    """
    for key, path in _named(config, ""):
        if not _is_part(path):
            raise UserError(
                f"{key}: class_path {shown(path)} is no callback, logger, or other part "
                "of a Trainer, and nothing else is called"
            )


def _named(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Each `class_path` in nested values, and where it stands."""
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        if "class_path" in value:
            yield key or "--config", value["class_path"]
        for name, part in value.items():
            yield from _named(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _named(part, key)


def _is_part(path: Any) -> bool:
    """Whether a path, whose module the parser has imported, names a part of a Trainer."""
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return False
    return isinstance(found, type) and issubclass(found, PARTS)
