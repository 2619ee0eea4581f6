"""ASGI: with a lifespan and without, composed with the app's own, and under the frameworks that speak it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from adapter_site import Server, end_pools, own_engine
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection

import autocron_web as autocron
from autocron_web import asgi, starlette
from autocron_web.asgi import AutocronMiddleware, lifespan, lifespan_state
from autocron_web.engine import Engine
from autocron_web.web import lifespan as of_workers
from conftest import pool_processes
from pool_app import wait_for_pool

engine = own_engine

STARTUP, SHUTDOWN = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}
STARTED, STOPPED = {"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}


@pytest.fixture
def log(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens, in order; nothing is started."""
    log: list[str] = []
    monkeypatch.setattr(engine, "start", lambda *given, **named: log.append("start"))
    monkeypatch.setattr(engine, "leave", lambda: log.append("leave"))
    return log


def live(app: Any, **scope: Any) -> list[Any]:
    """Run the app's lifespan, shut down at once; what it sent, or the exception that came out."""
    sent: list[Any] = []
    messages = iter([STARTUP, SHUTDOWN])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    try:
        asyncio.run(app({"type": "lifespan", **scope}, receive, send))
    except Exception as error:
        sent.append(error)
    return sent


def get(app: Any, path: str, **transport: Any) -> httpx.Response:
    async def request() -> httpx.Response:
        async with client(app, **transport) as asking:
            return await asking.get(path)

    return asyncio.run(request())


def client(app: Any, **transport: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, **transport), base_url="http://shop")


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


# -- the lifespan ------------------------------------------------------------------------------------------


def test_it_starts_before_the_apps_startup_and_leaves_after_its_shutdown(log: list[str]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() == STARTUP
        log.append("app starts")
        await send(STARTED)
        assert await receive() == SHUTDOWN
        log.append("app stops")
        await send(STOPPED)

    assert live(AutocronMiddleware(app, database="shop.db")) == [STARTED, STOPPED]
    assert log == ["start", "app starts", "app stops", "leave"]


def test_it_answers_for_an_app_that_knows_no_lifespan(log: list[str]) -> None:
    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("only HTTP")

    async def ignores(scope: Any, receive: Any, send: Any) -> None:
        return

    for app in (refuses, ignores):
        assert live(AutocronMiddleware(app, database="shop.db")) == [STARTED, STOPPED]
    assert log == ["start", "leave"] * 2


def test_a_startup_that_fails_is_told_and_left(log: list[str]) -> None:
    async def raises(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise RuntimeError("no mail server")

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no mail server"})

    (error,) = live(AutocronMiddleware(raises, database="shop.db"))
    assert str(error) == "no mail server"
    (message,) = live(AutocronMiddleware(fails, database="shop.db"))
    assert message["message"] == "no mail server"
    assert log == ["start", "leave"] * 2


def test_a_wrong_setting_in_starlettes_list_fails_the_startup(log: list[str]) -> None:
    """Starlette makes its middlewares when the lifespan begins: raised there, it would be taken for none."""
    app = Starlette(middleware=[Middleware(AutocronMiddleware, workers=0)])
    assert live(app, state={}) == [
        {"type": "lifespan.startup.failed", "message": "workers is 0: give a whole number from 1 to 256"}
    ]
    with pytest.raises(autocron.ConfigError, match="workers is 0"):
        get(app, "/")
    assert log == []


def test_a_missing_name_of_the_database_is_asked_for(log: list[str]) -> None:
    (message,) = live(Starlette(middleware=[Middleware(AutocronMiddleware)]), state={})
    assert message["message"].endswith("name its database with the keyword 'database', such as 'shop.db'")


def test_without_a_lifespan_the_first_request_starts_it_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no request waits for it but those that come before it has started."""
    called, may_go = threading.Event(), threading.Event()
    starts: list[int] = []

    def start(*given: Any, **named: Any) -> None:
        starts.append(1)
        called.set()
        assert may_go.wait(20)

    monkeypatch.setattr(engine, "start", start)
    app = AutocronMiddleware(answer, database="shop.db")

    async def requests() -> None:
        async with client(app) as asking:
            first = [asyncio.create_task(asking.get(f"/{number}")) for number in range(5)]
            while not called.is_set():
                await asyncio.sleep(0.01)  # the event loop goes on
            assert not any(task.done() for task in first)
            may_go.set()
            assert [reply.text for reply in await asyncio.gather(*first)] == [f"/{n}" for n in range(5)]
            await asking.get("/6")

    asyncio.run(requests())
    assert starts == [1]


# -- the lifespan helper -----------------------------------------------------------------------------------


def test_the_lifespan_goes_around_the_apps_own_and_hands_on_its_state(log: list[str]) -> None:
    @asynccontextmanager
    async def own(app: Any) -> AsyncIterator[dict[str, str]]:
        log.append("app starts")
        yield {"mail": "connected"}
        log.append("app stops")

    state: dict[str, Any] = {}
    assert live(Starlette(lifespan=lifespan(own, database="shop.db")), state=state) == [STARTED, STOPPED]
    assert log == ["start", "app starts", "app stops", "leave"]
    assert state == {"mail": "connected"}
    assert lifespan_state() == {"mail": "connected"}
    assert live(Starlette(lifespan=lifespan(database="shop.db")), state={}) == [STARTED, STOPPED]


def test_a_lifespan_has_no_routes() -> None:
    with pytest.raises(autocron.ConfigError, match="a lifespan answers no requests, use AutocronMiddleware"):
        lifespan(database="shop.db", status=True)


# -- requests ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("log")
def test_who_may_see_more_is_the_apps_choice() -> None:
    asked: list[Any] = []

    async def later(scope: Any) -> bool:
        asked.append(scope)
        return True

    def at_once(connection: HTTPConnection) -> bool:
        asked.append(connection)
        return connection.query_params.get("who") == "admin"

    app = AutocronMiddleware(answer, database="shop.db", status=True, auth=later)
    assert len(get(app, "/autocron/status").json()) > 1
    assert asked.pop()["path"] == "/autocron/status"
    app = starlette.AutocronMiddleware(answer, database="shop.db", status=True, auth=at_once)
    assert len(get(app, "/autocron/status?who=admin").json()) > 1
    assert get(app, "/autocron/status").json().keys() == {"status"}
    asked.clear()
    assert get(app, "/other").text == "/other"
    assert asked == []


@pytest.mark.usefixtures("engine")
def test_the_prefix_is_below_the_place_where_the_app_is_mounted() -> None:
    app = AutocronMiddleware(answer, database="shop.db", status=True)
    assert get(app, "/api/autocron/ready", root_path="/api").json() == {"status": "pass"}
    assert get(app, "/autocron/ready", root_path="/api").json() == {"status": "pass"}
    assert get(app, "/api/autocron/ready").text == "/api/autocron/ready"
    assert get(app, "/apiautocron/ready", root_path="/api").text == "/apiautocron/ready"


# -- the state in workers ----------------------------------------------------------------------------------


def test_a_state_that_no_worker_could_find_is_refused_at_the_start(log: list[str]) -> None:
    app = Starlette(middleware=[Middleware(AutocronMiddleware, database="shop.db", state=True)])
    (message,) = live(app, state={})
    assert message["message"].startswith("state is True, and no worker could find the app: make it a global")
    assert log == []


def test_without_a_state_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_workers, "_state", None)
    with pytest.raises(autocron.ConfigError, match="there is no lifespan's state in this process"):
        asgi.lifespan_state()


# -- servers -----------------------------------------------------------------------------------------------

TASK = """
import autocron_web as autocron
from autocron_web.asgi import AutocronMiddleware, lifespan, lifespan_state
from contextlib import asynccontextmanager

@autocron.delay
def context(word):
    return [autocron.in_worker(), word]
"""

SAMPLES = {
    "fastapi": """
from fastapi import FastAPI
app = FastAPI()
app.add_middleware(AutocronMiddleware, database="shop.db")

@app.get("/{word}")
async def call(word: str):
    return {"result": await context(word)}
""",
    "litestar": """
from litestar import Litestar, get

@get("/{word:str}")
async def call(word: str) -> dict:
    return {"result": await context(word)}

app = Litestar([call], lifespan=[lifespan(database="shop.db")])
""",
    "quart": """
from quart import Quart
app = Quart(__name__)
app.asgi_app = AutocronMiddleware(app.asgi_app, database="shop.db")

@app.get("/<word>")
async def call(word):
    return {"result": await context(word)}
""",
    "django": """
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])

async def call(request, word):
    return JsonResponse({"result": await context(word)})

urlpatterns = [path("<word>", call)]
app = AutocronMiddleware(get_asgi_application(), database="shop.db")
""",
    "factory": """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

def create_app():
    @autocron.delay(name="shop.context")
    def inner(word):
        return [autocron.in_worker(), word]

    async def call(request):
        return JSONResponse({"result": await inner(request.path_params["word"])})

    return AutocronMiddleware(Starlette(routes=[Route("/{word}", call)]), database="shop.db")
""",
}

STATE = """
import os
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

@autocron.delay
def context(word):
    return [lifespan_state()["pid"] == os.getpid(), word]

@autocron.delay
async def later(word):
    lifespan_state()["queue"].put_nowait(word)  # of the event loop on which the lifespan runs
    return [lifespan_state()["pid"] == os.getpid(), await lifespan_state()["queue"].get()]

@asynccontextmanager
async def own(app):
    import asyncio
    yield {"pid": os.getpid(), "queue": asyncio.Queue()}
    with open("stopped", "a") as file:
        file.write(f"{os.getpid()}\\n")

async def call(request):
    word = request.path_params["word"]
    return JSONResponse({"result": await context(word) + await later(word)})

routes = [Route("/{word}", call)]
"""

STATES = {
    "middleware": """
app = Starlette(
    routes=routes, lifespan=own, middleware=[Middleware(AutocronMiddleware, database="shop.db", state=True)]
)
""",
    "around": """
app = AutocronMiddleware(Starlette(routes=routes, lifespan=own), database="shop.db", state=True)
""",
    "lifespan": """
app = Starlette(routes=routes, lifespan=lifespan(own, database="shop.db", state=True))
""",
    "factory": """
def create_app():
    return AutocronMiddleware(Starlette(routes=routes, lifespan=own), database="shop.db", state=True)
""",
}


@pytest.fixture
def serve(tmp_path: Path, home: Path) -> Iterator[Callable[..., Server]]:
    """`serve(source, *options)`: the source as `shop.py` under uvicorn."""
    server = Server(tmp_path)

    def start(source: str, *options: str) -> Server:
        (tmp_path / "shop.py").write_text(TASK + source)
        name = "create_app" if "create_app" in source else "app"
        options += ("--factory",) if name == "create_app" else ()
        server.start(
            sys.executable, "-m", "uvicorn", f"shop:{name}", "--port", str(server.port), *options,
            PYTHONWARNINGS="ignore",
        )  # fmt: skip
        return server

    yield start
    server.stop()
    end_pools()


@pytest.mark.once
@pytest.mark.parametrize(
    "framework",
    [
        pytest.param(name, marks=() if name == "fastapi" else pytest.mark.matrix)  # that one is in `test`
        for name in SAMPLES
    ],
)
def test_each_framework_has_its_pool(serve: Callable[..., Server], framework: str) -> None:
    server = serve(SAMPLES[framework])
    wait_for_pool()
    assert server.get("a")["result"] == [True, "a"]


@pytest.mark.once
def test_uvicorn_without_lifespan(serve: Callable[..., Server]) -> None:
    server = serve(SAMPLES["fastapi"], "--lifespan", "off")
    assert pool_processes() == {}
    assert server.get("a")["result"] == [True, "a"]
    wait_for_pool()


@pytest.mark.parametrize(
    "form",
    ["middleware", *(pytest.param(f, marks=pytest.mark.once) for f in ("around", "lifespan", "factory"))],
)
def test_tasks_have_the_state_of_a_lifespan_in_their_worker(
    serve: Callable[..., Server], form: str, tmp_path: Path
) -> None:
    server = serve(STATE + STATES[form])
    _, workers = wait_for_pool()
    assert server.get("a")["result"] == [True, "a", True, "a"]
    server.stop()
    end_pools()
    wait_for_pool(0, 0)
    stopped = {int(line) for line in (tmp_path / "stopped").read_text().split()}
    assert stopped > workers  # the app process too
