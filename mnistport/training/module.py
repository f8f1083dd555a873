"""The one LightningModule: any registered network, trained in chunks of optimizer steps."""

from __future__ import annotations

import inspect
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor
from torch.optim import Optimizer

from mnistport import kernels, networks, process
from mnistport.data.batches import rank_share
from mnistport.errors import UserError
from mnistport.layers import MaxPool, float32
from mnistport.network import BatchAccuracy, StageAccuracy
from mnistport.training import lightning_steps
from mnistport.training.checkpoints import refuse
from mnistport.training.chunks import Chunk, Cut, Pace
from mnistport.training.draws import KeyedDraws
from mnistport.training.engines import Eager, Engine, Graph, Listed, why_not_graph
from mnistport.training.trace import Backward, frozen, traced
from mnistport.training.tutorial_lines import TutorialLines


class Score(NamedTuple):
    """Images classified right, of how many."""

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """The fraction classified right, 0..1; an exact quotient of counts."""
        return self.correct / self.total


class Classifier(pl.LightningModule):
    """A tutorial's network with its loss and optimizer.

    Args:
        network: A registered name (`mnistport list`).
        options: Keyword arguments of the network: the tutorial's exercises, e.g. {"fc_size": 256} for hvass.
        learning_rate: In place of the recipe's.
        steps_per_execution: Optimizer steps per `training_step` call, or "auto": about half a second's. Changes speed,
            not results.
        engine: "eager", Python calls every kernel by way of modules and autograd; "graph", a step is one CUDA graph or,
            on a CPU, a list of calls; "auto", graph where it can be. Changes speed, not results.
        tf32: Let convolutions and products on a GPU round their factors to 10 bits, as neither TF1 nor parity does.
        seed: Of the dropout draws.

    Attributes:
        ckpt_path: The checkpoint that will be loaded, if it is to be looked at before anything is written.
    """

    def __init__(
        self,
        network: str = "deep",
        options: dict[str, Any] | None = None,
        learning_rate: float | None = None,
        steps_per_execution: int | Literal["auto"] = "auto",
        engine: Literal["auto", "eager", "graph"] = "auto",
        tf32: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if steps_per_execution != "auto" and steps_per_execution < 1:
            raise UserError(f"steps_per_execution {steps_per_execution}: expected at least 1 optimizer step, or auto")
        self.save_hyperparameters()
        self.network = networks.get(network)
        self.net = _make(self.network.name, self.network.module, options or {})
        self.learning_rate, self.seed = learning_rate, seed
        self.asked_engine, self.tf32 = engine, tf32
        self.pace = Pace(None if steps_per_execution == "auto" else steps_per_execution)
        self.automatic_optimization = False
        self.ckpt_path: str | None = None
        self._counts = torch.zeros(2, dtype=torch.int64)
        self._loss = torch.zeros((), dtype=torch.float64)
        self.last_score: Score | None = None
        self.engine: Engine | None = None
        self.made_for: list[Any] = []

    @property
    def cuts(self) -> list[Cut]:
        """Cadences at which the recipe's own printed lines need a chunk to end."""
        reports = [report for report in self.network.recipe.reports if isinstance(report, BatchAccuracy)]
        return [Cut(report.every, offset=0 if report.when == "before" else 1) for report in reports]

    @property
    def marks(self) -> list[int]:
        """Single steps after which the recipe scores the test set."""
        return [
            stage
            for report in self.network.recipe.reports
            if isinstance(report, StageAccuracy)
            for stage in report.stages
        ]

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores: pixels `[N, 784]` in [0, 1] to `[N, 10]`."""
        output: Tensor = self.net(pixels)
        return output

    def configure_optimizers(self) -> Optimizer:
        """The recipe's optimizer, TF1's arithmetic."""
        options = {} if self.learning_rate is None else {"learning_rate": self.learning_rate}
        return self.network.recipe.optimizer(self.net.parameters(), **options)

    def configure_callbacks(self) -> list[Callback]:
        """The lines the tutorial prints; once, where one trainer first fits and then tests."""
        there = any(isinstance(callback, TutorialLines) for callback in self.trainer.callbacks)  # type: ignore[attr-defined]
        return [] if there else [TutorialLines(self.network.recipe)]

    # Training ---------------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Refuse a checkpoint of something else while nothing is written yet."""
        if self.ckpt_path is not None and Path(self.ckpt_path).is_file():
            self._refuse(torch.load(self.ckpt_path, map_location="cpu", weights_only=True, mmap=True))

    def setup(self, stage: str) -> None:
        """Take on float64 before a checkpoint is read: Lightning converts after, and would round it to float32."""
        lightning_steps.hush()
        process.use_tf32(self.tf32)
        if self.trainer.precision == "64-true":
            self.net.double()

    def on_fit_start(self) -> None:
        """Put the training images where the weights are, once."""
        self.limit_train_batches = lightning_steps.take_limit_train_batches(self.trainer)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        weight = next(self.net.parameters())
        self.pixels = data.train[0].to(weight.device, weight.dtype)
        self.labels = data.train[1].to(weight.device)
        self.batch_size = data.batch_size
        self.share = rank_share(self.batch_size, self.trainer.global_rank, self.trainer.world_size)
        self.draws = KeyedDraws(self.net, self.seed, self.batch_size, self.share)
        pools = weight.device.type == "cpu" and any(isinstance(layer, MaxPool) for layer in self.net.modules())
        if pools and (reason := kernels.why_not()):
            rank_zero_info(
                f"the convolutions' gradients by torch, not by kernels of our own, which are faster: {reason}"
            )

    def on_fit_end(self) -> None:
        """Let go of the training images, and give back what was taken from the trainer."""
        self.trainer.limit_train_batches = self.limit_train_batches
        self.draws.release()
        self.engine = None
        del self.pixels, self.labels, self.draws

    def on_train_start(self) -> None:
        """The learning rate asked for, where a checkpoint brought its own; and no validation before the first chunk."""
        if self.learning_rate is not None:
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] = float32(self.learning_rate)
        self.pace.start(self.trainer.world_size)
        if self._loader.validation is not None:
            lightning_steps.validate_after_this_chunk(self.trainer, False)

    def _engine(self) -> Engine:
        """The engine asked for, or the other one and a line that says why."""
        optimizer: Optimizer = self.optimizers(use_pl_optimizer=False)  # type: ignore[assignment]

        device, world_size = self.pixels.device, self.trainer.world_size
        reason = why_not_graph(device, world_size, self.trainer.precision, optimizer, self.net)
        backward: Backward = self._backward
        if self.asked_engine != "eager" and not reason and device.type == "cpu":
            share = len(range(self.batch_size)[self.share])
            try:
                backward = traced(self.net, self._mean, self.draws, self.pixels[:share], self.labels[:share])
            except Exception as error:
                reason = f"the step could not be written down: {(str(error).strip() or repr(error)).splitlines()[0]}"
        if reason and self.asked_engine != "eager":
            rank_zero_info(f"engine eager, not graph: {reason}")

        def step(rows: Tensor) -> Tensor:
            return self._step(optimizer, backward, self.pixels.index_select(0, rows), self.labels.index_select(0, rows))

        if self.asked_engine == "eager" or reason:
            return Eager(step, self.draws)
        if device.type == "cpu":
            return Listed(step, self.draws)
        return Graph(step, self.draws, optimizer, [*self.net.parameters(), *self.net.buffers()], self.pace.longest)

    @property
    def _loader(self) -> Any:
        return self.trainer.train_dataloader

    def on_train_batch_start(self, batch: Chunk, batch_idx: int) -> None:
        """Tell Lightning whether validation follows this chunk."""
        validate = self._loader.validates_at(batch.stop)
        if validate is not None:
            lightning_steps.validate_after_this_chunk(self.trainer, validate)

    def training_step(self, batch: Chunk, batch_idx: int) -> dict[str, Tensor]:
        """Take the chunk's optimizer steps. Returns "losses", one per step, over the global batch."""
        assert batch.start == self.trainer.global_step, "the chunk is not the trainer's next one"
        if self.engine is None or self.made_for != frozen(self.net):  # a callback froze a layer, say
            self.engine, self.made_for = self._engine(), frozen(self.net)
        start = time.perf_counter()
        losses = self.engine.run(batch.start, batch.index[:, self.share])
        lightning_steps.advance_global_step(self.trainer, len(losses))
        result = self._sum_over_ranks(losses)
        self._log_losses(batch, result)
        self.pace.took(len(losses), time.perf_counter() - start)
        return {"loss": result[-1], "losses": result}

    def _step(self, optimizer: Optimizer, backward: Backward, pixels: Tensor, labels: Tensor) -> Tensor:
        """One optimizer step on this rank's share of the batch; its part of the batch's mean loss."""
        optimizer.zero_grad()
        loss = backward(pixels, labels)
        if self.trainer.world_size > 1:
            self._add_gradients_over_ranks()
        optimizer.step()
        return loss

    def _backward(self, pixels: Tensor, labels: Tensor) -> Tensor:
        loss = self._mean(self.net(pixels), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _mean(self, output: Tensor, labels: Tensor) -> Tensor:
        """The loss of a share of the batch, over the size of the whole batch."""
        loss: Tensor = self.network.loss(output, labels).sum() / self.batch_size
        return loss

    def _add_gradients_over_ranks(self) -> None:
        """Sum, not mean: each rank's gradient is already divided by the size of the global batch."""
        gradients = [weight.grad for weight in self.net.parameters() if weight.grad is not None]
        flat = self._sum_over_ranks(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def _sum_over_ranks(self, tensor: Tensor) -> Tensor:
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def _log_losses(self, chunk: Chunk, losses: Tensor) -> None:
        """The newest loss for the progress bar; for the loggers, every `log_every_n_steps`-th step's own."""
        values = losses.tolist()
        self.log("train/loss", values[-1], prog_bar=True, logger=False, batch_size=self.batch_size)
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        for step, value in enumerate(values, chunk.start + 1):
            if every and step % every == 0:
                self.log_at(step, {"train/loss": value})

    def log_at(self, step: int, metrics: dict[str, float]) -> None:
        """Hand metrics to every logger at an optimizer step."""
        for logger in self.trainer.loggers:
            logger.log_metrics({**metrics, "epoch": self.current_epoch}, step=step)

    # Evaluation -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, pixels: Tensor, labels: Tensor, batch_size: int = 500) -> Score:
        """Classify images with nothing dropped, `batch_size` at a time: pixels `[N, 784]`, labels `[N]`."""
        weight = next(self.net.parameters())
        training = self.net.training
        self.net.eval()
        correct = 0
        for part, label in zip(torch.split(pixels, batch_size), torch.split(labels, batch_size), strict=True):
            output = self.net(part.to(weight.device, weight.dtype))
            correct += int((output.argmax(1) == label.to(weight.device)).sum())
        self.net.train(training)
        return Score(correct, len(labels))

    def _start_counting(self) -> None:
        lightning_steps.log_at_global_step(self.trainer)
        self._counts = torch.zeros(2, dtype=torch.int64, device=self.device)
        self._loss = torch.zeros((), dtype=torch.float64, device=self.device)

    on_validation_epoch_start = _start_counting
    on_test_epoch_start = _start_counting

    def _count(self, batch: tuple[Tensor, Tensor]) -> None:
        pixels, labels = batch
        output = self(pixels)
        self._counts += torch.stack([(output.argmax(1) == labels).sum(), torch.tensor(len(labels), device=self.device)])
        self._loss += self.network.loss(output, labels).double().sum()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count what is right."""
        self._count(batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count what is right."""
        self._count(batch)

    def _finish_counting(self, stage: str) -> None:
        """Whole counts are added over the ranks, so the accuracy does not depend on how many there are."""
        correct, total = self._sum_over_ranks(self._counts).tolist()
        loss = float(self._sum_over_ranks(self._loss))
        self.last_score = Score(correct, total)
        # Every rank has the whole figure, so nothing is left to sync; sync_dist keeps Lightning from recommending it.
        self.log(f"{stage}/accuracy", correct / total, prog_bar=True, rank_zero_only=True, sync_dist=True)
        self.log(f"{stage}/loss", loss / total, rank_zero_only=True, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log `val/accuracy` and `val/loss`."""
        self._finish_counting("val")

    def on_test_epoch_end(self) -> None:
        """Log `test/accuracy` and `test/loss`, and print the line the tutorial ends with."""
        self._finish_counting("test")

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The class of each image: `[N]` int64."""
        classes: Tensor = self(batch[0]).argmax(1)
        return classes

    # Checkpoints ------------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what run the weights belong to."""
        checkpoint["mnistport"] = {"network": self.network.name, **self._run()}

    def _run(self) -> dict[str, Any]:
        """What must not change if a run is to be continued."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        return {"seed_everything": self.seed, "data.batch_size": data.batch_size, "data.source": data.name}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse what cannot be loaded or continued; and continue at the optimizer step."""
        self._refuse(checkpoint)
        if self._fits:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            limit = self.trainer.limit_train_batches
            steps = lightning_steps.steps_of_epoch(limit, data.stream.steps_per_epoch)
            lightning_steps.go_on_at_step(checkpoint, steps)

    @property
    def _fits(self) -> bool:
        return self._trainer is not None and self.trainer.state.fn == "fit"

    def _refuse(self, checkpoint: dict[str, Any]) -> None:
        """See `checkpoints.refuse`."""
        refuse(checkpoint, self.network.name, self.state_dict(), self._run() if self._fits else None)


def _make(name: str, module: Any, options: dict[str, Any]) -> torch.nn.Module:
    """The network with its options.

    Raises:
        UserError: It has no such option, and says which it has; or an option cannot have that value.
    """
    known = list(inspect.signature(module).parameters)
    unknown = [option for option in options if option not in known]
    if unknown:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise UserError(f"the network {name!r} has no option {', '.join(map(repr, unknown))}; {has}")
    try:
        made: torch.nn.Module = module(**options)
    except (TypeError, ValueError, LookupError, RuntimeError) as error:
        if not options:
            raise
        raise UserError(f"the network {name!r} cannot be made with the options {options}: {error}") from error
    return made
