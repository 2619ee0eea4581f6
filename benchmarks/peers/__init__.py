"""What is measured: every peer answers the same few calls."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

#: Workers of every pool.
WORKERS = 2


class Peer:
    """A job queue with one task, `stamps.note(index)`, whose files all lie in one folder.

    The order of calls in a process: `open`, perhaps `start`, `call` any number of times, `stop`.
    """

    #: Whether a call that has returned survives a loss of power.
    durable = "yes"
    #: The settings that differ from the peer's defaults, for the report.
    settings = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> None:
        """Import the peer and make its store. Nothing runs yet; calls are stored from now on."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the pool. Need not wait until it is ready: the first jobs of a measurement do that."""
        raise NotImplementedError

    def call(self, index: int) -> None:
        """Enqueue one job, as an app would."""
        raise NotImplementedError

    def left(self) -> int:
        """The number of jobs that the store does not know as finished."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the pool the way the peer wants it."""
        raise NotImplementedError


#: Name → module and class, in the order of the report. "raw" has no pool and is measured by itself.
PEERS: dict[str, tuple[str, str]] = {
    "autocron-web": ("peers.web", "AutocronWeb"),
    "autocron-1.2.2": ("peers.original", "Original"),
    "huey": ("peers.huey_sqlite", "Huey"),
    "huey-tuned": ("peers.huey_sqlite", "HueyTuned"),
    "huey-nosync": ("peers.huey_sqlite", "HueyNoSync"),
    "celery": ("peers.brokers", "Celery"),
    "dramatiq": ("peers.brokers", "Dramatiq"),
    "rq": ("peers.brokers", "Rq"),
    "saq": ("peers.brokers", "Saq"),
}


def load(name: str, folder: Path) -> Peer:
    """The peer called `name`, with its files in `folder`; imports only that peer's module."""
    module, attribute = PEERS[name]
    make: Callable[[Path], Peer] = getattr(importlib.import_module(module), attribute)
    return make(folder)
