"""What a loss of power may leave on a disk: real processes' writes, recorded by strace and replayed in part.

Until a file is synced, the disk may have none, some or all of what was written to it, sector by sector and
in any order; the same holds for the names in a folder until that is synced. So any such choice, at any
moment, is an image that a database must be able to live with.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

SECTOR = 512  # bytes that a disk writes as a whole
_CALLS = "openat,pwrite64,write,fsync,fdatasync,ftruncate,unlink"
_SUFFIXES = ("", "-wal", "-journal")  # the -shm is memory: SQLite begins it anew after a reboot

Survivors = Literal["none", "some", "all"]


def recorded(database: Path, ledger: Path, trace: Path) -> list[str]:
    """The beginning of a command that runs the rest of it and records the calls that change these files."""
    paths = [database.parent, ledger, *(f"{database}{suffix}" for suffix in _SUFFIXES)]
    only = [word for path in paths for word in ("-P", str(path))]
    return [
        "strace",
        "-f",
        "-qq",
        "-y",
        "-xx",
        "-s",
        "1000000",
        "-e",
        f"trace={_CALLS}",
        *only,
        "-o",
        str(trace),
    ]


# -- the trace ------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A system call that succeeded."""

    name: str
    path: str
    data: bytes = b""
    number: int = 0  # the offset of a write, the new length of a truncation


class Step(NamedTuple):
    """A moment of the trace: a call begins, or it has ended."""

    ends: bool
    call: Call


_HEX = r"((?:\\x[0-9a-f]{2})*)"
_FD = rf"\d+<{_HEX}>(?:\(deleted\))?"
_PATTERNS = (
    re.compile(rf'(pwrite64|write)\({_FD}, "{_HEX}", \d+(?:, (\d+))?\) += (\d+)'),
    re.compile(rf"(fsync|fdatasync)\({_FD}\) += 0"),
    re.compile(rf"(ftruncate)\({_FD}, (\d+)\) += 0"),
    re.compile(rf'(unlink)\("{_HEX}"\) += 0'),
    re.compile(rf'(openat)\([^,]+, "{_HEX}", ([A-Z_|]+)'),
)


def steps_of(trace: Path) -> list[Step]:
    """The calls of all processes in the order in which they began and ended."""
    unfinished: dict[str, tuple[int, str]] = {}
    found: list[tuple[int, Step]] = []
    for number, line in enumerate(trace.read_text().splitlines()):
        pid, _, text = line.partition(" ")
        text = text.lstrip()
        began = number
        if text.endswith("<unfinished ...>"):
            unfinished[pid] = number, text.removesuffix("<unfinished ...>").rstrip()
            continue
        if text.startswith("<... "):
            began, beginning = unfinished.pop(pid)
            text = beginning + text.partition("resumed>")[2].lstrip()
        call = _call_of(text)
        if call is not None:
            found += [(2 * began, Step(False, call)), (2 * number + 1, Step(True, call))]
    return [step for _, step in sorted(found, key=lambda each: each[0])]


def _call_of(line: str) -> Call | None:
    """None for one that failed, or changes nothing."""
    if line.startswith(("---", "+++")) or re.search(r"\) += -1 ", line):
        return None
    for pattern in _PATTERNS:
        match = pattern.match(line)
        if match:
            break
    else:
        raise ValueError(f"strace has written what is not understood: {line[:200]}")
    name, path, *rest = match.groups()
    if name in ("pwrite64", "write"):
        return Call(name, _text(path), _bytes(rest[0])[: int(rest[2])], int(rest[1] or 0))
    if name == "ftruncate":
        return Call(name, _text(path), number=int(rest[0]))
    if name == "openat" and "O_CREAT" not in rest[0]:
        return None
    return Call(name, _text(path))


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _text(escaped: str) -> str:
    return os.fsdecode(_bytes(escaped))


# -- the disk -------------------------------------------------------------------------------------


class _File:
    """What is on the disk for sure, and what was written since."""

    def __init__(self) -> None:
        self.safe = bytearray()
        self.written: list[Call] = []
        self.synced = 0  # how many of those are safe

    def sync(self, count: int) -> None:
        for call in self.written[self.synced : count]:
            _apply(self.safe, call)
        self.synced = max(self.synced, count)

    def image(self, survivors: Survivors, dice: random.Random) -> bytearray:
        content, share = bytearray(self.safe), dice.random()
        for call in self.written[self.synced :] if survivors != "none" else ():
            for piece in _sectors(call) if survivors == "some" else (call,):
                if survivors == "all" or dice.random() < share:
                    _apply(content, piece)
        return content


def _apply(content: bytearray, call: Call) -> None:
    size = call.number if call.name == "ftruncate" else call.number + len(call.data)
    if call.name == "ftruncate":
        del content[size:]
    if len(content) < size:
        content.extend(bytes(size - len(content)))
    if call.data:
        content[call.number : size] = call.data


def _sectors(call: Call) -> Iterator[Call]:
    if not call.data:
        yield call
    position = 0
    while position < len(call.data):
        size = SECTOR - (call.number + position) % SECTOR
        yield call._replace(data=call.data[position : position + size], number=call.number + position)
        position += size


class Disk:
    """The database's files while the steps of a trace go by.

    honest: whether a sync does what it promises. With False no file is ever synced: what a test must notice.
    """

    def __init__(self, database: Path, ledger: Path, *, honest: bool = True) -> None:
        self.acknowledged: dict[
            str, set[str]
        ] = {}  # the lines of the ledger: first word, and the rest of each
        self._database, self._ledger, self._honest = str(database), str(ledger), honest
        self._folder = str(database.parent)
        self._files: dict[str, _File] = {}  # as programs see them
        self._safe_names: dict[str, _File] = {}
        self._renamed: list[tuple[str, _File | None]] = []  # the names made or removed since
        self._syncing: dict[int, int] = {}  # call that has begun: what was written by then

    def step(self, step: Step) -> bool:
        """Go one step on; whether that has changed anything that an image shows."""
        ends, call = step
        if call.path == self._ledger:
            if not ends and call.data:
                word, _, rest = call.data.decode().rstrip().partition(" ")
                self.acknowledged.setdefault(word, set()).add(rest)
            return False
        if call.name in ("fsync", "fdatasync"):
            return self._sync(call, ends)
        if not ends or call.path not in [self._database + suffix for suffix in _SUFFIXES]:
            return False
        if call.name == "openat":
            if call.path in self._files:
                return False
            self._files[call.path] = _File()
            self._renamed.append((call.path, self._files[call.path]))
        elif call.name == "unlink":
            del self._files[call.path]
            self._renamed.append((call.path, None))
        elif call.path in self._files:
            self._files[call.path].written.append(call)
        return True

    def _sync(self, call: Call, ends: bool) -> bool:
        """What was written when it began is safe when it has ended."""
        file = self._files.get(call.path)
        if not ends:
            self._syncing[id(call)] = len(file.written if file else self._renamed)
            return False
        count = self._syncing.pop(id(call))
        if self._honest and file is not None:
            file.sync(count)
        elif self._honest and call.path == self._folder:
            _rename(self._safe_names, self._renamed[:count])
            del self._renamed[:count]
        return True

    def write_image(self, folder: Path, survivors: Survivors, dice: random.Random) -> Path:
        """Make what a loss of power at this moment may leave; the path of the database in `folder`."""
        names = dict(self._safe_names)
        if survivors != "none":
            _rename(names, [each for each in self._renamed if survivors == "all" or dice.random() < 0.5])
        for suffix in (*_SUFFIXES, "-shm"):
            (folder / f"image.db{suffix}").unlink(missing_ok=True)
        for path, file in names.items():
            image = folder / f"image.db{path.removeprefix(self._database)}"
            image.write_bytes(file.image(survivors, dice))
        return folder / "image.db"


def _rename(names: dict[str, _File], changes: Sequence[tuple[str, _File | None]]) -> None:
    for path, file in changes:
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file
