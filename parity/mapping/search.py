"""The search: which with which, in which layout, and the proof of what was found."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from parity.mapping.pair import Pair, Seen
from parity.mapping.stages import FoundStage, stages_of
from parity.reference import Array
from parity.tolerances import SAME_RESULT
from parity.weights import Layout, layouts_between

ROUNDS = 12
"""Each round fills in what the last one found. Networks need two to four."""


@dataclass
class Match:
    """Two weights that correspond.

    Attributes:
        theirs, ours: Their names.
        layouts: The layouts that are still possible, the most usual first.
        others: Others of ours that fit as well. No result depends on the choice.
    """

    theirs: str
    ours: str
    layouts: list[Layout]
    others: Sequence[str] = ()

    @property
    def is_known(self) -> bool:
        """Whether one layout is left."""
        return len(self.layouts) == 1


@dataclass
class Found:
    """What was found.

    Attributes:
        matches: The rows. Empty if the two sides do not agree with them.
        proven: Whether both sides agree with random numbers in all weights.
        why: Why there is no row, if there is none.
        theirs, ours: Weights that have no counterpart, or more than one.
        their_counters, our_counters: What holds whole numbers.
        stages: The results that correspond.
        is_of_training: Whether the sides could only be compared in training mode.
        is_begun: Whether any weight has a counterpart, proven or not.
    """

    matches: Sequence[Match] = ()
    proven: bool = False
    why: str = ""
    theirs: Sequence[str] = ()
    ours: Sequence[str] = ()
    their_counters: Sequence[str] = ()
    our_counters: Sequence[str] = ()
    stages: Sequence[FoundStage] = ()
    is_of_training: bool = False
    is_begun: bool = True


@dataclass
class Search:
    """A search that is under way.

    Attributes:
        pair: The two sides.
        matches: What was found so far, by the name on TF1's side.
        inside: What an axis may run through.
    """

    pair: Pair
    matches: dict[str, Match] = field(default_factory=dict)
    inside: Sequence[tuple[int, ...]] = ()

    def fill(self, number: int, *, signed: bool = False) -> tuple[Seen, Seen]:
        """Fill both sides, and ask them.

        What is known gets random numbers. All else gets numbers that depend on nothing
        but a weight's size: for one axis always the same ones, else one number.
        """
        theirs, ours = self.values(number, signed)
        self.pair.fill_theirs(theirs)
        self.pair.fill_ours(ours)
        return self.pair.ask_theirs(), self.pair.ask_ours()

    def values(
        self, number: int, signed: bool
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The numbers for both sides. `number` chooses other ones."""
        rng = np.random.default_rng((7, number))
        theirs = {name: _numbers(shape) for name, shape in self.pair.their_shapes.items()}
        ours = {name: _numbers(shape) for name, shape in self.pair.our_shapes.items()}
        positive = self.pair.reference.positive
        for match in self.matches.values():
            if match.is_known:
                shape = self.pair.their_shapes[match.theirs]
                value = rng.uniform(0.5, 1.5, shape)
                if len(shape) > 1:
                    value /= math.sqrt(math.prod(shape))
                if signed and match.theirs not in positive:
                    value = rng.standard_normal(shape) * _size(shape)
                theirs[match.theirs] = value
                ours[match.ours] = match.layouts[0].forward(value)
        return theirs, ours

    def take(self, theirs: Seen, ours: Seen) -> bool:
        """Learn from the gradients. Returns whether anything was found."""
        found = False
        for one, other in self._pairs(theirs.gradients, ours.gradients):
            layouts = self._layouts(one, other)
            if layouts:
                self.matches[one] = Match(one, other, layouts)
                found = True
        for match in self.matches.values():
            left = fitting(match, theirs, ours)
            if left and len(left) < len(match.layouts):
                match.layouts, found = left, True
        return found

    def choose(self, theirs: Seen, ours: Seen) -> bool:
        """Decide between weights that no result tells apart, such as two added biases.

        Each goes to the module that holds the others of its scope. Returns whether there
        were any. The proof in the end sees it if they are not alike.
        """
        fits = self._fits(theirs.gradients, ours.gradients)
        found = False
        for one, others in fits.items():
            group = [name for name, its in fits.items() if its == others]
            left = [name for name in others if name not in self._taken()]
            if len(group) == len(others) and left:
                chosen = self._beside_its_scope(one, left)
                rest = [name for name in others if name != chosen]
                self.matches[one] = Match(one, chosen, self._layouts(one, chosen), rest)
                found = True
        return found

    def _beside_its_scope(self, theirs: str, ours: Sequence[str]) -> str:
        """The one of ours whose module holds weights of the same scope of the graph."""
        variables = self.pair.theirs.endpoints.variables
        scopes = {name: _before(variables[name].op.name, "/") for name in self.matches}
        scope = _before(variables[theirs].op.name, "/")
        modules = {
            _before(self.matches[n].ours, ".") for n in scopes if scopes[n] == scope
        }
        beside = [name for name in ours if _before(name, ".") in modules]
        return (beside or list(ours))[0]

    def _taken(self) -> set[str]:
        return {match.ours for match in self.matches.values()}

    def _pairs(
        self, theirs: Mapping[str, Array], ours: Mapping[str, Array]
    ) -> list[tuple[str, str]]:
        """Names of weights whose gradients hold the same numbers, and no others do."""
        return _only_ones(self._fits(theirs, ours))

    def _fits(
        self, theirs: Mapping[str, Array], ours: Mapping[str, Array]
    ) -> dict[str, list[str]]:
        """For each of theirs without a match, those of ours with the same gradient."""
        taken = self._taken()
        others = [name for name in ours if name not in taken and np.any(ours[name])]
        return {
            one: [other for other in others if _alike_sorted(gradient, ours[other])]
            for one, gradient in theirs.items()
            if one not in self.matches
        }

    def _layouts(self, theirs: str, ours: str) -> list[Layout]:
        shapes = self.pair.their_shapes[theirs], self.pair.our_shapes[ours]
        return _different(list(layouts_between(*shapes, inside=self.inside)), shapes[0])

    def take_buffers(self, number: int) -> None:
        """Match what has no gradient, such as moving averages, one at a time.

        Other numbers in one of theirs change the result. The one of ours that changes it
        in the same way corresponds. That must be so for one of them only.
        """
        pair, taken = self.pair, self._taken()
        theirs, ours = self.values(number, False)
        pair.fill_theirs(theirs)
        pair.fill_ours(ours)
        base = pair.results_of_theirs()
        changed = {
            name: self._changed_ours(name, ours[name])
            for name in ours
            if name not in taken
        }
        fits = {}
        for name in theirs:
            if name in self.matches:
                continue
            seen = self._changed_theirs(name, theirs[name])
            if not same(seen, base):
                fits[name] = [other for other, its in changed.items() if same(seen, its)]
        for one, other in _only_ones(fits):
            self.matches[one] = Match(one, other, self._layouts(one, other))

    def _changed_theirs(self, name: str, values: Array) -> Seen:
        self.pair.fill_theirs({name: _other(values)})
        seen = self.pair.results_of_theirs()
        self.pair.fill_theirs({name: values})
        return seen

    def _changed_ours(self, name: str, values: Array) -> Seen:
        self.pair.fill_ours({name: _other(values)})
        seen = self.pair.results_of_ours()
        self.pair.fill_ours({name: values})
        return seen


def find(pair: Pair) -> Found:
    """Find the map of weights, and the stages.

    Rows are returned only if both sides agree with random numbers in all weights.
    """
    search = Search(pair, inside=pair.inside())
    theirs, ours = search.fill(0)
    if not same(theirs, ours):
        pair.training = True
        theirs, ours = search.fill(0)
    if not same(theirs, ours):
        pair.training = False
        theirs, ours = search.fill(0)
        return _nothing(
            search,
            "the two sides do not compute the same when all weights are alike (loss "
            f"{ours.loss:.15g}, theirs {theirs.loss:.15g}): a layer is missing or differs"
            f"{_first_without_equal(pair)}",
        )
    for number in range(1, ROUNDS):
        if not (search.take(theirs, ours) or search.choose(theirs, ours)):
            break
        theirs, ours = search.fill(number)
        if not same(theirs, ours):
            return _nothing(search, "no layout lets the two sides agree")
    search.take_buffers(ROUNDS)
    return _proven(search)


def _first_without_equal(pair: Pair) -> str:
    """The first result of the graph that no submodule returns, for a message."""
    found = {stage.theirs for stage in stages_of(pair)}
    for name in pair.theirs.endpoints.stages:
        if name not in found:
            return f"; no submodule returns what {name!r} is"
    return "; all stages have an equal, so it is the loss"


def _proven(search: Search) -> Found:
    """Ask both sides with random numbers of both signs in all weights."""
    pair = search.pair
    for match in search.matches.values():
        match.layouts = match.layouts[:1] if _is_one(match, pair) else match.layouts
    open_ = [match for match in search.matches.values() if not match.is_known]
    rest = {
        "theirs": [name for name in pair.their_shapes if name not in search.matches],
        "ours": _unmatched_ours(search),
    }
    if open_ or rest["theirs"] or rest["ours"]:
        return _partly(search, open_)
    for number in range(ROUNDS, ROUNDS + 3):
        theirs, ours = search.fill(number, signed=True)
        if not (same(theirs, ours) and _all_fit(search, theirs, ours)):
            return _nothing(search, "with random weights the two sides do not agree")
    return Found(
        matches=[search.matches[name] for name in pair.their_shapes],
        proven=True,
        their_counters=pair.their_counters,
        our_counters=pair.our_counters,
        stages=stages_of(pair),
        is_of_training=pair.training,
    )


def _is_one(match: Match, pair: Pair) -> bool:
    """Whether the layouts that are left do the same."""
    return len(_different(match.layouts, pair.their_shapes[match.theirs])) == 1


def _partly(search: Search, open_: Sequence[Match]) -> Found:
    """What is said if some weights are not told apart. No row is proven then."""
    several = ", ".join(
        f"{match.theirs} ({len(match.layouts)} layouts fit)" for match in open_
    )
    found = _nothing(search, f"more than one layout fits: {several}" if several else "")
    if not several:
        found.why = "some weights have no counterpart, or more than one"
    return found


def _nothing(search: Search, why: str) -> Found:
    pair = search.pair
    return Found(
        why=why,
        theirs=[name for name in pair.their_shapes if name not in search.matches],
        ours=_unmatched_ours(search),
        their_counters=pair.their_counters,
        our_counters=pair.our_counters,
        is_of_training=pair.training,
        is_begun=bool(search.matches),
    )


def _unmatched_ours(search: Search) -> list[str]:
    taken = search._taken()
    return [name for name in search.pair.our_shapes if name not in taken]


def _only_ones(fits: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Those that fit one another, and no others."""
    often = [other for others in fits.values() for other in others]
    return [
        (one, others[0])
        for one, others in fits.items()
        if len(others) == 1 and often.count(others[0]) == 1
    ]


def _before(name: str, sign: str) -> str:
    return name.rpartition(sign)[0]


def _all_fit(search: Search, theirs: Seen, ours: Seen) -> bool:
    """Whether each gradient is the same, element by element, in the row's layout."""
    return all(
        fitting(match, theirs, ours)
        for match in search.matches.values()
        if match.theirs in theirs.gradients
    )


def fitting(match: Match, theirs: Seen, ours: Seen) -> list[Layout]:
    """The layouts in which the gradients are the same, element by element."""
    if match.theirs not in theirs.gradients or match.ours not in ours.gradients:
        return match.layouts
    gradient, other = theirs.gradients[match.theirs], ours.gradients[match.ours]
    return [layout for layout in match.layouts if close(layout.forward(gradient), other)]


def same(theirs: Seen, ours: Seen) -> bool:
    """Whether loss and output are the same."""
    losses = np.array([theirs.loss]), np.array([ours.loss])
    return close(*losses) and close(theirs.output, ours.output)


def close(one: Array, other: Array) -> bool:
    """Whether two arrays are equal but for rounding. NaN equals nothing."""
    if one.shape != other.shape or not np.isfinite(one).all():
        return False
    largest = float(np.abs(one).max(initial=0))
    return bool(np.abs(one - other).max(initial=0) <= SAME_RESULT * largest)


def _alike_sorted(one: Array, other: Array) -> bool:
    """Whether two arrays hold the same numbers in any order."""
    if one.size != other.size:
        return False
    limit = SAME_RESULT * float(np.abs(one).max(initial=0))
    ends = abs(one.max() - other.max()), abs(one.min() - other.min())
    if not max(ends) <= limit:  # sorting takes longer
        return False
    return close(np.sort(one.ravel()), np.sort(other.ravel()))


def _numbers(shape: tuple[int, ...]) -> Array:
    """Numbers that depend on the size alone. All are positive."""
    size = math.prod(shape)
    if len(shape) == 1:
        return np.random.default_rng(size).uniform(0.5, 1.5, size)
    return np.full(shape, 1 / math.sqrt(size))


def _other(array: Array) -> Array:
    """Other positive numbers, for an array of any shape always the same."""
    factors = np.random.default_rng((3, array.size)).uniform(1.5, 2.5, array.size)
    return np.asarray(array * factors.reshape(array.shape))


def _size(shape: tuple[int, ...]) -> float:
    """The size of random weights at which activations stay of order one."""
    return 0.1 if len(shape) < 2 else 1 / math.sqrt(math.prod(shape[:-1]))


def _different(layouts: Sequence[Layout], shape: tuple[int, ...]) -> list[Layout]:
    """The layouts that do not do the same, the most usual of each kind."""
    numbers = np.arange(math.prod(shape)).reshape(shape)
    seen, left = set(), []
    for layout in layouts:
        key = hashlib.sha256(layout.forward(numbers).tobytes()).digest()
        if key not in seen:
            seen.add(key)
            left.append(layout)
    return left
