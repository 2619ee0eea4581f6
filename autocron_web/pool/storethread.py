"""The one thread of the monitor that uses the store. Requests that pile up share a commit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from ..errors import StoreError, StoreGone
from ..store import Store
from .loop import Loop

T = TypeVar("T")
Operation = Callable[[Store], Any]
Reply = Callable[[Any], None]

TICK = 1.1  # seconds between looks at the store when nothing happens: less than one wake-up a second in all
_RETRIES = (0.05, 0.2, 0.5, 1.0)  # seconds between tries when the store cannot be used


class Request(NamedTuple):
    """What is to be done with the store, and who is told of it."""

    operation: Operation
    reply: Reply | None
    durable: bool


class StoreThread:
    """Runs operations on the store in their order, each answered by a call in the loop's thread.

    Everything that waits when the thread looks up goes into one transaction. If the store cannot be
    used, the whole batch is tried again until it can: nothing that was asked for is forgotten.
    """

    def __init__(
        self,
        store: Store,
        loop: Loop,
        *,
        is_mine: Callable[[], bool],
        on_usurped: Callable[[], None],
        on_change: Callable[[], None],
        on_trouble: Callable[[str, bool], None],
    ) -> None:
        self._store = store
        self._loop = loop
        self._is_mine = is_mine  # no later monitor uses the store
        self._on_usurped = on_usurped
        self._on_change = on_change  # somebody else has written to the store
        self._on_trouble = on_trouble  # what happened, and whether it is for good
        self._inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._unheeded = False  # somebody has written, and that has not been looked into yet
        self._told = ""  # the trouble that was told of, until it is over
        self._thread = threading.Thread(target=self._run_or_tell, name="store", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(
        self,
        operation: Callable[[Store], T],
        reply: Callable[[T], None] | None = None,
        *,
        durable: bool = True,
    ) -> None:
        """Run `operation(store)` in the thread's next transaction, then `reply(its result)` in the loop.

        durable: whether what it writes must outlast a loss of power by itself: it costs a sync.
        """
        self._inbox.put(Request(operation, reply, durable))

    @property
    def trouble(self) -> str:
        """Why the store cannot be used at present, or an empty text."""
        return self._told

    def close(self, timeout: float) -> bool:
        """Finish what was asked and close the store; False if that took longer than `timeout` seconds."""
        self._closing.set()
        self._inbox.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run_or_tell(self) -> None:
        try:
            self._run()
        except BaseException as error:  # a mistake in this package: it ends the monitor, loudly
            self._loop.call_soon(lambda error=error: _raise(error))  # type: ignore[misc]

    def _run(self) -> None:
        open_for_more = True
        while open_for_more:
            batch = []
            try:
                item = self._inbox.get(timeout=TICK)
            except queue.Empty:
                self._tick()
                continue
            while True:
                if item is None:
                    open_for_more = False
                else:
                    batch.append(item)
                try:
                    item = self._inbox.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._commit(batch)
        self._store.close()

    def _commit(self, batch: list[Request]) -> None:
        durable, tries = any(request.durable for request in batch), 0
        while True:
            try:
                with self._store.batch(durable=durable):
                    results = [request.operation(self._store) for request in batch]
                self._told = ""
                break
            except StoreError as error:
                if tries == 0 or isinstance(error, StoreGone):
                    self._tell(error)
                if isinstance(error, StoreGone):
                    return
                if self._closing.wait(_RETRIES[min(tries, len(_RETRIES) - 1)]) and tries > len(_RETRIES):
                    return
                tries += 1
        replies = [
            (request.reply, result) for request, result in zip(batch, results, strict=True) if request.reply
        ]
        if replies:
            self._loop.call_soon(lambda: _answer(replies))

    def _tick(self) -> None:
        try:
            self._store.check()
            self._unheeded = self._store.changed() or self._unheeded
            mine = not self._unheeded or self._is_mine()
            self._store.tidy()
        except StoreError as error:
            self._tell(error)
            return
        self._told = ""
        if not mine:
            self._loop.call_soon(self._on_usurped)
        elif self._unheeded:  # by a process whose wake-up did not arrive
            self._loop.call_soon(self._on_change)
        self._unheeded = False

    def _tell(self, error: StoreError) -> None:
        if str(error) == self._told:
            return  # once is enough for as long as it lasts
        self._told = str(error)
        self._loop.call_soon(lambda: self._on_trouble(str(error), isinstance(error, StoreGone)))


def _raise(error: BaseException) -> None:
    raise error


def _answer(replies: list[tuple[Reply, Any]]) -> None:
    for reply, result in replies:
        reply(result)
