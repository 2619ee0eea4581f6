"""How many descriptors the monitor may have, and for how many workers and links these are enough."""

from __future__ import annotations

import resource
from contextlib import suppress

PER_WORKER = 6  # descriptors that lead to one worker, while it runs
ENOUGH = 10_240  # descriptors: for the most workers and links at once
HIGH = 100  # tasks that close "all" descriptors often stop before it

_given: int | None = None  # the soft limit of the process that started this one


def raise_limit() -> None:
    """Take as many descriptors as a large pool needs, if the hard limit allows it.

    Workers get the app's own limit back: select(2) knows no descriptor above 1023, and programs that close
    all descriptors one by one would take their time.
    """
    global _given
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    _given = soft
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(ENOUGH, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):  # a sandbox: then it is as it was
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def workers_limit() -> int:
    """The soft limit that workers are to have."""
    return limit() if _given is None else _given


def limit() -> int:
    """The number of descriptors that this process may have."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ENOUGH if soft == resource.RLIM_INFINITY else soft


def most_workers() -> int:
    """So many that half of the descriptors lead to them: others are for those that take their place."""
    return max(1, limit() // 2 // PER_WORKER)


def most_links() -> int:
    """So many that two fifths of the descriptors lead to app processes, which need four each."""
    return limit() // 10


def shortage(size: int) -> str | None:
    """Why there cannot be so many workers, and what to do; None where there can."""
    most = most_workers()
    if size <= most:
        return None
    return (
        f"{most} of {size} workers run: the limit of {limit()} open files has no room for more."
        f" Raise it to {size * PER_WORKER * 2} (ulimit -Hn, LimitNOFILE=), or set fewer workers"
    )


def high() -> int:
    """A number for descriptors that are to be out of the way of tasks, as far as the limit allows."""
    return min(HIGH, limit() // 2)
