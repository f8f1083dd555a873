"""Damaged files are refused in one line by everything that reads one.

`scripts/fuzz.py` tries a million of them. Here are a few hundred for each light reader,
always the same ones. And whatever must not happen is noticed.
"""

import os
import random
import signal
import time
from contextlib import suppress
from itertools import pairwise

import pytest
from fuzzing import READERS, Reader
from fuzzing.trial import KEPT, Counts, Trial
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnistport.errors import UserError

QUICK = (
    *("idx", "json-settings", "json-result", "json-history", "yaml-options"),
    *("graph", "graph-text", "metagraph", "tf1-arrays"),
)
SLOW = ("idx-set", "json-facts", "checkpoint", "safetensors", "tf1", "lockstep")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def alarm():
    """What the two signals did before is what they do afterwards."""
    numbers = (signal.SIGALRM, signal.SIGPROF)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def refuse_or_read(reader, folder, files):
    for file in folder.iterdir():
        file.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    for read in reader.reads:
        said = "read"
        with suppress(UserError):
            try:
                read(folder)
            except UserError as error:
                said = str(error)
                raise
        assert "\n" not in said and 0 < len(said) < 2500
    assert set(os.listdir(folder)) <= files.keys() | {"settings.json"}


ALWAYS_THE_SAME = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=200,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_damaged_files_are_read_or_refused_in_one_line(name, tmp_path):
    reader = READERS[name]
    sound = reader.sound()
    folder = tmp_path / "files"
    folder.mkdir()
    for files in sound:
        refuse_or_read(reader, folder, files)

    # Its own `randoms` would be a hundred times slower than a number that seeds ours.
    @ALWAYS_THE_SAME
    @given(st.integers(0, 2**64 - 1))
    def check(number):
        files = reader.damage(random.Random(number), sound)
        refuse_or_read(reader, folder, files)

    @ALWAYS_THE_SAME
    @given(st.data())
    def check_any_bytes(data):
        files = dict(sound[0])
        files[data.draw(st.sampled_from(sorted(files)))] = data.draw(st.binary())
        refuse_or_read(reader, folder, files)

    check()
    check_any_bytes()


@pytest.fixture
def tried(tmp_path, alarm):
    """`tried(read)` are the findings about a function that reads a file."""

    def call(*reads):
        reader = Reader(share=1, sound=list, damage=lambda _, __: {}, reads=reads)
        trial = Trial(reader, tmp_path / "here", tmp_path / "out", Counts(tmp_path / "n"))
        trial._peak = trial._begun = 2**40
        trial._seconds = 0.05
        for number in range(5):
            trial.number = number
            trial.try_({"file": b"content"})
        return dict(trial.findings)

    return call


def raise_value_error(_):
    raise ValueError("not ours")


class TwoLinesError(UserError):
    def __str__(self):
        return "one\ntwo"


def refuse_in_two_lines(_):
    raise TwoLinesError("")


def refuse(_):
    raise UserError("no")


def run_code(folder):
    (folder / "exploded").touch()


def hang(_):
    time.sleep(5)


def compute(_):
    while True:
        sum(range(1000))


@pytest.mark.parametrize(
    ("read", "finding"),
    [
        (raise_value_error, "raise_value_error: ValueError in test_fuzz.py"),
        (refuse_in_two_lines, "refuse_in_two_lines: a message of several lines"),
        (run_code, "code was run"),
        (hang, "hang: more than 5 s"),
        (compute, "compute: more than 5 s"),
    ],
)
def test_what_must_not_happen_is_noticed_and_its_input_kept(
    tried, read, finding, tmp_path
):
    findings = tried(refuse, read)
    assert list(findings.values()) == [5]
    assert next(iter(findings)).startswith(finding)
    kept = sorted((tmp_path / "out").iterdir())
    assert len(kept) == KEPT
    assert (kept[0] / "file").read_bytes() == b"content"
    assert (kept[0] / "found.txt").read_text().startswith(finding)


def test_what_is_refused_in_one_line_is_no_finding(tried, tmp_path):
    assert tried(refuse, len) == {"len: TypeError in trial.py, _said": 5}
    assert tried(refuse) == {}
    assert Counts(tmp_path / "n")["refused"] == 10


def test_the_pieces_add_up_and_a_longer_run_has_those_of_a_shorter_one(script):
    names = list(READERS)
    few, many = (list(script.pieces(names, count)) for count in (1_000_000, 2_000_000))
    assert set(few) < set(many)
    assert abs(sum(count for _, _, count in many) - 2_000_000) < len(many)
    of_idx = [(start, count) for name, start, count in many if name == "idx"]
    assert all(a + n == b for (a, n), (b, _) in pairwise(of_idx))


def test_the_sum_of_the_table(script):
    line = {"tried": 10, "refused": 7, "seconds": 1.5, "peak": 4096, "risen": 1024}
    lines = [
        {"reader": "a", "findings": {"a crash": 2}, **line},
        {"reader": "a", "findings": {}, **line},
        {"reader": "b", "findings": {}, **line, "peak": 8192},
    ]
    a, b, everything = script.rows(lines)
    assert (a["inputs"], a["read"], a["refused"], a["findings"]) == (20, 6, 14, 2)
    assert (b["findings"], b["peak MiB"]) == (0, 8)
    assert (everything["reader"], everything["inputs"]) == ("all", 30)
