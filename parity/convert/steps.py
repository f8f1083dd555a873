"""The step of a TF1 checkpoint, and whether Adam's powers and its name agree."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from mnistport.errors import UserError
from parity.reference import Array
from parity.state import whole_step

LONGEST_LIST = 10**7
"""The most powers of one beta that are computed to find a step."""

CLOSE, VERY_CLOSE = 0.25, 0.02
"""How far a power may be from that of a step, in steps: if something else says the step,
too, and if nothing else does. A program's powers are exact."""

POWERS = ("beta1_power", "beta2_power")
"""TF1's names for the powers of Adam's betas."""


@dataclass(frozen=True, kw_only=True)
class Power:
    """A stored power of a beta of Adam. It is beta after 0 steps, then beta * beta, ...

    Attributes:
        name: "beta1_power" or "beta2_power".
        value: The stored number.
        beta: The network's beta.
        dtype: The precision in which the powers were computed.
    """

    name: str
    value: float
    beta: float
    dtype: DTypeLike

    @property
    def is_gone(self) -> bool:
        """Whether it became too small for its precision, so that it tells no step."""
        return self.value < float(np.finfo(self.dtype).tiny)

    @property
    def steps(self) -> float:
        """The number of steps that it tells. A fraction if no number gives this power."""
        near = math.log(self.value) / math.log(self.beta)
        count = round(near + near / 1000) + 2
        if count > LONGEST_LIST:
            return near - 1
        powers = np.multiply.accumulate(np.full(count, self.beta, self.dtype))
        step = int(np.argmin(np.abs(powers - self.value)))
        return step + math.log(self.value / powers[step]) / math.log(self.beta)

    @property
    def step(self) -> int:
        """The nearest number of steps."""
        return max(0, round(self.steps))

    def fits(self, step: int, closeness: float = CLOSE) -> bool:
        """Whether it can be the power after this many steps."""
        if self.is_gone:
            tiny = float(np.finfo(self.dtype).tiny)
            return step + 1 > 0.99 * math.log(tiny) / math.log(self.beta)
        return abs(self.steps - step) <= closeness

    def why_not(self, step: int) -> str:
        """Why it is not the power after this many steps, for a message."""
        beta = self.name.removesuffix("_power")
        if self.is_gone:
            return f"{self.name} {self.value:.6g} is too small"
        seen = self.value ** (1 / (step + 1))
        return (
            f"{self.name} {self.value:.6g} tells of a {beta} of {seen:.6g} (the "
            f"network's: {self.beta:.6g})"
        )


def refuse_impossible_powers(where: object, scalars: Mapping[str, Array]) -> None:
    """Refuse powers of Adam that no betas have.

    Raises:
        UserError: A power is not a number from 0 to 1, or it is 1.
    """
    for name in POWERS:
        if name in scalars and not 0.0 <= float(scalars[name]) < 1.0:
            raise UserError(
                f"{where}: is damaged: {name} is {float(scalars[name]):.6g}, and the "
                "power of a beta is below 1; --weights-only leaves the optimizer out"
            )


def powers_of(stored: Mapping[str, Array], initial: Mapping[str, Array]) -> list[Power]:
    """The powers in a state that can tell a step.

    Args:
        stored: The state's parts, by name.
        initial: Those of a new state, in which each power is the beta.
    """
    return [
        Power(
            name=name,
            value=float(stored[name]),
            beta=float(initial[name].astype(stored[name].dtype)),
            dtype=stored[name].dtype,
        )
        for name in POWERS
        if name in stored and name in initial and 0.0 < float(initial[name]) < 1.0
    ]


def step_of(
    path: Path, given: int | None, stored: Mapping[str, int], powers: Sequence[Power]
) -> int:
    """The step of a TF1 checkpoint. All that tells it must agree.

    Args:
        path: The checkpoint. Its name may say the step, as in "model-20000".
        given: The step that the user says. It counts more than the name.
        stored: The steps that the checkpoint says, by what says them.
        powers: The powers of Adam's betas.

    Raises:
        UserError: Nothing tells the step, or there are contradictions.
    """
    said = {f"its {name}": step for name, step in stored.items()}
    said |= {} if given is None else {"--step": given}
    if len({*said.values()}) > 1:
        raise UserError(f"{path}: {_and(said)}; {_way_out(said)}")
    in_name = _step_in_name(path) if given is None else None
    step = next(iter(said.values()), _likely(in_name, powers))
    if step is None:
        raise UserError(
            f"{path}: the step is not known from the name or the optimizer; give --step"
        )
    _refuse_other_step(path, said, powers)
    _refuse_other_betas(path, step, powers, sure=bool(said) or in_name == step)
    if in_name not in (None, step):
        raise UserError(
            f"{path}: the name says step {in_name}, the state {step}; give --step"
        )
    return step


def _step_in_name(path: Path) -> int | None:
    in_name = re.search(r"-([0-9]+)$", path.name)
    return None if in_name is None else whole_step(path, "name's end", in_name[1])


def _and(said: Mapping[str, int]) -> str:
    """What says which step, for a message."""
    return ", and ".join(f"{what} says step {step}" for what, step in said.items())


def _way_out(said: Mapping[str, int]) -> str:
    """How to contradict less."""
    remedies = {
        "--step": "leave out --step",
        "its global_step": "--ignore global_step leaves that out",
    }
    fitting = [text for what, text in remedies.items() if what in said]
    return ", or ".join(fitting or ["give --step"])


def _likely(in_name: int | None, powers: Sequence[Power]) -> int | None:
    """The step that the powers tell together, or the name's if they do not agree."""
    told = [power.step for power in powers if not power.is_gone]
    believed = len({*told}) == 1 or (told and in_name is None)
    return told[0] if believed else in_name


def _refuse_other_step(
    path: Path, said: Mapping[str, int], powers: Sequence[Power]
) -> None:
    """Refuse a step if all powers tell another one."""
    told = {power.step for power in powers if not power.is_gone}
    if len(told) == 1 and said and told.isdisjoint(said.values()):
        raise UserError(
            f"{path}: the powers of the optimizer's betas tell step {told.pop()}, and "
            f"{_and(said)}; {_way_out(said)}, or convert with --weights-only"
        )


def _refuse_other_betas(
    path: Path, step: int, powers: Sequence[Power], *, sure: bool
) -> None:
    """Refuse powers that the network's betas do not have after this step.

    Args:
        path: The checkpoint, for the message.
        step: The step.
        powers: The powers.
        sure: Whether something else tells the step, too.
    """
    lasting = [power for power in powers if not power.is_gone]
    closeness = VERY_CLOSE if not sure and len(lasting) == 1 else CLOSE
    if all(power.fits(step, closeness) for power in powers):
        return
    steps = [step] if sure else [*dict.fromkeys([step, *(each.step for each in lasting)])]
    reasons = [
        f"if it is step {possible}, {power.why_not(possible)}"
        for possible in steps
        for power in powers
        if not power.fits(possible, closeness)
    ]
    raise UserError(
        f"{path}: {'; or, '.join(reasons)}; a program with other betas than the "
        "network's is converted with --weights-only"
    )
