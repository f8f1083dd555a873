"""Reads checkpoint files without running their code, and finds those of past runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from mnistport.errors import UserError
from mnistport.training.checkpoint_form import refuse_what_lightning_cannot_load
from mnistport.training.checkpoints import refuse_unfinished
from mnistport.training.torch_files import read_torch_file

NAMES_OF_EARLIER_RUNS = ("last", "best", "hpc")


def read_checkpoint(path: str, *, to_continue: bool) -> dict[str, Any]:
    """Read a checkpoint of ours. No code that the file may contain is run.

    Args:
        path: A local file, as the user named it.
        to_continue: Whether a run is to be continued from it. Then more is asked of it.

    Raises:
        UserError: The path is not a local file, or its content is not a checkpoint that
            mnistport wrote.
    """
    try:
        checkpoint: dict[str, Any] = read_torch_file(path, mmap=True)
        refuse_what_lightning_cannot_load(checkpoint)
        if to_continue:
            refuse_unfinished(checkpoint)
    except UserError as error:
        raise UserError(f"--ckpt_path {path}: {error}") from error
    return checkpoint


def load_for_trainer(path: str | Path, weights_only: bool | None = None) -> Any:
    """Read a checkpoint as Lightning's `Strategy.load_checkpoint` does, and safely.

    Args:
        path: A local file.
        weights_only: Has no effect. No code that the file may contain is run, whatever
            the caller says, and whatever TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD says.

    Raises:
        UserError: It is not a local file, or it cannot be read without running code.
    """
    try:
        return read_torch_file(str(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


@contextmanager
def opened_safely(
    source: str | Path | IO[bytes], check: Callable[[Any], None] = lambda _: None
) -> Iterator[IO[bytes]]:
    """A checkpoint that is open for reading, and that can be read without running code.

    Args:
        source: A local file, or one that is open already.
        check: Refuses content of another form.

    Raises:
        UserError: It is not a local file, or it cannot be read without running code, or
            `check` refuses it.
    """
    name = getattr(source, "name", "the checkpoint")
    with ExitStack() as stack:
        try:
            if isinstance(source, (str, Path)):
                name = str(source)
                check(read_torch_file(name))
                source = stack.enter_context(open(name, "rb"))
            else:
                check(read_torch_file(source))
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        source.seek(0)
        yield source


class Found(NamedTuple):
    """A checkpoint of an earlier run.

    Attributes:
        path: Its file.
        why: Why this one. "" for the newest, where the newest is asked for.
    """

    path: Path
    why: str


def find_checkpoint(name: str, root: Path, network: str | None) -> Found:
    """The file that `last`, `best` or `hpc` stands for: that of the newest run.

    Args:
        name: One of `NAMES_OF_EARLIER_RUNS`.
        root: The folder of the runs, --trainer.default_root_dir.
        network: The network whose runs are looked at. None: of any network.

    Raises:
        UserError: There is no such file.
    """
    passed_over = []
    for path in _newest_first(name, root):
        try:
            checkpoint = read_checkpoint(str(path), to_continue=False)
        except UserError:
            passed_over.append(path)  # it was cut short, or is of another program
            continue
        if network in (None, checkpoint["mnistport"]["network"]):
            why = _unreadable(passed_over)
            if name == "best":
                return _best_of_its_run(checkpoint, path)
            return Found(path, f"the newest that is whole{why}" if why else "")
    whose = f"of {network} " if network else ""
    raise NoCheckpointError(
        f"--ckpt_path {name}: no checkpoint {whose}lies below {root} (looked at "
        f"lightning_logs and checkpoints{_unreadable(passed_over)}); name a file, or the "
        "folder of the runs with --trainer.default_root_dir"
    )


class NoCheckpointError(UserError):
    """No earlier run has left a checkpoint."""


def _unreadable(paths: Sequence[Path]) -> str:
    """The files that were passed over, in words. "" if there are none."""
    if not paths:
        return ""
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"; not a checkpoint that can be read: {paths[0]}{others}"


def _newest_first(name: str, root: Path) -> list[Path]:
    """The checkpoint files below the folder of the runs."""
    patterns = ["lightning_logs/**/*.ckpt", "checkpoints/*.ckpt", "*.ckpt"]
    if name == "hpc":
        patterns = ["hpc_ckpt_*.ckpt"]
    found: dict[Path, float] = {}
    for pattern in patterns:
        for path in root.glob(pattern):
            if path.is_file() and not path.name.startswith("."):
                found[path] = path.stat().st_mtime
    return sorted(found, key=lambda path: (found[path], str(path)), reverse=True)


def _best_of_its_run(checkpoint: Mapping[str, Any], path: Path) -> Found:
    """The file that a `ModelCheckpoint` of the run holds for the best one.

    If there is none, it is the run's newest file.
    """
    why = "the newest, because its run monitored no figure that says which is best"
    for monitor, best in _best_paths(checkpoint):
        for place in (Path(best), path.parent / Path(best).name):
            if place.is_file():
                return Found(place, f"the best by {monitor}")
        why = f"the newest, because the best by {monitor} is gone: {best}"
    return Found(path, why)


def _best_paths(checkpoint: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The figure that each `ModelCheckpoint` compared, and the file that was best."""
    for state in checkpoint.get("callbacks", {}).values():
        if not isinstance(state, Mapping) or state.get("monitor") is None:
            continue
        best = state.get("best_model_path")
        if isinstance(best, str) and best:
            yield state["monitor"], best
