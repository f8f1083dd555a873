"""The devices of a machine, and how a run finds one that no other run is using."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mnistport.errors import UserError

SECONDS_BETWEEN_LOOKS = 0.5


def devices_for(asked: str) -> list[str]:
    """The devices that an answer to `--device` stands for.

    Raises:
        UserError: There is no such device.
    """
    count = torch.cuda.device_count()
    kind, _, number = asked.partition(":")
    if asked == "cpu" or (asked == "auto" and not count):
        return ["cpu"]
    if asked not in ("cuda", "auto") and not (kind == "cuda" and number.isdecimal()):
        raise UserError(
            f"--device {asked}: there is no such device; use cpu, cuda, cuda:N or auto"
        )
    if int(number or 0) >= count:
        raise UserError(
            f"--device {asked}: torch sees {count} CUDA devices here; use --device cpu"
        )
    return [asked] if number else [f"cuda:{device}" for device in range(count)]


@contextmanager
def free_device(asked: str) -> Iterator[str]:
    """Give a device that no other run is using, and keep it for the block.

    A run locks the file of its device. The system unlocks it when the process ends,
    whatever ends it. If all devices are in use, wait. The CPU is not locked.

    Args:
        asked: What `devices_for` takes.

    Raises:
        UserError: There is no such device.
    """
    devices = devices_for(asked)
    if devices == ["cpu"]:
        yield "cpu"
        return
    while True:
        for device in devices:
            with locked(_lock_file(device), wait=False) as is_ours:
                if is_ours:
                    yield device
                    return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _lock_file(device: str) -> Path:
    """The file that stands for a GPU. CUDA_VISIBLE_DEVICES may change its number."""
    number = int(device.partition(":")[2])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    name = visible[number].strip() if number < len(visible) and visible[0] else number
    folder = Path(tempfile.gettempdir()) / f"mnistport-{os.getuid()}"
    return folder / f"cuda-{name}.lock"


@contextmanager
def locked(file: Path, *, wait: bool) -> Iterator[bool]:
    """Lock a file for the block. Gives whether it is locked.

    Args:
        file: Made if it does not exist. It stays.
        wait: Whether to wait while another process has locked it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
