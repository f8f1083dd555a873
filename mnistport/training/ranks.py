"""Several processes that train together, the ranks.

They start alike, and none of them waits for one that is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import distributed

from mnistport import __version__
from mnistport.errors import UserError

INTERVAL_SECONDS = 1.0
"""How often a rank tells the others that it is there."""
PATIENCE_SECONDS = 20.0
"""How long a rank may be silent before the others end."""
SHORT_PATIENCE_SECONDS = 5.0
"""The same, after its connection broke."""
LAST_WORDS_SECONDS = 2.0
"""How long a process has to end by itself after a rank was lost."""
BROKEN = ("gloo", "nccl", "closed by peer", "reset by peer", "broken pipe")
"""What a RuntimeError of torch says if the connection to another rank broke."""


def refuse_ranks_that_differ(trainer: pl.Trainer, module: Any) -> None:
    """Compare what the ranks were given. Every rank has to call this.

    Raises:
        UserError: A rank has other data, another seed, other options or other versions.
    """
    own = json.dumps(_facts(trainer, module))
    texts = _from_all(own, trainer.strategy.root_device)
    difference = first_difference([json.loads(text) for text in texts])
    if difference:
        # All of them come here. What waits for another one would abort when it is gone.
        distributed.destroy_process_group()
        raise UserError(
            f"{difference}; start every rank with the same command, versions and data"
        )


def first_difference(facts: Sequence[Mapping[str, Any]]) -> str:
    """The first rank that differs from rank 0, and in what. "" if none does."""
    for rank, other in enumerate(facts):
        for name, value in facts[0].items():
            if other.get(name) != value:
                return f"rank {rank} has {name} {other.get(name)}, and rank 0 has {value}"
    return ""


def _facts(trainer: pl.Trainer, module: Any) -> dict[str, Any]:
    """What must be the same on all ranks, as JSON values, by the user's own names."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    facts = {
        "mnistport": __version__,
        "torch": torch.__version__,
        "pytorch-lightning": version("pytorch-lightning"),
        "--model.network": module.network.name,
        "--model.options": json.dumps(module.hparams.get("options"), sort_keys=True),
        "--model.learning_rate": module.learning_rate,
        "--model.optimizer": module.hparams.get("optimizer"),
        "--model.optimizer_options": json.dumps(
            module.hparams.get("optimizer_options"), sort_keys=True
        ),
        "--seed_everything": module.seed,
        "--trainer.precision": str(trainer.precision),
        "--trainer.max_steps": trainer.max_steps,
        "--trainer.max_epochs": trainer.max_epochs,
    }
    for name in ("batch_size", "seed", "name"):
        facts[f"--data.{name}"] = getattr(data, name, None)
    if hasattr(data, "checksum"):
        facts["data with the checksum"] = data.checksum()
    if module.ckpt_path is not None and Path(module.ckpt_path).is_file():
        checksum = zlib.crc32(Path(module.ckpt_path).read_bytes())
        facts["a checkpoint with the checksum"] = f"{checksum:08x}"
    return facts


def _from_all(text: str, device: torch.device) -> list[str]:
    """The text of every rank. It comes as bytes, so that nothing is executed."""
    data = torch.tensor(list(text.encode()), dtype=torch.uint8, device=device)
    size = torch.tensor([len(data)], device=device)
    sizes = [torch.zeros_like(size) for _ in range(distributed.get_world_size())]
    distributed.all_gather(sizes, size)
    longest = int(max(sizes))
    padded = torch.nn.functional.pad(data, (0, longest - len(data)))
    texts = [torch.zeros_like(padded) for _ in sizes]
    distributed.all_gather(texts, padded)
    return [
        bytes(part[: int(length)].tolist()).decode()
        for part, length in zip(texts, sizes, strict=True)
    ]


class Together(Callback):
    """Lets ranks start alike, and ends this one if another has ended before its time.

    Without it, a rank whose companion was killed ends with a long traceback, or waits for
    half an hour.
    """

    counts_chunks = True
    beats: Beats | None = None
    """Those of this process. They go on from one use of a trainer to the next."""

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Refuse ranks that differ, and begin to watch the others."""
        refuse_ranks_that_differ(trainer, pl_module)
        if Together.beats is None:
            Together.beats = Beats(trainer.global_rank, trainer.world_size)
            Together.beats.start()
        Together.beats.working = True

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """From now on, other ranks may end."""
        if Together.beats is not None:
            Together.beats.working = False

    def on_exception(
        self, trainer: pl.Trainer, pl_module: Any, exception: BaseException
    ) -> None:
        """Tell the others why this rank ends. Or wait until it is known who is gone."""
        if Together.beats is None:
            return
        if not isinstance(exception, Exception):  # a signal, which ends all ranks
            Together.beats.working = False
            return
        if _is_broken_connection(exception):
            Together.beats.find_who_is_gone()
        Together.beats.fail(exception)


def _is_broken_connection(exception: BaseException) -> bool:
    if isinstance(exception, distributed.DistError):
        return True
    told = str(exception).lower()
    return isinstance(exception, RuntimeError) and any(word in told for word in BROKEN)


class Beats(threading.Thread):
    """Tells the other ranks, again and again, that this one is there, and watches them.

    Args:
        rank: The number of this process.
        world_size: The number of processes.
    """

    def __init__(self, rank: int, world_size: int) -> None:
        super().__init__(daemon=True)
        # A connection of its own, since another one may be in use for a long time.
        self.store = distributed.distributed_c10d._get_default_store().clone()
        self.rank, self.world_size = rank, world_size
        self.working = True
        self.patience = PATIENCE_SECONDS
        self.last_words = ""
        now = time.monotonic()
        self.heard = {other: (b"", now) for other in range(world_size) if other != rank}
        self.answered = now

    def run(self) -> None:
        """See the class. If a rank is lost while this one works, end the process."""
        threading.Thread(target=self._talk, daemon=True).start()
        while True:
            time.sleep(INTERVAL_SECONDS)
            now = time.monotonic()
            if now - self.answered > self.patience:
                self._end(0, "it does not answer")  # its process has the store
            for rank, (told, since) in self.heard.items():
                if told.startswith(b"!"):
                    self._end(rank, told[1:].decode(errors="replace"))
                elif now - since > self.patience:
                    self._end(rank, f"nothing was heard of it for {now - since:.0f} s")

    def _talk(self) -> None:
        """Say that this rank is there, and hear the others. It waits for the store."""
        number = 0
        while True:
            number += 1
            try:
                self.store.set(self._key(self.rank), self.last_words or str(number))
                for rank, (before, _) in self.heard.items():
                    if self.store.check([self._key(rank)]):
                        told = self.store.get(self._key(rank))
                        if told != before:
                            self.heard[rank] = told, time.monotonic()
            except RuntimeError:
                return  # so there is no answer from now on
            self.answered = time.monotonic()
            time.sleep(INTERVAL_SECONDS)

    @staticmethod
    def _key(rank: int) -> str:
        return f"mnistport/beat/{rank}"

    def find_who_is_gone(self) -> None:
        """Wait until the process is ended because of a rank, or it is known that none."""
        self.patience = SHORT_PATIENCE_SECONDS
        self.join(SHORT_PATIENCE_SECONDS + 2 * INTERVAL_SECONDS + LAST_WORDS_SECONDS)

    def fail(self, exception: BaseException) -> None:
        """Tell the others that this rank ends, and why."""
        self.working = False
        reason = str(exception).partition("\n")[0][:200]
        self.last_words = f"!{type(exception).__name__}: {reason}".rstrip(": ")
        time.sleep(2 * INTERVAL_SECONDS)

    def _end(self, rank: int, why: str) -> None:
        """End this process, unless it has nothing left to do together with the others."""
        time.sleep(LAST_WORDS_SECONDS)
        if self.working:
            sys.stdout.flush()
            print(
                f"mnistport: rank {rank} of {self.world_size} has ended ({why}), "
                f"so rank {self.rank} ends, too; the same command with "
                "--ckpt_path last goes on",
                file=sys.stderr,
                flush=True,
            )
            os._exit(1)
