"""The one thread of the monitor that uses the store. Requests that pile up share a commit.

One that fails by itself (a value that the store cannot hold, a row that cannot be read) fails alone: the
others of its commit are done without it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from ..errors import StoreError, StoreGone
from ..store import Store
from .failures import Broken
from .loop import Loop

T = TypeVar("T")
Operation = Callable[[Store], Any]
Reply = Callable[[Any], None]
Failed = Callable[[Exception], object]

TICK = 1.1  # seconds between looks at the store when nothing happens: less than one wake-up a second in all
_RETRIES = (0.05, 0.2, 0.5, 1.0)  # seconds between tries when the store cannot be used


class Request(NamedTuple):
    """What is to be done with the store, and who is told of it."""

    operation: Operation
    reply: Reply | None
    failed: Failed | None
    writes: bool
    durable: bool


class StoreThread:
    """Runs operations on the store in their order, each answered by a call in the loop's thread.

    All writes that wait when the thread looks up go into one transaction. If the store cannot be
    used, the whole batch is tried again until it can: nothing that was asked for is forgotten. Reads
    follow, outside of it: while somebody reads, others write.
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
        is_reachable: Callable[[], bool] = lambda: True,
        on_unreachable: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._loop = loop
        self._is_mine = is_mine  # no later monitor uses the store
        self._on_usurped = on_usurped
        self._on_change = on_change  # somebody else has written to the store
        self._on_trouble = on_trouble  # what happened, and whether it is for good
        self._is_reachable = is_reachable  # at the socket; asked in this thread, as it looks up anyway
        self._on_unreachable = on_unreachable
        self._inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._unheeded = False  # somebody has written, and that has not been looked into yet
        self._told = ""  # the trouble that was told of, until it is over
        self._looked = time.monotonic()  # when that was last done
        self._thread = threading.Thread(target=self._run_or_tell, name="store", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(
        self,
        operation: Callable[[Store], T],
        reply: Callable[[T], None] | None = None,
        *,
        failed: Failed | None = None,
        writes: bool = True,
        durable: bool = True,
    ) -> None:
        """Run `operation(store)` in the thread's next transaction, then `reply(its result)` in the loop.

        failed: is told, in the loop, what the operation or its reply has raised; else it is only logged. An
        operation that writes and raises `StoreError` is tried again instead.
        writes: False for what only reads, and is done outside of any transaction.
        durable: whether what it writes must outlast a loss of power by itself: it costs a sync.
        """
        self._inbox.put(Request(operation, reply, failed, writes, durable and writes))

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
        except BaseException as error:  # a mistake in this package, without whose thread nothing goes on
            self._loop.call_soon(lambda error=error: self._end(error))  # type: ignore[misc]

    def _end(self, error: BaseException) -> None:
        raise Broken("the store's thread has failed") from error

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
            self._write([request for request in batch if request.writes])
            for request in batch:
                if not request.writes:
                    self._read(request)
            if time.monotonic() - self._looked >= TICK:
                self._tick()
        self._store.close()

    def _write(self, batch: list[Request]) -> None:
        if not batch:
            return
        try:
            results = self._commit(batch)
        except Exception as error:
            if len(batch) == 1:
                self._loop.call_soon(lambda error=error: _fail(batch[0], error))  # type: ignore[misc]
                return
            for request in batch:  # one of them is wrong: it is not to cost the others
                self._write([request])
            return
        if results is not None:
            self._answer(batch, results)

    def _commit(self, batch: list[Request]) -> list[Any] | None:
        """What the operations answer, once they are committed; None if that cannot be, for good."""
        durable, tries = any(request.durable for request in batch), 0
        while True:
            try:
                with self._store.batch(durable=durable):
                    results = [request.operation(self._store) for request in batch]
                self._told = ""
                return results
            except StoreError as error:
                if tries == 0 or isinstance(error, StoreGone):
                    self._tell(error)
                if isinstance(error, StoreGone):
                    return None
                if self._closing.wait(_RETRIES[min(tries, len(_RETRIES) - 1)]) and tries > len(_RETRIES):
                    return None
                tries += 1

    def _read(self, request: Request) -> None:
        try:
            result = request.operation(self._store)
        except Exception as error:
            self._loop.call_soon(lambda error=error: _fail(request, error))  # type: ignore[misc]
        else:
            self._answer([request], [result])

    def _answer(self, batch: list[Request], results: list[Any]) -> None:
        replies = [pair for pair in zip(batch, results, strict=True) if pair[0].reply is not None]
        if replies:
            self._loop.call_soon(lambda: self._reply(replies))

    def _reply(self, replies: list[tuple[Request, Any]]) -> None:
        for request, result in replies:
            try:
                assert request.reply is not None
                request.reply(result)
            except Exception as error:
                self._loop.guard(lambda error=error, request=request: _fail(request, error))  # type: ignore[misc]

    def _tick(self) -> None:
        """Look whether all is as it was. An exception of something else than the store costs this look."""
        self._looked = time.monotonic()
        try:
            self._look()
        except StoreError as error:
            self._tell(error)
        except Exception as error:
            self._loop.call_soon(lambda error=error: _raise(error))  # type: ignore[misc]

    def _look(self) -> None:
        if not self._is_reachable():
            self._loop.call_soon(self._on_unreachable)
        self._store.check()
        self._unheeded = self._store.changed() or self._unheeded
        mine = not self._unheeded or self._is_mine()
        self._store.tidy()
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


def _raise(error: Exception) -> None:
    raise error


def _fail(request: Request, error: Exception) -> None:
    """The operation of the request has failed: whoever asked for it is told, and else everybody."""
    if request.failed is None:
        raise error
    request.failed(error)
