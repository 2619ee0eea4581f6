"""The lifespan of an ASGI app in a worker: what the app opens at its start, tasks find in `lifespan_state()`.

https://asgi.readthedocs.io/en/latest/specs/lifespan.html
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ..errors import ConfigError
from ..eventloop import event_loop

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SHUTDOWN = 5.0  # seconds that the app's shutdown may take in a worker

_state: dict[str, Any] | None = None


def lifespan_state() -> dict[str, Any]:
    """What the app's lifespan has yielded (Starlette, FastAPI), or put into `scope["state"]`.

    In a task, with `AutocronMiddleware(app, state=True)`: each worker runs the lifespan of its own. In the
    app process and in inline mode it is the app's. Raises `ConfigError` where there is none.
    """
    if _state is None:
        raise ConfigError(
            "there is no lifespan's state in this process:"
            " AutocronMiddleware(app, state=True) makes workers run the app's lifespan"
        )
    return _state


def keep_state(state: dict[str, Any]) -> None:
    """This is the state of the app in this process."""
    global _state
    _state = state


def run_in_worker(app: App) -> None:
    """Run the app's startup on the event loop of tasks, and its shutdown when the process ends.

    Raises RuntimeError if the startup fails, or whatever the app does.
    """
    lifespan = _Lifespan(app)
    loop = event_loop()
    loop.run_until_complete(lifespan.start())
    keep_state(lifespan.state)
    atexit.register(lambda: loop.run_until_complete(lifespan.stop()))


class _Lifespan:
    """The server's side of one lifespan."""

    def __init__(self, app: App) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._sent: asyncio.Queue[Message] = asyncio.Queue()

    async def start(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = asyncio.ensure_future(self._app(scope, self._messages.get, self._sent.put))
        answer = await self._ask("startup")
        if answer is None or answer["type"] != "lifespan.startup.complete":
            reason = answer.get("message", "") if answer else "the app knows no lifespan"
            raise RuntimeError(f"the app's startup has failed in the worker: {reason}")

    async def stop(self) -> None:
        try:
            await asyncio.wait_for(self._ask("shutdown"), SHUTDOWN)
        except Exception:
            pass  # the process ends anyway

    async def _ask(self, what: str) -> Message | None:
        """Send a message; what the app answers, or None if it ends without. Raises what the app does."""
        await self._messages.put({"type": f"lifespan.{what}"})
        answer = asyncio.ensure_future(self._sent.get())
        await asyncio.wait([answer, self._task], return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        self._task.result()
        return None
