"""The LightningModule that trains any registered network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info
from pytorch_lightning.utilities.model_helpers import _restricted_classmethod
from torch import Tensor
from torch.optim import Optimizer

from mnistport import networks
from mnistport.data.batches import rank_share
from mnistport.draws import KeyedDraws
from mnistport.errors import UserError
from mnistport.float32 import float32, use_tf32
from mnistport.optimizers.choosing import chosen
from mnistport.step import Eager, Engine, Step, conditions
from mnistport.training import lightning_steps
from mnistport.training.checkpoint_files import load_for_trainer, opened_safely
from mnistport.training.checkpoint_form import refuse_what_lightning_cannot_load
from mnistport.training.checkpoints import (
    refuse_other_choice,
    refuse_other_optimization,
    refuse_other_options,
    refuse_other_run,
)
from mnistport.training.chunks import Chunk, Pace
from mnistport.training.datamodule import MnistData
from mnistport.training.evaluation import Counts, Score, score
from mnistport.training.hooked import Hooked
from mnistport.training.own_batches import pixels_alone, pixels_and_labels
from mnistport.training.progress import count_steps
from mnistport.training.ranks import Together
from mnistport.training.refusals import (
    refuse_other_data,
    refuse_other_loader,
    refuse_rank_without_images,
    refuse_run_that_is_over,
    refuse_schedulers,
    refuse_unsuitable_run,
)
from mnistport.training.torch_files import read_torch_file
from mnistport.training.tutorial_lines import TutorialLines
from mnistport.training.watching import has_hooks, looks_within_steps, step_watchers
from mnistport.values import (
    choice,
    is_whole_number,
    plain,
    plain_parts,
    positive_number,
    switch,
    whole_number,
)


class Classifier(pl.LightningModule):
    """A tutorial's network with its loss and optimizer.

    Args:
        network: The name of a registered network (see `mnistport list`).
        options: Keyword arguments of the network. They are the tutorial's exercises, for
            example {"fc_size": 256} for hvass.
        learning_rate: Replaces the recipe's learning rate. It is finite and positive.
        optimizer: Replaces the recipe's optimizer by another one of TF1's: "adam",
            "rmsprop", "gradient_descent", "momentum", "adagrad" or "adadelta". Its
            learning rate is then TF1's default. Where TF1 has none, give one.
            "torch_adam" and "torch_rmsprop" are torch's own.
        optimizer_options: Other arguments of the optimizer, for example
            {"momentum": 0.8, "use_nesterov": True} for momentum.
        steps_per_execution: Optimizer steps in one call of `training_step`. "auto" takes
            as many as last about half a second. It changes the speed, and no result:
            with a callback that looks at single steps it is 1.
        engine: "eager" runs the module's Python in every step. "graph" records a step
            once and repeats it, on a GPU as a CUDA graph and on a CPU as a list of kernel
            calls. "auto" is "graph" if that is possible, else "eager". On a CPU, the
            results of "eager" and "graph" differ by rounding.
        tf32: Let a GPU round the factors of convolutions and products to 10 bits. Neither
            TF1 nor `parity` does this.
        seed: The seed of the dropouts' random numbers.

    Raises:
        UserError: An argument cannot have this value.

    Attributes:
        ckpt_path: The checkpoint that will be loaded. If it is set, the checkpoint is
            checked before any file is written.
        loaded_learning_rate: The `learning_rate` of the checkpoint that was loaded last.
        last_score: The result of the last validation or test.
        steps_taken: The steps of the last `fit`.
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
        optimizer: str | None = None,
        optimizer_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if learning_rate is not None:
            learning_rate = positive_number("learning_rate", learning_rate)
        if steps_per_execution != "auto" and not (
            is_whole_number(steps_per_execution) and steps_per_execution >= 1
        ):
            raise UserError(
                f"steps_per_execution {steps_per_execution!r}: "
                "expected at least 1 optimizer step, or auto"
            )
        choice("engine", engine, ("auto", "eager", "graph"))
        switch("tf32", tf32)
        seed = whole_number("seed", seed, least=0)
        self.network = networks.get(network)
        network, options = plain("network", network), plain("options", options)
        optimizer = plain("optimizer", optimizer)
        optimizer_options = plain("optimizer_options", optimizer_options)
        steps_per_execution = plain("steps_per_execution", steps_per_execution)
        self.save_hyperparameters()
        self.net = networks.make_module(self.network, {} if options is None else options)
        self.tutorial_loss = self.network.loss_with(options or {})
        self.learning_rate = learning_rate
        self._make_optimizer = chosen(
            self.network.recipe.optimizer, optimizer, learning_rate, optimizer_options
        )
        self.loaded_learning_rate: float | None = None
        self.seed = seed
        self.asked_engine = engine
        self.tf32 = tf32
        self.pace = Pace(None if steps_per_execution == "auto" else steps_per_execution)
        self.automatic_optimization = False
        self.ckpt_path: str | None = None
        self.last_score: Score | None = None
        self.steps_taken = 0
        self.limit_train_batches: int | float | None = None
        self.engine: Engine | None = None
        self.engine_conditions: list[Any] = []
        self.engine_remark = ""

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute scores: pixels `[N, 784]` in [0, 1] -> `[N, 10]`."""
        output: Tensor = self.net(pixels)
        return output

    def configure_optimizers(self) -> Optimizer:
        """The optimizer of the recipe, or the one that was asked for."""
        return self._make_optimizer(self.net.parameters())

    def configure_callbacks(self) -> list[Callback]:
        """Add the callback that prints the tutorial's lines, and the one for ranks.

        A trainer that first fits and then tests has them already. This is the first hook
        of a run, so what cannot be run is refused here, and from now on the trainer runs
        no code of checkpoints.
        """
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        lightning_steps.load_checkpoints_by(self.trainer, Classifier, load_for_trainer)
        self.limit_train_batches = None
        lightning_steps.count_steps_of_epoch(self.trainer, Classifier)
        try:
            self._refuse_run()
        except UserError:
            if self.trainer.is_global_zero:
                raise
            raise SystemExit(2) from None  # one rank says why
        for callback in callbacks:
            count_steps(callback)
        added: list[Callback] = []
        if not any(isinstance(callback, TutorialLines) for callback in callbacks):
            added.append(TutorialLines(self.network.recipe))
        several = self.trainer.world_size > 1
        if several and not any(isinstance(callback, Together) for callback in callbacks):
            added.append(Together())
        return added

    def _refuse_run(self) -> None:
        """Refuse what cannot be run, on every rank and before any file is written."""
        refuse_other_data(self.trainer, self.network.name)
        if self._is_fitting:
            refuse_unsuitable_run(self.trainer, Classifier)
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            refuse_rank_without_images(self.trainer, data.batch_size)

    # Training ---------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Refuse an unsuitable checkpoint before any file is written."""
        self.refuse_checkpoint(self._data_to_continue())

    def refuse_checkpoint(self, data: MnistData | None) -> None:
        """Refuse the checkpoint at `ckpt_path` if it cannot be loaded.

        Args:
            data: The data that the checkpoint's run is to be continued with. None if no
                run is continued.

        Raises:
            UserError: The checkpoint is of another network, or of another run.
        """
        path = self.ckpt_path
        if path is not None and Path(path).is_file():
            checkpoint = read_torch_file(path, mmap=True)
            self._refuse(checkpoint, data)

    def setup(self, stage: str) -> None:
        """Convert the network to float64, if asked for, before a checkpoint is read.

        Lightning would convert it later, and would round the checkpoint's weights to
        float32.
        """
        lightning_steps.ignore_expected_warnings()
        use_tf32(self.tf32)
        if self.trainer.precision == "64-true":
            self.net.double()

    def on_fit_start(self) -> None:
        """Copy the training images to the device of the weights."""
        self.steps_taken = 0
        self._choose_pace()
        self.limit_train_batches = lightning_steps.take_limit_train_batches(self.trainer)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        weight = next(self.net.parameters())
        self.pixels = data.train[0].to(weight.device, weight.dtype)
        self.labels = data.train[1].to(weight.device)
        self.batch_size = data.batch_size
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        self.share = rank_share(self.batch_size, rank, world_size)
        self.draws = KeyedDraws(self.net, self.seed, self.batch_size, self.share)
        # DDP makes the nodes that add up gradients on another stream than the steps'.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)

    @property
    def has_begun_to_fit(self) -> bool:
        """Whether `on_fit_start` was called, so that the loader can be made."""
        return self.limit_train_batches is not None

    def steps_of_epoch(self) -> int:
        """Steps in an epoch of the run that has begun."""
        data: MnistData = self.trainer.datamodule  # type: ignore[attr-defined]
        return data.steps_of_epoch(self.trainer)

    def _choose_pace(self) -> None:
        """Take single steps if something looks at them, and say so."""
        refuse_schedulers(self.trainer)
        watchers = step_watchers(self.trainer, Classifier)
        self.pace.single = bool(watchers)
        if watchers and self.pace.asked != 1:
            names = ", ".join(watchers)
            rank_zero_info(f"one step in each call: {names} can look at single steps")

    def on_fit_end(self) -> None:
        """Release the training images, and restore the trainer's limit."""
        assert self.limit_train_batches is not None
        self.trainer.limit_train_batches = self.limit_train_batches
        self.limit_train_batches = None
        self.draws.release()
        self.engine = None
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(True)
        del self.pixels, self.labels, self.draws

    def on_train_start(self) -> None:
        """Set the user's learning rate, because a checkpoint may have set another one.

        If it is the one that the checkpoint's run began with, the run goes on with what
        has become of it.
        """
        if self.learning_rate not in (None, self.loaded_learning_rate):
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] = float32(self.learning_rate)
        refuse_other_loader(self.trainer)
        lightning_steps.log_at_global_step(self.trainer)
        self.pace.start(self.trainer.world_size)
        if self._loader.validation is not None:
            lightning_steps.validate_after_this_chunk(self.trainer, False)

    @property
    def _loader(self) -> Any:
        return self.trainer.train_dataloader

    def on_train_batch_start(self, batch: Chunk, batch_idx: int) -> None:
        """Tell Lightning whether validation follows this chunk."""
        validate = self._loader.validates_at(batch.stop)
        if validate is not None:
            lightning_steps.validate_after_this_chunk(self.trainer, validate)

    def training_step(self, batch: Chunk, batch_idx: int) -> dict[str, Tensor]:
        """Take the chunk's optimizer steps.

        Returns:
            "losses": the loss of each step over the global batch, and "loss": the last
            one.
        """
        next_step = self.trainer.global_step
        assert batch.start == next_step, f"expected a chunk that starts at {next_step}"
        # Since the engine was chosen, a callback may have frozen a layer, for example.
        if self.engine is None or self.engine_conditions != conditions(self.net):
            self.engine = self._choose_engine()
            self.engine_conditions = conditions(self.net)
        start = time.perf_counter()
        losses = self.engine.run(batch.start, batch.index[:, self.share])
        self.steps_taken += len(losses)
        lightning_steps.advance_global_step(self.trainer, len(losses))
        losses = self._sum_over_ranks(losses)
        self._log_losses(batch, losses)
        step_of_epoch = (batch.stop - 1) % self._loader.plan.steps_per_epoch + 1
        lightning_steps.step_schedulers(self.trainer, step_of_epoch)
        self.pace.took(len(losses), time.perf_counter() - start)
        return {"loss": losses[-1], "losses": losses}

    def _choose_engine(self) -> Engine:
        """Choose the engine that the user asked for, or the eager one with the reason."""
        step = self._step()
        if looks_within_steps(self.trainer, Classifier):
            if self.asked_engine != "eager":
                self._say_once("engine eager, not graph: hooks within steps are called")
            return Hooked(step, self.trainer)
        if self.asked_engine == "eager":
            return Eager(step)
        if has_hooks(step.optimizer):
            self._say_once("engine eager, not graph: the optimizer has hooks")
            return Eager(step)
        engine = _fast_engine(step, self.pace.longest)
        if isinstance(engine, str):
            self._say_once(f"engine eager, not graph: {engine}")
            return Eager(step)
        self._say_once(engine.remark)
        return engine

    def _say_once(self, remark: str) -> None:
        """Print a remark on the engine, unless it is what was printed last."""
        if remark and remark != self.engine_remark:
            rank_zero_info(remark)
        self.engine_remark = remark

    def _step(self) -> Step:
        """Describe one optimizer step on this rank's share of the batch."""
        optimizer: Optimizer = self.optimizers(use_pl_optimizer=False)  # type: ignore[assignment]
        several = self.trainer.world_size > 1
        return Step(
            module=self.net,
            loss=self._mean_loss,
            optimizer=optimizer,
            draws=self.draws,
            pixels=self.pixels,
            labels=self.labels,
            num_images=len(range(self.batch_size)[self.share]),
            sum_over_ranks=self._sum_gradients_over_ranks if several else None,
            precision=str(self.trainer.precision),
            pure=self.network.pure,
        )

    def _mean_loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """The sum of this rank's losses, divided by the global batch size."""
        loss: Tensor = self.tutorial_loss(output, labels).sum() / self.batch_size
        return loss

    def _sum_gradients_over_ranks(self) -> None:
        """Replace each gradient by the sum over all ranks.

        It is not the mean, because the losses are already divided by the global batch
        size.
        """
        weights = self.net.parameters()
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        sizes = [gradient.numel() for gradient in gradients]
        parts = torch.split(self._sum_over_ranks(flat), sizes)
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _sum_over_ranks(self, tensor: Tensor) -> Tensor:
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def _log_losses(self, chunk: Chunk, losses: Tensor) -> None:
        """Show the last loss in the progress bar, and log losses.

        Every `log_every_n_steps` steps, the loggers get the loss of this one step.
        """
        if self.trainer.barebones:
            return
        values = losses.tolist()
        self.log(
            "train/loss",
            values[-1],
            prog_bar=True,
            logger=False,
            batch_size=self.batch_size,
        )
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        for step, value in enumerate(values, chunk.start + 1):
            if every and step % every == 0:
                self.log_at(step, {"train/loss": value})

    def log_at(self, step: int, metrics: dict[str, float]) -> None:
        """Give metrics to every logger, for this optimizer step."""
        for logger in self.trainer.loggers:
            logger.log_metrics({**metrics, "epoch": self.current_epoch}, step=step)

    # Evaluation -------------------------------------------------------------------------

    def score(self, pixels: Tensor, labels: Tensor, batch_size: int = 500) -> Score:
        """Classify images without dropout. See `evaluation.score`."""
        return score(self.net, pixels, labels, batch_size)

    def _start_counting(self) -> None:
        lightning_steps.log_at_global_step(self.trainer)
        self._counts = Counts(self.device)

    on_validation_epoch_start = _start_counting
    on_test_epoch_start = _start_counting

    def _count(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count the correct answers in a batch."""
        pixels, labels = pixels_and_labels(batch)
        output = self(self._as_weights(pixels))
        self._counts.add(output, labels, self.tutorial_loss(output, labels))

    def _as_weights(self, pixels: Tensor) -> Tensor:
        """Pixels in the precision of the weights. A loader may have another."""
        return pixels.to(next(self.net.parameters()).dtype)

    validation_step = _count
    test_step = _count

    def _finish_counting(self, stage: str) -> None:
        """Log accuracy and loss.

        The ranks add up their counts, so the accuracy does not depend on their number.
        """
        correct, total = self._sum_over_ranks(self._counts.images).tolist()
        loss = float(self._sum_over_ranks(self._counts.loss))
        self.last_score = Score(correct, total)
        if self.trainer.barebones:
            return
        # Every rank already has the same values. sync_dist only prevents a warning that
        # recommends it.
        accuracy = {f"{stage}/accuracy": correct / total}
        self.log_dict(accuracy, prog_bar=True, rank_zero_only=True, sync_dist=True)
        self.log(f"{stage}/loss", loss / total, rank_zero_only=True, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log `val/accuracy` and `val/loss`."""
        self._finish_counting("val")

    def on_validation_end(self) -> None:
        """Let the step after a validation be logged as if there had been none."""
        if self._is_fitting and not self.trainer.sanity_checking:
            lightning_steps.log_from(self.trainer, self.trainer.global_step - 1)

    def on_test_epoch_end(self) -> None:
        """Log `test/accuracy` and `test/loss`."""
        self._finish_counting("test")

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The class of each image, int64 `[N]`. The batch needs no labels."""
        pixels = self._as_weights(pixels_alone(batch))
        classes: Tensor = self(pixels).argmax(1)
        return classes

    # Checkpoints ------------------------------------------------------------------------

    @_restricted_classmethod
    def load_from_checkpoint(
        cls,  # noqa: N805
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make a module from a local checkpoint, as Lightning does.

        `weights_only` has no effect: no code of the file is run in any case.

        Raises:
            UserError: It cannot be read without running code, or is not one of ours. Or
                its network has other options than those that are given.
        """
        stored: dict[str, Any] = {}

        def check(checkpoint: Any) -> None:
            refuse_what_lightning_cannot_load(checkpoint)
            stored.update(checkpoint.get("hyper_parameters", {}))

        with opened_safely(checkpoint_path, check) as file:
            module = super().load_from_checkpoint(
                file, map_location, hparams_file, strict, weights_only=True, **kwargs
            )
        module._refuse_options(stored)
        return module

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the network and the settings of the run.

        Settings of a subclass that cannot be read without running code are left out.
        """
        for group in ("hyper_parameters", "datamodule_hyper_parameters"):
            if group in checkpoint:
                checkpoint[group] = plain_parts(checkpoint[group])
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        settings = self._run_settings(data)
        checkpoint["mnistport"] = {"network": self.network.name, **settings}

    def _run_settings(self, data: MnistData) -> dict[str, Any]:
        """The settings that must stay the same if a run is continued."""
        return {
            "seed_everything": self.seed,
            "data.batch_size": data.batch_size,
            "data.source": data.name,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse an unsuitable checkpoint. To continue a run, find the right epoch."""
        data = self._data_to_continue()
        self._refuse(checkpoint, data)
        stored = checkpoint.get("hyper_parameters", {})
        self.loaded_learning_rate = stored.get("learning_rate")
        if data is not None:
            if checkpoint["global_step"] == data.last_step(self.trainer):
                rank_zero_info("the run is complete; nothing is left to train")
            steps = data.steps_of_epoch(self.trainer)
            lightning_steps.continue_at_step(checkpoint, steps)

    @property
    def _is_fitting(self) -> bool:
        return self._trainer is not None and self.trainer.state.fn == "fit"

    def _data_to_continue(self) -> MnistData | None:
        """The data of the run, if the trainer fits."""
        if not self._is_fitting:
            return None
        data: MnistData = self.trainer.datamodule  # type: ignore[attr-defined]
        return data

    def _refuse(self, checkpoint: dict[str, Any], data: MnistData | None) -> None:
        """See `checkpoints.refuse_other_run`."""
        run = None if data is None else self._run_settings(data)
        defaults = networks.default_options(self.network)
        options = self.hparams.get("options") or {}
        weights = self.state_dict()
        refuse_other_run(checkpoint, self.network.name, weights, run, options, defaults)
        if data is not None:
            refuse_other_choice(checkpoint, self.hparams, data.hparams)
            refuse_other_optimization(checkpoint, self)
            step = checkpoint["global_step"]
            refuse_run_that_is_over(step, data.last_step(self.trainer))

    def _refuse_options(self, stored: dict[str, Any]) -> None:
        """Refuse other options than those among a checkpoint's hyper-parameters."""
        defaults = networks.default_options(self.network)
        options = self.hparams.get("options") or {}
        theirs = stored.get("options") or {}
        refuse_other_options({**defaults, **theirs}, {**defaults, **options})


def _fast_engine(step: Step, longest: int) -> Engine | str:
    """The engine of `mnistport.speed`, or the reason why it is not used."""
    try:
        from mnistport.speed import engine_for
    except ModuleNotFoundError as error:
        if error.name != "mnistport.speed":
            raise
        return "the folder mnistport/speed is not there"
    return engine_for(step, longest)
