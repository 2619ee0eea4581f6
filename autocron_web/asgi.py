"""ASGI: `AutocronMiddleware(app, database="shop.db")` around Starlette, FastAPI, Litestar, Quart, any app.

from autocron_web.asgi import AutocronMiddleware

app = AutocronMiddleware(app, database="shop.db")
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from .engine import engine
from .errors import AutocronError, ConfigError
from .origin import app_origin
from .settings import Settings, importable
from .web.adapters import database_of, refuse_a_second, start
from .web.front import Front
from .web.lifespan import App, Message, Receive, Scope, Send, keep_state, lifespan_state

__all__ = ["AutocronMiddleware", "lifespan", "lifespan_state"]

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


class AutocronMiddleware:
    """Starts the pool, or joins the running one, with the app's lifespan, and leaves it at its end.

    Where the server runs no lifespan (`uvicorn --lifespan off`), it starts with the first request.

    app: the ASGI app. auth: called with the scope of a request for the status, may be a coroutine function;
        whether the visitor may see more than a word of it, and "detail" for one who may also see arguments,
        output and tracebacks.
    state: whether each worker runs the app's lifespan too, so that tasks have its `lifespan_state()`.
    settings: `database` (`<module of the app>.db`), `workers` (2), `status` (False), `url_prefix`
        (`/autocron`), `token` (None), `autostart` (True), `max_jobs` and `max_memory` (None).

    Raises `ConfigError` for a setting that cannot be. Where a framework makes it while the server runs, as
    Starlette does, the server is told so at its start.

        app = AutocronMiddleware(app, database="shop.db")
        app = Starlette(middleware=[Middleware(AutocronMiddleware, database="shop.db")])
    """

    def __init__(
        self, app: App, *, auth: Callable[[Any], Any] | None = None, state: bool = False, **settings: Any
    ) -> None:
        self.app = app
        self._auth = auth
        self._trouble: ConfigError | None = None
        origin = app_origin()
        try:
            refuse_a_second(app, AutocronMiddleware)
            self._membership = _Membership(Settings.of(settings), origin, state)
        except ConfigError as error:
            if origin is not None:
                raise
            # A framework makes it for the first lifespan: raised there, it would look as if there was none.
            self._trouble = error
            self._membership = _Membership(Settings(autostart=False), origin, state)
        self._front = Front(self._membership.words)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        await self._start(scope)
        path = _path_in_app(scope)
        if scope["type"] == "http" and path in self._front.paths:
            await self._answer(scope, path, send)
        else:
            await self.app(scope, receive, send)

    async def _start(self, scope: Scope) -> None:
        if self._trouble is not None:
            raise self._trouble
        await self._membership.start(scope.get("app", self))

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start before the app's own startup, and leave after its shutdown, so that both may call tasks."""
        messages = [await receive()]
        try:
            await self._start(scope)
        except AutocronError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        if "state" in scope:
            keep_state(scope["state"])
        asked = False

        async def receive_again() -> Message:
            nonlocal asked
            asked = True
            return messages.pop() if messages else await receive()

        async def send_and_leave(message: Message) -> None:
            if message["type"] != "lifespan.startup.complete":
                self._membership.leave()
            await send(message)

        try:
            await self.app(scope, receive_again, send_and_leave)
        except Exception:
            if asked:
                self._membership.leave()
                raise
        if not asked:  # the app knows no lifespan, as Django: this one answers for it
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send_and_leave({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, path: str, send: Send) -> None:
        authorization = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        allowed = self._auth is not None and self._auth(self._visitor(scope))
        if isinstance(allowed, Awaitable):
            allowed = await allowed
        status, headers, body = await asyncio.to_thread(
            self._front.answer, scope["method"], path, authorization, allowed
        )
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})

    def _visitor(self, scope: Scope) -> Any:
        """What `auth` is called with."""
        return scope


def lifespan(own: Lifespan | None = None, *, state: bool = False, **settings: Any) -> Lifespan:
    """A lifespan for Starlette, FastAPI and Litestar that starts the pool around the app's own.

    own: the app's own lifespan, if it has one.
    state, settings: as those of `AutocronMiddleware`, but for the status, which needs that.

    Raises `ConfigError` for a setting that cannot be.

        app = FastAPI(lifespan=lifespan(database="shop.db"))
        app = Starlette(lifespan=lifespan(connect_to_mail_server, database="shop.db"))
    """
    words = Settings.of(settings)
    if words.status:
        raise ConfigError("status is True: a lifespan answers no requests, use AutocronMiddleware instead")
    membership = _Membership(words, app_origin(), state)

    @asynccontextmanager
    async def combined(app: Any) -> AsyncIterator[Any]:
        await membership.start(app)
        try:
            async with own(app) if own is not None else nullcontext() as yielded:
                if not engine.in_worker:
                    keep_state(yielded or {})
                yield yielded
        finally:
            membership.leave()

    return combined


class _Membership:
    """Whether this process has joined the pool. Starting takes a moment, so a thread does it."""

    def __init__(self, words: Settings, origin: dict[str, Any] | None, state: bool) -> None:
        self.words = words
        self._origin = origin
        self._wants_state = state
        if origin is not None and words.autostart:
            database_of(words, origin)  # refused now, not when the server starts
        self._lock = threading.Lock()
        self._joined = False

    async def start(self, app: object) -> None:
        """Join, unless that is done. app: the object that the server or framework calls the app."""
        if not self._joined:
            await asyncio.to_thread(self._start, app)

    def _start(self, app: object) -> None:
        with self._lock:
            if not self._joined:
                start(self.words, self._loader(app))
                self._joined = True

    def _loader(self, app: object) -> dict[str, Any] | None:
        """How a worker makes the app; also how it finds it, if it is to run its lifespan."""
        if not self._wants_state:
            return self._origin or _place_of(app)[0]
        origin, name = _place_of(app)
        if origin is None and self._origin is not None and "factory" in self._origin:
            origin, name = self._origin, ""
        if origin is None:
            raise ConfigError(
                "state is True, and no worker could find the app: make it a global name of a module,"
                " or the result of a function that the server calls"
            )
        return {**origin, "asgi": name}

    def leave(self) -> None:
        """Leave at once."""
        if self._joined and self.words.autostart:
            engine.leave()
        self._joined = False


def _place_of(app: object) -> tuple[dict[str, Any] | None, str]:
    """The module in which this object is a global name, the one that was imported first; and that name."""
    for module_name, module in list(sys.modules.items()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is app:
                return {"module": importable(module_name)}, name
    return None, ""


def _path_in_app(scope: Scope) -> str:
    """The path below that at which the app is mounted (`root_path`), which servers put before it."""
    path, root = scope.get("path", ""), scope.get("root_path", "")
    return str(path[len(root) :] if root and path.startswith(root + "/") else path)
