"""The folder of a lock-step run: its settings and its state, from which it continues.

settings.json   the settings by which the run is recognised
state.npz       both sides' states and the records so far
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mnistport.errors import UserError
from mnistport.files import read_small, write_whole
from parity.lockstep import Lockstep
from parity.state import whole_step

SETTINGS, STATE = "settings.json", "state.npz"


@contextmanager
def made_for_a_run(folder: Path) -> Iterator[None]:
    """Make a folder for the block. If it raises before there is a state, undo that.

    Settings without a state are of no run, so they are removed, too.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        if not (folder / STATE).exists():
            (folder / SETTINGS).unlink(missing_ok=True)
            with suppress(OSError):  # something else was put there
                for path in made:
                    path.rmdir()
        raise


def read_settings(folder: Path) -> dict[str, Any] | None:
    """The settings of the run in a folder. None if there is no state of a run.

    Raises:
        UserError: There is a state, but its settings cannot be read.
    """
    file = folder / SETTINGS
    if not (folder / STATE).is_file():
        return None
    try:
        settings = json.loads(read_small(file))
        if not isinstance(settings["every"], int) or settings["every"] < 1:
            raise ValueError(f"every is {settings['every']!r}")
    except (ValueError, TypeError, KeyError, OSError, RecursionError) as error:
        raise UserError(
            f"{file}: cannot be read; add --fresh to begin anew, or --out ({error!r})"
        ) from error
    return dict(settings)


def continue_run(
    run: Lockstep, folder: Path, settings: dict[str, Any], steps: int, *, fresh: bool
) -> None:
    """Restore the run of the folder, if there is one, and write the settings.

    Args:
        run: The run at its start.
        folder: The folder.
        settings: The settings of this run.
        steps: The steps that this run is to take.
        fresh: Whether to delete an earlier run.

    Raises:
        UserError: The earlier run has other settings, has taken more steps, or cannot be
            read.
    """
    state = folder / STATE
    if fresh:
        # This comes first: an old state must never lie beside new settings.
        state.unlink(missing_ok=True)
    earlier = read_settings(folder)
    if earlier is not None:
        _refuse_other_settings(earlier, settings, folder)
        try:
            run.restore(state)
            whole_step(state, "step", run.step)
        except Exception as error:  # a damaged file may hold anything
            raise UserError(
                f"{state}: cannot be read; add --fresh to begin anew ({error})"
            ) from error
        if run.step > steps:
            raise UserError(
                f"{folder}: that run is at step {run.step:,} already, past {steps:,}; "
                "add --fresh, or --out"
            )
        print(f"going on after step {run.step:,}")
    write_whole(folder / SETTINGS, json.dumps(settings))


def _refuse_other_settings(
    earlier: Mapping[str, Any], now: Mapping[str, Any], folder: Path
) -> None:
    """Refuse to continue a run that began with other settings."""
    changes = []
    for key in {**earlier, **now}:
        before, value = earlier.get(key), now.get(key)
        if before != value:
            changes.append(f"{key} {before!r} (now {value!r})")
    if changes:
        raise UserError(
            f"{folder}: holds a run with {', '.join(changes)}; "
            "go on with the same, or add --fresh, or --out"
        )
