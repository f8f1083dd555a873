"""The same weights, bit for bit, for any length of chunks, stopped or not."""

import pytest
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from mnistport.training.checkpoints import checkpoint_at

# The rest of a run needs no ModelCheckpoint, though its beginning had one.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning"),
    pytest.mark.thinned,
]

EPOCH = 13  # steps
WHOLE = 3 * EPOCH
# A network with dropout, and an optimizer with slots.
NETWORK = {"network": "three_minute_adam", "batch_size": 6, "limit_train_batches": EPOCH}
LIMITS = {"by steps": {"max_steps": WHOLE}, "by epochs": {"max_epochs": 3}}
by_steps_or_epochs = pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)


@pytest.fixture(scope="module")
def whole(train):
    """The undisturbed run of three epochs."""
    return train(**NETWORK, max_epochs=3, steps_per_execution=7)


@pytest.fixture(scope="module")
def killed(train, tmp_path_factory):
    """Checkpoints of a run, which could have been killed after any of them.

    They are written every 5 steps, every 13 steps, and at the end of each epoch.
    """
    folder = tmp_path_factory.mktemp("killed")
    keep = {"save_top_k": -1, "filename": "{step}"}
    often = [
        ModelCheckpoint(folder / f"every-{every}", every_n_train_steps=every, **keep)
        for every in (5, 13)
    ]
    train(
        **NETWORK,
        max_epochs=3,
        callbacks=(*often, ModelCheckpoint(folder / "epochs", **keep)),
    )
    return folder


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        same = (
            torch.equal(ours[name], value)
            if isinstance(value, torch.Tensor)
            else ours[name] == value
        )
        assert same, name


def assert_same_end(run, whole):
    assert_same(run.weights, whole.weights)
    assert_same(run.slots, whole.slots)
    assert run.trainer.global_step == whole.trainer.global_step


@pytest.mark.parametrize("steps_per_execution", [1, 50])
def test_the_length_of_chunks_changes_no_bit(train, whole, steps_per_execution):
    run = train(**NETWORK, max_epochs=3, steps_per_execution=steps_per_execution)
    assert_same_end(run, whole)
    assert run.record.losses == whole.record.losses


def test_the_length_of_chunks_changes_no_bit_in_mixed_precision(train):
    """Autocast keeps rounded weights within a step; the next step needs new ones."""
    mixed = {
        "network": "softmax",
        "batch_size": 6,
        "max_steps": 8,
        "precision": "bf16-mixed",
    }
    alone, chunked = (train(**mixed, steps_per_execution=length) for length in (1, 5))
    assert chunked.record.losses == alone.record.losses
    assert_same_end(chunked, alone)


def test_dropout_is_on_in_these_runs(train, whole, monkeypatch):
    monkeypatch.setattr(
        "mnistport.draws.KeyedDraws.uniform",
        lambda self, number, unit: torch.ones_like(unit),
    )
    assert train(**NETWORK, max_steps=3).record.losses != whole.record.losses[:3]


@by_steps_or_epochs
@pytest.mark.parametrize(
    "stop",
    [5, EPOCH, *(pytest.param(n, marks=pytest.mark.slow) for n in (20, 2 * EPOCH))],
)
@pytest.mark.parametrize("saved", ["after fit", "at the end of fit"])
def test_a_run_stopped_by_max_steps_continues_as_if_it_had_not_been(
    train, whole, tmp_path, limit, stop, saved
):
    keep = ModelCheckpoint(tmp_path, "kept")
    first = train(**NETWORK, max_steps=stop, callbacks=(keep,))
    first.trainer.save_checkpoint(tmp_path / "after.ckpt")
    path = tmp_path / "after.ckpt" if saved == "after fit" else keep.best_model_path
    rest = train(**NETWORK, **limit, ckpt_path=path, steps_per_execution=7)
    assert_same_end(rest, whole)
    assert first.record.losses + rest.record.losses == whole.record.losses
    assert rest.trainer.current_epoch == 3


@by_steps_or_epochs
@pytest.mark.parametrize(
    ("checkpoint", "stop", "epochs"),
    [
        ("every-5/step=5", 5, [13, 26, 39]),
        ("every-5/step=25", 25, [26, 39]),
        ("every-13/step=13", 13, [13, 26, 39]),  # written before the epoch was ended
        ("every-13/step=26", 26, [26, 39]),
        ("every-13/step=39", 39, [39]),
        ("epochs/step=13", 13, [26, 39]),
        ("epochs/step=26", 26, [39]),
        ("epochs/step=39", 39, []),
    ],
)
def test_a_run_killed_after_a_checkpoint_continues_as_if_it_had_not_been(
    train, whole, killed, limit, checkpoint, stop, epochs
):
    rest = train(**NETWORK, **limit, ckpt_path=killed / f"{checkpoint}.ckpt")
    assert_same_end(rest, whole)
    assert rest.record.losses == whole.record.losses[stop:]
    # A run at its max_steps is over at once.
    if not (stop == WHOLE and "max_steps" in limit):
        assert rest.record.epochs == epochs
        assert rest.trainer.current_epoch == 3


def test_a_run_that_was_stopped_twice_ends_like_one_that_was_not(train, whole, tmp_path):
    losses, path = [], None
    for stop in (5, 17, WHOLE):
        run = train(**NETWORK, max_steps=stop, ckpt_path=path)
        path = tmp_path / f"{stop}.ckpt"
        run.trainer.save_checkpoint(path)
        losses += run.record.losses
    assert losses == whole.record.losses
    assert_same_end(run, whole)


def test_a_checkpoint_written_by_validation_can_be_continued_too(train, tmp_path):
    flags = {
        **NETWORK,
        "max_epochs": 3,
        "val_check_interval": 5,
        "limit_val_batches": 1.0,
    }
    keep = ModelCheckpoint(tmp_path, "{step}", monitor="val/loss", save_top_k=-1)
    whole = train(**flags, callbacks=(keep,))
    assert whole.record.validated == [5, 10, 18, 23, 31, 36]
    for stop in (5, 23):
        rest = train(**flags, ckpt_path=tmp_path / f"step={stop}.ckpt")
        assert_same_end(rest, whole)
        assert rest.record.losses == whole.record.losses[stop:]
        assert rest.record.validated == [
            step for step in whole.record.validated if step > stop
        ]


def test_a_checkpoint_written_by_each_epochs_validation_can_be_continued_too(
    train, tmp_path
):
    flags = {
        **NETWORK,
        "max_epochs": 3,
        "limit_val_batches": 1.0,
        "num_sanity_val_steps": 2,
    }
    keep = ModelCheckpoint(
        tmp_path,
        "{step}",
        monitor="val/loss",
        save_top_k=-1,
        save_on_train_epoch_end=False,
    )
    whole = train(**flags, callbacks=(keep,))
    rest = train(**flags, ckpt_path=tmp_path / "step=13.ckpt")
    assert_same_end(rest, whole)
    assert rest.record.losses == whole.record.losses[13:]
    assert rest.record.validated == [26, 39]


@pytest.mark.parametrize("network", ["softmax", "hvass", "convnet"])
def test_other_streams_and_optimizers_resume_bit_for_bit_too(train, tmp_path, network):
    made = {"network": network, "batch_size": 6, "limit_train_batches": 4}
    whole = train(**made, max_steps=7)
    first = train(**made, max_steps=3)
    first.trainer.save_checkpoint(tmp_path / "3.ckpt")
    rest = train(
        **made, max_steps=7, ckpt_path=tmp_path / "3.ckpt", steps_per_execution=3
    )
    assert_same_end(rest, whole)


def test_a_float64_run_resumes_in_float64(train, tmp_path):
    made = {**NETWORK, "precision": "64-true"}
    whole = train(**made, max_steps=7)
    train(**made, max_steps=3).trainer.save_checkpoint(tmp_path / "3.ckpt")
    rest = train(**made, max_steps=7, ckpt_path=tmp_path / "3.ckpt")
    assert_same_end(rest, whole)
    assert rest.weights["fc1.weight"].dtype == torch.float64


def test_another_learning_rate_takes_the_place_of_the_checkpoints(train, tmp_path):
    first = train(max_steps=3)
    first.trainer.save_checkpoint(tmp_path / "3.ckpt")
    assert train(max_steps=4, ckpt_path=tmp_path / "3.ckpt").slots["lr"] == 0.5
    other = train(
        max_steps=4, ckpt_path=tmp_path / "3.ckpt", module={"learning_rate": 0.25}
    )
    assert other.slots["lr"] == 0.25
    same = train(
        max_steps=4, ckpt_path=tmp_path / "3.ckpt", module={"learning_rate": 0.5}
    )
    half = (same.weights["fc.weight"] - first.weights["fc.weight"]) / 2
    torch.testing.assert_close(
        other.weights["fc.weight"] - first.weights["fc.weight"],
        half,
        rtol=1e-3,
        atol=1e-7,
    )


class HalvesTheRateAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.optimizers[0].param_groups[0]["lr"] /= 2


@pytest.mark.parametrize("rate", [None, 0.25], ids=["the recipe's rate", "one's own"])
def test_a_rate_that_the_run_has_changed_goes_on(train, tmp_path, rate):
    made = {"module": {"learning_rate": rate}}
    whole = train(**made, max_steps=6, callbacks=(HalvesTheRateAt(2),))
    first = train(**made, max_steps=4, callbacks=(HalvesTheRateAt(2),))
    assert first.slots["lr"] == (rate or 0.5) / 2
    first.trainer.save_checkpoint(tmp_path / "4.ckpt")
    rest = train(**made, max_steps=6, ckpt_path=tmp_path / "4.ckpt")
    assert_same_end(rest, whole)


def test_a_checkpoint_contains_nothing_of_the_data(train, tmp_path):
    run = train(max_steps=5)
    run.trainer.save_checkpoint(tmp_path / "5.ckpt")
    saved = torch.load(tmp_path / "5.ckpt", weights_only=True)
    assert saved["global_step"] == 5
    assert "combined_loader" not in saved["loops"]["fit_loop"]["state_dict"]


def keys_of(mapping: dict, before: str = "") -> set[str]:
    """Every key of nested mappings, with the keys above it."""
    found = set()
    for key, value in mapping.items():
        found.add(before + key)
        found |= keys_of(value, f"{before}{key}.") if isinstance(value, dict) else set()
    return found


def test_a_checkpoint_made_without_a_trainer_is_continued_as_the_trainers_own(
    train, tmp_path
):
    """Also on the last step of an epoch, of which only its end is left."""
    first = train("softmax", max_steps=14)
    own, made = tmp_path / "own.ckpt", tmp_path / "made.ckpt"
    first.trainer.save_checkpoint(own)
    optimizer = first.trainer.optimizers[0].state_dict()
    checkpoint = checkpoint_at(14, "softmax", first.module.net.state_dict(), optimizer)
    torch.save(checkpoint, made)
    theirs = torch.load(own, weights_only=True)
    loops = keys_of(theirs["loops"])
    assert keys_of(checkpoint["loops"]) == loops
    left_out = {"datamodule_hparams_name", "datamodule_hyper_parameters"}
    assert set(theirs) - set(checkpoint) <= left_out
    ends = [train("softmax", max_steps=20, ckpt_path=path) for path in (own, made)]
    assert ends[0].record.losses == ends[1].record.losses
    for name, weight in ends[0].weights.items():
        assert torch.equal(weight, ends[1].weights[name])
