"""Two processes train what one process trains.

They see the same images, drop the same units, sum over the global batch, and score each
test image once.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

MADE = {
    "network": "three_minute_adam",
    "batch_size": 25,
    "precision": "64-true",
    "data": {"eval_batch_size": 40},
}
BOUND = 1e-12  # another order of sums makes 1e-16; one wrong image, 1e-4


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What both ranks ended with, and the folder of their checkpoints and output."""
    folder = tmp_path_factory.mktemp("two")
    script = Path(__file__).parent / "one_of_two_ranks.py"
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "NODE_RANK": "0",
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder)],
            env={**environment, "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            out, _ = process.communicate(timeout=120)
            assert process.returncode == 0, out
            with open(folder / "said.txt", "a") as said:
                said.write(out)
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"rank-{rank}.pt") for rank in range(2)], folder


@pytest.fixture(scope="module")
def one(train):
    run = train(**MADE, max_steps=6, val_check_interval=5, limit_val_batches=1.0)
    validated = run.trainer.callback_metrics["val/accuracy"].item()
    run.trainer.test(run.module, datamodule=run.data, verbose=False)
    return SimpleNamespace(**vars(run), weights=run.weights, validated=validated)


def furthest(ours, theirs) -> float:
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in theirs)


def test_there_were_two_ranks_with_unequal_shares(two):
    (first, second), _ = two
    assert first["world_size"] == second["world_size"] == 2
    assert (first["share"], second["share"]) == ((0, 13), (13, 25))
    assert first["global_step"] == second["global_step"] == 6


def test_both_ranks_hold_the_same_weights_bit_for_bit(two):
    (first, second), _ = two
    assert all(
        torch.equal(first["weights"][name], second["weights"][name])
        for name in first["weights"]
    )


def test_two_ranks_end_with_the_weights_of_one(two, one):
    (first, _), _ = two
    assert all(weight.dtype == torch.float64 for weight in first["weights"].values())
    assert furthest(first["weights"], one.weights) < BOUND


def test_accuracy_is_the_same_count_of_the_same_images(two, one):
    (first, second), _ = two
    assert first["score"] == second["score"] == tuple(one.module.last_score)
    assert first["score"][1] == 297
    assert first["test_loss"] == pytest.approx(
        one.trainer.callback_metrics["test/loss"].item(), rel=1e-6
    )


def test_every_test_image_is_scored_by_exactly_one_rank(two, one):
    (first, second), _ = two
    assert abs(len(first["scored"]) - len(second["scored"])) <= 1
    expected = one.data.test[0].double().sum(1).tolist()
    assert sorted(first["scored"] + second["scored"]) == pytest.approx(
        sorted(expected), rel=1e-6
    )


def test_validation_finds_the_same_accuracy_on_both(two, one):
    (first, second), _ = two
    assert first["best"] == second["best"] == one.validated


def test_the_last_line_is_printed_once_and_lightning_recommends_nothing(two):
    _, folder = two
    said = (folder / "said.txt").read_text()
    assert said.count("정확도:") == 1
    assert "sync_dist" not in said


# One rank needs no ModelCheckpoint, though the two had one.
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")
def test_a_run_of_two_ranks_can_be_continued_by_one(two, one, train):
    _, folder = two
    rest = train(**MADE, max_steps=6, ckpt_path=folder / "step=3.ckpt")
    assert len(rest.record.losses) == 3
    assert furthest(rest.weights, one.weights) < BOUND
