"""A plain ASGI app and one of Starlette, for the contract of adapters."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import httpx
from adapter_site import Adapter, Reply, Settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import autocron_web.starlette
from autocron_web.asgi import AutocronMiddleware

PLAIN = """
import json, os
import autocron_web as autocron
from autocron_web.asgi import AutocronMiddleware

@autocron.delay
def context(word):
    return [autocron.in_worker(), word]

async def shop(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError("as Django's")
    body = b"the shop"
    if scope["path"].startswith("/call/"):
        result = await context(scope["path"].removeprefix("/call/"))
        body = json.dumps({"result": result}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

app = AutocronMiddleware(shop, **json.loads(os.environ["SHOP_SETTINGS"]))
"""

STARLETTE = """
import json, os
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
import autocron_web as autocron
from autocron_web.starlette import AutocronMiddleware

@autocron.delay
async def context(word):
    return [str(app.url_path_for("call", word=word))]

async def index(request):
    return PlainTextResponse("the shop")

async def call(request):
    return JSONResponse({"result": await context(request.path_params["word"])})

app = Starlette(
    routes=[Route("/", index), Route("/call/{word}", call)],
    middleware=[Middleware(AutocronMiddleware, **json.loads(os.environ["SHOP_SETTINGS"]))],
)
"""

TEST = """
import shop

def test_the_shop():
    assert shop.app
"""


async def plain(scope: Any, receive: Any, send: Any) -> None:
    found = scope["path"] == "/"
    await send({"type": "http.response.start", "status": 200 if found else 404, "headers": []})
    await send({"type": "http.response.body", "body": b"the shop"})


class AsgiAdapter(Adapter):
    name = "asgi"
    needs = ""
    files = {"shop.py": PLAIN, "test_shop.py": TEST}
    commands = ("python test_shop.py", "python -m pytest -p no:cacheprovider test_shop.py")

    def context(self, word: str) -> list[Any]:
        return [True, word]

    def command(self, port: int) -> list[str]:
        return [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(port)]

    def app(self, settings: Settings) -> Any:
        return AutocronMiddleware(plain, **settings)

    def install_again(self, app: Any) -> None:
        AutocronMiddleware(app, database="orders.db")

    def ask(self, app: Any, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        # as bytes, because httpx refuses text that is not ASCII
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]

        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
                return await client.request(method, path, headers=raw)

        answer = asyncio.run(request())
        return Reply(answer.status_code, dict(answer.headers), answer.content)


class StarletteAdapter(AsgiAdapter):
    name = "starlette"
    needs = "starlette"
    files = {"shop.py": STARLETTE, "test_shop.py": TEST}

    def context(self, word: str) -> list[Any]:
        return [f"/call/{word}"]

    def app(self, settings: Settings) -> Starlette:
        app = Starlette(
            routes=[Route("/", lambda request: PlainTextResponse("the shop"))],
            middleware=[Middleware(autocron_web.starlette.AutocronMiddleware, **settings)],
        )
        app.middleware_stack = app.build_middleware_stack()
        return app

    def install_again(self, app: Starlette) -> None:
        app.middleware_stack = None
        app.add_middleware(autocron_web.starlette.AutocronMiddleware, database="orders.db")
        app.middleware_stack = app.build_middleware_stack()
