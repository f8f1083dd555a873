"""A script, not a test: one of two processes that train and test together on a CPU.

`test_ranks.py` starts both.

Usage: python one_of_two_ranks.py FOLDER, with Lightning's environment variables for
several processes.
"""

import os
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier


class Scored(Callback):
    """The test images that this rank has scored, by their pixels, and the answers."""

    def __init__(self) -> None:
        self.sums = []

    def on_test_batch_end(
        self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0
    ):
        self.sums += batch[0].double().sum(1).tolist()


def main(folder: Path) -> None:
    rank = int(os.environ["LOCAL_RANK"])
    torch.set_num_threads(1)
    torch.manual_seed(rank)  # only rank 0's initial weights may count
    module = Classifier("three_minute_adam", steps_per_execution=4)
    scored = Scored()
    often = ModelCheckpoint(folder, "{step}", every_n_train_steps=3, save_top_k=-1)
    best = ModelCheckpoint(folder, "best", monitor="val/accuracy", mode="max")
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        precision="64-true",
        max_steps=6,
        max_epochs=-1,
        val_check_interval=5,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[scored, often, best],
    )
    data = MnistData(
        "three_minute_adam", source="digits", batch_size=25, eval_batch_size=40
    )
    trainer.fit(module, datamodule=data)
    share = (module.share.start, module.share.stop)
    trainer.test(module, datamodule=data, verbose=False)
    result = {
        "weights": module.net.state_dict(),
        "score": tuple(module.last_score),
        "scored": scored.sums,
        "share": share,
        "global_step": trainer.global_step,
        "world_size": trainer.world_size,
        "test_loss": trainer.callback_metrics["test/loss"].item(),
        "best": best.best_model_score.item(),
    }
    torch.save(result, folder / f"rank-{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
