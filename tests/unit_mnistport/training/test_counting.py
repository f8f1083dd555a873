"""All that a Lightning user counts is counted in optimizer steps, not in chunks."""

import csv

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from mnistport.errors import UserError

EPOCH = 13  # steps: 1,375 digits in batches of 100


def rows_of(logger: CSVLogger, column: str) -> dict[int, float]:
    """A column of the logged file, by step."""
    logger.save()
    with open(f"{logger.log_dir}/metrics.csv", newline="") as file:
        return {
            int(row["step"]): float(row[column])
            for row in csv.DictReader(file)
            if row.get(column)
        }


@pytest.mark.parametrize("steps_per_execution", [1, 7, 50])
@pytest.mark.parametrize("max_steps", [1, 13, 40])
def test_max_steps_is_exact(train, steps_per_execution, max_steps):
    run = train(max_steps=max_steps, steps_per_execution=steps_per_execution)
    assert run.trainer.global_step == max_steps
    assert len(run.record.losses) == max_steps
    assert max(last - first for first, last in run.record.chunks) == min(
        steps_per_execution, max_steps, EPOCH
    )


def test_max_steps_0_takes_no_step(train):
    run = train(max_steps=0)
    assert run.trainer.global_step == 0
    assert not run.module.net.fc.weight.any()


@pytest.mark.parametrize("max_epochs", [1, 3])
def test_max_epochs_is_exact(train, max_epochs):
    run = train(max_epochs=max_epochs)
    assert run.trainer.global_step == max_epochs * EPOCH
    assert run.trainer.current_epoch == max_epochs
    assert run.record.epochs == [EPOCH * epoch for epoch in range(1, max_epochs + 1)]


def test_whichever_of_max_steps_and_max_epochs_is_reached_first_ends_the_run(train):
    assert train(max_epochs=2, max_steps=20).trainer.global_step == 20
    assert train(max_epochs=2, max_steps=200).trainer.global_step == 2 * EPOCH


@pytest.mark.parametrize(
    ("limit", "steps"),
    [(5, 5), (1, 1), (200, EPOCH), (0.5, EPOCH // 2), (0.01, 1), (1.0, EPOCH)],
    ids=repr,
)
@pytest.mark.parametrize(
    "flags", [{}, {"reload_dataloaders_every_n_epochs": 1}], ids=["", "reloading"]
)
def test_limit_train_batches_limits_the_steps_of_an_epoch(train, limit, steps, flags):
    run = train(max_epochs=3, limit_train_batches=limit, steps_per_execution=2, **flags)
    assert run.record.epochs == [steps, 2 * steps, 3 * steps]
    assert run.trainer.limit_train_batches == limit, "the trainer gets its flag back"


def test_a_limit_of_no_batches_trains_nothing(train):
    assert train(max_epochs=2, limit_train_batches=0).trainer.global_step == 0


@pytest.mark.parametrize(("fast_dev_run", "steps"), [(True, 1), (3, 3)])
def test_fast_dev_run_takes_its_few_steps_validates_and_ends(train, fast_dev_run, steps):
    run = train(fast_dev_run=fast_dev_run, limit_val_batches=1.0, max_epochs=5)
    assert run.trainer.global_step == steps
    assert run.record.validated == [steps]


@pytest.mark.parametrize(("overfit_batches", "steps"), [(3, 3), (0.25, 3)])
def test_overfitting_repeats_the_first_batches(train, overfit_batches, steps):
    # Lightning limits validation, too: a quarter of one batch is none.
    data = {"eval_batch_size": 20}
    run = train(
        max_epochs=4, overfit_batches=overfit_batches, steps_per_execution=2, data=data
    )
    assert run.trainer.global_step == 4 * steps
    first = torch.stack(run.record.batches[:steps])
    for epoch in range(1, 4):
        assert torch.equal(
            torch.stack(run.record.batches[epoch * steps : (epoch + 1) * steps]), first
        )


@pytest.mark.parametrize("steps_per_execution", [1, 7, 50])
def test_a_checkpoint_every_seven_steps_is_written_at_7_14_21(
    train, tmp_path, steps_per_execution
):
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=7, save_top_k=-1)
    train(max_steps=30, steps_per_execution=steps_per_execution, callbacks=(keep,))
    assert {path.name for path in tmp_path.glob("*.ckpt")} == {
        f"step={step}.ckpt" for step in (7, 14, 21, 28)
    }
    for step in (7, 14, 21, 28):
        saved = torch.load(tmp_path / f"step={step}.ckpt", weights_only=True)
        assert saved["global_step"] == step
        at_that_step = train(max_steps=step).weights
        assert torch.equal(
            saved["state_dict"]["net.fc.weight"], at_that_step["fc.weight"]
        )


def test_two_checkpoint_intervals_are_both_kept(train, tmp_path):
    keepers = [
        ModelCheckpoint(
            tmp_path, f"{every}-{{step}}", every_n_train_steps=every, save_top_k=-1
        )
        for every in (4, 6)
    ]
    train(max_steps=13, callbacks=tuple(keepers))
    expected = {"4-step=4", "4-step=8", "4-step=12", "6-step=6", "6-step=12"}
    assert {path.stem for path in tmp_path.glob("*.ckpt")} == expected


@pytest.mark.parametrize("steps_per_execution", [1, 7])
@pytest.mark.parametrize(
    ("flags", "validated"),
    [
        ({}, [13, 26, 39]),
        ({"check_val_every_n_epoch": 2}, [26]),
        ({"val_check_interval": 5}, [5, 10, 18, 23, 31, 36]),
        ({"val_check_interval": 13}, [13, 26, 39]),
        ({"val_check_interval": 1, "max_steps": 4}, [1, 2, 3, 4]),
        ({"val_check_interval": 0.5}, [6, 12, 19, 25, 32, 38]),
        ({"val_check_interval": 0.01, "max_steps": 3}, [1, 2, 3]),
        ({"val_check_interval": 5, "check_val_every_n_epoch": 2}, [18, 23]),
        (
            {"val_check_interval": 5, "check_val_every_n_epoch": None},
            [5, 10, 15, 20, 25, 30, 35],
        ),
        ({"val_check_interval": 20, "check_val_every_n_epoch": None}, [20]),
        ({"val_check_interval": 5, "limit_train_batches": 6}, [5, 11, 17]),
        (
            {"val_check_interval": 5, "reload_dataloaders_every_n_epochs": 1},
            [5, 10, 18, 23, 31, 36],
        ),
    ],
    ids=str,
)
def test_validation_falls_on_the_steps_asked_for(
    train, steps_per_execution, flags, validated
):
    """By default Lightning counts the interval anew in each epoch."""
    flags = {"max_epochs": 3, "limit_val_batches": 1.0, **flags}
    assert (
        train(steps_per_execution=steps_per_execution, **flags).record.validated
        == validated
    )


def test_these_are_the_batches_at_which_lightning_itself_validates(tmp_path):
    """The same flags, on an ordinary Lightning module with one step per batch."""

    class Plain(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)
            self.validated = []

        def training_step(self, batch, batch_idx):
            return self.layer(batch[0]).sum()

        def validation_step(self, batch, batch_idx):
            if batch_idx == 0:
                self.validated.append(self.trainer.global_step)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    examples = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.rand(13, 2)), 1
    )
    for flags, validated in [
        ({"val_check_interval": 5}, [5, 10, 18, 23]),
        ({"val_check_interval": 0.5}, [6, 12, 19, 25]),
        ({"val_check_interval": 5, "check_val_every_n_epoch": None}, [5, 10, 15, 20, 25]),
    ]:
        module = Plain()
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=2, num_sanity_val_steps=0, logger=False,
            enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path, **flags
        )  # fmt: skip
        trainer.fit(module, examples, examples)
        assert module.validated == validated


def test_an_interval_given_as_time_is_left_to_lightning(train):
    run = train(max_epochs=2, val_check_interval="00:01:00:00", limit_val_batches=1.0)
    assert run.trainer.global_step == 2 * EPOCH
    assert len(run.record.validated) <= 2


def test_an_interval_longer_than_the_epoch_is_refused_with_a_remedy(train, tmp_path):
    with pytest.raises(
        UserError,
        match=r"val_check_interval 20 is more than the 13 steps"
        r".*check_val_every_n_epoch null",
    ):
        train(
            max_epochs=2,
            val_check_interval=20,
            limit_val_batches=1.0,
            logger=CSVLogger(tmp_path),
        )
    assert not list(tmp_path.iterdir()), "refused before anything was written"


@pytest.mark.parametrize("every", [1, 4, 10])
def test_loggers_get_the_loss_of_every_nth_step_at_that_step(train, tmp_path, every):
    logged = {}
    for steps_per_execution in (1, 7, 50):
        logger = CSVLogger(tmp_path, name=f"by{steps_per_execution}")
        run = train(
            max_steps=30,
            steps_per_execution=steps_per_execution,
            logger=logger,
            log_every_n_steps=every,
        )
        logged[steps_per_execution] = rows_of(logger, "train/loss")
        assert list(logged[steps_per_execution]) == [
            step for step in range(1, 31) if step % every == 0
        ]
        for step, loss in logged[steps_per_execution].items():
            assert loss == run.record.losses[step - 1]
    assert logged[1] == logged[7] == logged[50]


def test_what_is_validated_and_tested_is_logged_at_the_optimizer_step(train, tmp_path):
    logger = CSVLogger(tmp_path)
    run = train(max_steps=20, logger=logger, val_check_interval=5, limit_val_batches=1.0)
    assert list(rows_of(logger, "val/accuracy")) == [5, 10, 18]
    run.trainer.test(run.module, datamodule=run.data, verbose=False)
    assert list(rows_of(logger, "test/accuracy")) == [20]
    assert rows_of(logger, "test/accuracy")[20] == pytest.approx(
        run.module.last_score.accuracy, rel=1e-6
    )


def test_the_mean_loss_of_each_epoch_is_logged_at_its_last_step(train, tmp_path):
    logger = CSVLogger(tmp_path)
    run = train(max_epochs=2, logger=logger)
    means = rows_of(logger, "train/epoch_loss")
    assert list(means) == [13, 26]
    assert means[26] == pytest.approx(sum(run.record.losses[13:]) / 13, rel=1e-6)


def test_a_callback_can_stop_the_run_after_any_step(train):
    class Stop(Callback):
        def on_train_batch_end(self, trainer, *_):
            trainer.should_stop = trainer.global_step >= 14

    assert (
        train(
            max_epochs=9, steps_per_execution=7, callbacks=(Stop(),)
        ).trainer.global_step
        == 14
    )


def test_early_stopping_on_a_validated_figure_works(train):
    stop = EarlyStopping("val/loss", patience=0, min_delta=100.0)
    run = train(max_epochs=9, limit_val_batches=1.0, callbacks=(stop,))
    assert run.trainer.global_step == 2 * EPOCH


def test_the_best_checkpoint_is_chosen_by_a_validated_figure(train, tmp_path):
    keep = ModelCheckpoint(tmp_path, "{step}", monitor="val/accuracy", mode="max")
    train(max_epochs=2, val_check_interval=5, limit_val_batches=1.0, callbacks=(keep,))
    assert keep.best_model_score > 0.5
    assert "step=" in keep.best_model_path


@pytest.mark.parametrize(
    "flag", [{"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}]
)
def test_flags_that_would_do_nothing_are_refused(train, flag):
    (name,) = flag
    with pytest.raises(UserError, match=f"--trainer.{name} .*leave it out"):
        train(max_steps=1, **flag)
