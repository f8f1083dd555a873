"""One input is written and read, and what must not happen is found."""

from __future__ import annotations

import collections
import mmap
import os
import resource
import signal
import struct
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from fuzzing.reader import Files, Reader
from mnistport.errors import UserError

SECONDS = 5.0
"""What one function may compute for one input of at most a few hundred kilobytes."""
WAITS = 6
"""So many times as long it may take in all, as it waits for a processor, too."""
MEMORY_MIB = 256
"""By how much one input may raise the peak of the process's memory."""
ADDRESSES_MIB = 4096
"""How much more address space the process gets than it has before the first input."""
CHARACTERS = 2500
"""The longest message of an error."""
KEPT = 3
"""Of how many inputs with the same finding the files are kept."""


class HangError(BaseException):
    """A function took too long. It is no `Exception`, so that nobody catches it."""


def _limit_time(seconds: float) -> None:
    """From now on, count what is computed and what is waited. 0: no longer."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WAITS * seconds)


def _too_long(*_: int | FrameType | None) -> None:
    raise HangError


class Counts:
    """Counts in a file that the parent process sees even if this process has crashed.

    Attributes:
        number: The number of the input at hand.
        tried, refused: Inputs so far, and those of them that were refused in one line.
        peak: The process's largest memory since its first input, in KiB.
        risen: By how much that is more than before the first input.
    """

    NAMES = ("number", "tried", "refused", "peak", "risen")

    def __init__(self, file: Path) -> None:
        if not file.exists():
            file.write_bytes(bytes(8 * len(self.NAMES)))
        with file.open("r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), 0)

    def __getitem__(self, name: str) -> int:
        return int(struct.unpack_from("<q", self._shared, 8 * self.NAMES.index(name))[0])

    def __setitem__(self, name: str, value: int) -> None:
        struct.pack_into("<q", self._shared, 8 * self.NAMES.index(name), value)


class Trial:
    """Gives inputs to a reader, in a folder that becomes the current one.

    Attributes:
        findings: How often each finding was made.
    """

    def __init__(self, reader: Reader, folder: Path, out: Path, counts: Counts) -> None:
        self.reader, self.folder, self.out, self.counts = reader, folder, out, counts
        self.findings: collections.Counter[str] = collections.Counter()
        self.number = 0
        self._seconds = 0.0  # the first call imports modules, and may take long
        self._written: Files = {}
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        for number in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(number, _too_long)

    def begin(self, sound: list[Files]) -> None:
        """Read the sound inputs, and limit the memory from now on.

        Raises:
            SystemExit: None of them is read.
        """
        answers = []
        for files in sound:
            self._write(files)
            answers.append([self._said(read) for read in self.reader.reads])
        if all(any(said) for said in answers):
            raise SystemExit(f"none of the sound files is read: {answers}")
        if self.findings:
            raise SystemExit(f"sound files: {dict(self.findings)}")
        self._peak = self._begun = _peak()
        self._seconds = SECONDS
        size = int(Path("/proc/self/statm").read_text().split()[0])
        limit = size * resource.getpagesize() + ADDRESSES_MIB * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def try_(self, files: Files) -> None:
        """Write an input, let each function read it, and note what was found."""
        self._write(files)
        answers = [self._said(read) for read in self.reader.reads]
        self.counts["tried"] += 1
        self.counts["refused"] += any(answers)
        if "exploded" in os.listdir(self.folder):
            (self.folder / "exploded").unlink()
            self._found("code was run", "a file was made by code in the input")
        peak = _peak()
        if peak > self._peak:
            if peak - self._peak > MEMORY_MIB * 1024:
                megabytes = (peak - self._peak) // 1024
                self._found("memory", f"the peak rose by {megabytes} MiB")
            self._peak = peak
        self.counts["peak"], self.counts["risen"] = self._peak, self._peak - self._begun

    def _write(self, files: Files) -> None:
        """Write what has changed since the last input."""
        for name in self._written.keys() - files.keys():
            (self.folder / name).unlink(missing_ok=True)
        for name, content in files.items():
            if self._written.get(name) != content:
                (self.folder / name).write_bytes(content)
        self._written = files

    def _said(self, read: Callable[[Path], object]) -> str:
        """The message with which an input was refused. "" if it was read."""
        said = ""
        try:
            _limit_time(self._seconds)
            try:
                read(self.folder)
            finally:
                _limit_time(0)
        except UserError as error:
            said = str(error) or "nothing"
            if "\n" in said or len(said) > CHARACTERS or said == "nothing":
                kind = f"{read.__name__}: a message of several lines or too many letters"
                self._found(kind, said[:10_000])
        except HangError as error:
            kind = f"{read.__name__}: more than {SECONDS:g} s {_place(error)}"
            self._found(kind, _trace(error))
        except BaseException as error:
            kind = f"{read.__name__}: {type(error).__name__} {_place(error)}"
            self._found(kind, _trace(error))
        return said

    def _found(self, kind: str, text: str) -> None:
        """Count a finding, and keep the files of the first few."""
        self.findings[kind] += 1
        if self.findings[kind] <= KEPT:
            place = self.out / f"{self.out.name}-{self.number}"
            keep(place, self._written, f"{kind}\n\n{text}\n")


def keep(place: Path, files: Files, text: str) -> None:
    """Keep the files of an input, and what was found."""
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    (place / "found.txt").write_text(text, "utf-8", errors="backslashreplace")


def _peak() -> int:
    """The largest memory of this process so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _trace(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    return text if len(text) < 20_000 else f"{text[:10_000]}\n...\n{text[-10_000:]}"


def _place(error: BaseException) -> str:
    """The innermost line of our packages in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame
        for frame in frames
        if "/mnistport/" in frame.filename or "/parity/" in frame.filename
    ]
    frame = (ours or list(frames))[-1]
    return f"in {Path(frame.filename).name}, {frame.name}"
