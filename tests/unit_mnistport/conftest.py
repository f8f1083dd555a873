"""One thread for all tests of `mnistport`, and short recorded runs on the digits."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier


@dataclass
class Recorder(Callback):
    """What happened in a run. All numbers are optimizer steps."""

    counts_chunks = True

    losses: list[float] = field(default_factory=list)
    chunks: list[tuple[int, int]] = field(default_factory=list)
    batches: list[torch.Tensor] = field(default_factory=list)
    validated: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert trainer.global_step == batch.stop
        self.losses += outputs["losses"].tolist()
        self.chunks.append((batch.start, batch.stop))
        self.batches += list(batch.index)

    def on_validation_end(self, trainer: pl.Trainer, module: Any) -> None:
        if not trainer.sanity_checking:
            self.validated.append(trainer.global_step)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.epochs.append(trainer.global_step)


@dataclass
class Run:
    """A finished run."""

    trainer: pl.Trainer
    module: Classifier
    data: MnistData
    record: Recorder

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return {
            name: weight.clone() for name, weight in self.module.net.state_dict().items()
        }

    @property
    def slots(self) -> dict[str, Any]:
        """The optimizer's state, flat: slot tensors and the numbers of the group."""
        state = self.trainer.optimizers[0].state_dict()
        slots = {
            f"{number}.{slot}": value
            for number, of in state["state"].items()
            for slot, value in of.items()
        }
        return slots | {
            key: value
            for key, value in state["param_groups"][0].items()
            if key != "params"
        }


@pytest.fixture(scope="session")
def train(tmp_path_factory) -> Callable[..., Run]:
    """`train("softmax", batch_size=100, seed=0, max_steps=20, ...)` makes a run.

    What the signature does not name are arguments of the Trainer.
    """

    def fit(
        network: str = "softmax",
        *,
        steps_per_execution: int = 20,
        batch_size: int | None = None,
        seed: int = 0,
        callbacks: tuple[Callback, ...] = (),
        ckpt_path: Any = None,
        module: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        **flags: Any,
    ) -> Run:
        torch.manual_seed(seed)
        classifier = Classifier(
            network, steps_per_execution=steps_per_execution, seed=seed, **(module or {})
        )
        images = MnistData(
            network, source="digits", batch_size=batch_size, seed=seed, **(data or {})
        )
        record = Recorder()
        defaults = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": any(
                isinstance(callback, pl.callbacks.ModelCheckpoint)
                for callback in callbacks
            ),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "limit_val_batches": 0,
            "num_sanity_val_steps": 0,
            "max_epochs": -1,
            "default_root_dir": tmp_path_factory.mktemp("run"),
        }
        trainer = pl.Trainer(callbacks=[record, *callbacks], **(defaults | flags))
        trainer.fit(classifier, datamodule=images, ckpt_path=ckpt_path)
        return Run(trainer, classifier, images, record)

    return fit


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Runs as small as these gain nothing from a second thread.

    On a shared machine they wait for it for a long time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
