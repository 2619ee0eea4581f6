"""`<database>.lock`: who is the monitor of this store on this machine, and who are its workers."""

from __future__ import annotations

import fcntl
import os
import time

from ..process import kill_group, open_pidfd, readable, start_time

YOUNG = 300.0  # seconds: a monitor that has worked for longer and dies then is none that dies of its work


def namespace() -> str:
    """What a pid is relative to: this boot of the machine, and the pid namespace in it."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return "unknown"


class Lock:
    """An flock(2) on a file that is never deleted, held for as long as the monitor lives.

    The kernel frees it when the monitor ends, however that happens. The file lists the workers, so
    that the next monitor can wait until the last of them is gone before a job runs again. Its first line
    is about the monitor, and is gone after an orderly end: so the next one knows of an end that was none,
    whoever starts it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._life = ""  # the line about the monitor

    def take(self) -> bool:
        """Whether this process is the monitor from now on."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def early_deaths(self) -> int:
        """How many monitors in a row have died young, without an orderly end, up to the last one."""
        words = self._read().partition("\n")[0].split(" ")
        if len(words) != 4 or words[0] != "monitor" or words[3] != namespace():
            return 0  # an orderly end; or of another boot or container
        try:
            deaths, began = int(words[1]), float(words[2])
        except ValueError:
            return 0
        return deaths + 1 if time.monotonic() - began < YOUNG else 0

    def write_life(self, deaths: int, began: float) -> None:
        """This monitor does its work from then on (`time.monotonic()`), after so many early deaths."""
        self._life = f"monitor {deaths} {began:.3f} {namespace()}\n"
        self.write_workers([])

    def write_end(self) -> None:
        """This monitor comes to an orderly end."""
        self._life = ""
        self.write_workers([])

    def write_workers(self, pids: list[int]) -> None:
        """Note the workers that live. Not synced: after a loss of power none of them does."""
        lines = [f"{pid} {start_time(pid)} {os.getsid(0)} {namespace()}\n" for pid in pids]
        text = "".join([self._life, *lines]).encode()
        os.pwrite(self._fd, text, 0)
        os.ftruncate(self._fd, len(text))

    def _read(self) -> str:
        return os.pread(self._fd, 1 << 20, 0).decode("ascii", "replace")

    def end_earlier_workers(self) -> int:
        """End what is left of the workers of an earlier monitor, and wait for it; how many there were."""
        here = namespace()
        ended = 0
        for line in self._read().splitlines():
            numbers, where = line.split(" ")[:3], line.split(" ")[3:]
            if where != [here] or not all(number.isdigit() for number in numbers):
                continue  # of another boot or container, or half written
            pid, born, session = map(int, numbers)
            now_born = start_time(pid)
            if now_born == born:
                kill_group(pid)
                ended += 1
                _wait_for(pid, born)
            elif now_born is None and _has_members(pid, session):
                kill_group(pid)  # programs that its task has started
        os.ftruncate(self._fd, 0)
        return ended


def _has_members(group: int, session: int) -> bool:
    """Whether there are processes in this group of this session (proc(5), fields 5 and 6).

    A group without its leader can be another one than it was: as soon as it is empty, its number is
    free for the next process. The number of a session that has members left is not.
    """
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if (int(fields[2]), int(fields[3])) == (group, session):
            return True
    return False


def _wait_for(pid: int, born: int) -> None:
    """Wait for the end of a process that was killed."""
    pidfd = open_pidfd(pid)
    if pidfd is not None:
        try:
            readable([pidfd], None)
        finally:
            os.close(pidfd)
    while start_time(pid) == born:
        time.sleep(0.005)
