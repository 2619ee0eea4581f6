"""How a worker begins: what leads to it, and its process, which is started anew or forked by a template."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from ..process import pool_command
from . import room
from .loop import Loop, Timer
from .member import Worker
from .output import Output, Printer
from .shapes import checked
from .shelf import Shelf
from .wire import Channel, Frame, Kind, WireError, encode

BIRTH = 10.0  # seconds that a template may take to fork


class Ends:
    """What leads to one worker: the monitor's ends, and those that the worker inherits.

    Raises OSError where no descriptor is left.
    """

    def __init__(self, loop: Loop, printer: Printer) -> None:
        with ExitStack() as undo:
            self.output = Output(loop, printer)
            undo.callback(self.output.close)
            undo.callback(self.output.close_worker_ends)
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            undo.callback(theirs.close)
            self.shelf = Shelf()
            undo.callback(self.shelf.close)
            noticed, self.notice = os.pipe()
            undo.pop_all()
        self.channel = Channel(ours)
        self._handed = [theirs.detach(), noticed]

    @property
    def inherited(self) -> list[int]:
        """What the worker inherits: channel, shelf and notice. To these come its stdout and stderr."""
        channel, notice = self._handed
        return [channel, self.shelf.workers_end, notice]

    def close_theirs(self) -> None:
        """Once the worker has them."""
        for fd in self._handed:
            os.close(fd)
        self.output.close_worker_ends()

    def close(self) -> None:
        """There will be no worker."""
        self.channel.close()
        self.shelf.close()
        os.close(self.notice)
        self.output.close()


def start_process(load: dict[str, Any], ends: Ends) -> int:
    """Start a process that will load the app; its pid. Raises OSError where there is none to be had."""
    # Until the worker has handlers, a signal to all processes (Ctrl-C, a service's stop) would end it.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        process = subprocess.Popen(
            pool_command(
                load["python"],
                *("worker", *map(str, [*ends.inherited, os.getpid(), room.workers_limit()])),
                options=load["options"],
            ),
            env=load["env"],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=ends.output.worker_ends[0],
            stderr=ends.output.worker_ends[1],
            pass_fds=ends.inherited,
            process_group=0,
        )
    except OSError:
        ends.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
        ends.close_theirs()
    process.returncode = 0  # it is the crew that waits for it
    return process.pid


class Unborn:
    """A worker that a template was asked for, and of which the pid is not known yet."""

    def __init__(self, ends: Ends, template: Worker) -> None:
        self.ends = ends
        self.template = template
        self.clock: Timer | None = None


class Nursery:
    """The template, if there is one, and the workers that it was asked for."""

    def __init__(self, loop: Loop, printer: Printer) -> None:
        self._loop = loop
        self._printer = printer
        self._template: Worker | None = None
        self._unborn: list[Unborn] = []
        self.edited = False  # files of the app have changed while the last template loaded them
        self.on_born: Callable[[int, Unborn, list[Frame]], None] = lambda pid, unborn, frames: None
        self.on_lost: Callable[[Worker], None] = lambda template: None

    @property
    def template(self) -> Worker | None:
        """The process that is to fork workers: it may still be loading the app."""
        template = self._template
        return None if template is None or template.retiring else template

    @template.setter
    def template(self, worker: Worker | None) -> None:
        self._template = worker

    @property
    def expected(self) -> int:
        """How many workers are about to come."""
        return len(self._unborn)

    def note_edits(self, worker: Worker) -> None:
        """A process has loaded the app. Have files changed while the template read them?

        Then somebody has edited them, and it is replaced before it forks. If that happens with the next one
        too, it is the app that writes them: they count as they are now.
        """
        if worker is self.template and not worker.ready:
            edited = worker.edited_files()
            if self.edited:
                worker.files.update(edited)
            self.edited = bool(edited)

    def fork(self, template: Worker) -> None:
        """Ask for a worker. Raises OSError where no descriptor is left, or the template has gone."""
        unborn = Unborn(Ends(self._loop, self._printer), template)
        try:
            descriptors = [*unborn.ends.inherited, *unborn.ends.output.worker_ends]
            socket.send_fds(template.channel.sock, [encode(Frame(Kind.FORK))], descriptors)
        except OSError:
            unborn.ends.close()
            raise
        finally:
            unborn.ends.close_theirs()
        self._unborn.append(unborn)
        self._loop.watch(unborn.ends.channel, lambda: self._hear(unborn))
        unborn.clock = self._loop.after(BIRTH, lambda: self._lose(unborn))

    def hear(self) -> None:
        """A process has ended that may be one of them: it may have said its pid before."""
        for unborn in list(self._unborn):
            self._hear(unborn)

    def forget(self, template: Worker) -> None:
        """It is to fork no more. A worker that it forks at this moment finds its channel closed, and ends."""
        for unborn in [unborn for unborn in self._unborn if unborn.template is template]:
            self._remove(unborn)
            unborn.ends.close()

    def _hear(self, unborn: Unborn) -> None:
        try:
            frames = unborn.ends.channel.receive()
            if frames and "pid" not in checked(frames[0]).head:
                raise WireError("a worker says its pid first")
        except WireError:
            frames = None
        if frames is None:
            self._lose(unborn)
        elif frames:
            self._remove(unborn)
            self.on_born(frames[0].head["pid"], unborn, frames)

    def _lose(self, unborn: Unborn) -> None:
        """It does not come: the template has ended, cannot fork, or hangs."""
        self.forget(unborn.template)
        self.on_lost(unborn.template)

    def _remove(self, unborn: Unborn) -> None:
        self._unborn.remove(unborn)
        self._loop.unwatch(unborn.ends.channel)
        if unborn.clock is not None:
            unborn.clock.cancel()
