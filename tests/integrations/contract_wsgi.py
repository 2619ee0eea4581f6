"""A WSGI app of Falcon and one of Bottle, for the contract of adapters."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any
from wsgiref.util import setup_testing_defaults

import bottle
from adapter_site import Adapter, Reply, Settings
from contract_asgi import TEST

from autocron_web.bottle import AutocronPlugin
from autocron_web.wsgi import AutocronMiddleware

FALCON = """
import json, os
import falcon
import autocron_web as autocron
from autocron_web.wsgi import AutocronMiddleware

@autocron.delay
def context(word):
    return [autocron.in_worker(), word]

class Index:
    def on_get(self, request, response):
        response.text = "the shop"

class Call:
    def on_get(self, request, response, word):
        response.media = {"result": context(word).get(20)}

shop = falcon.App()
shop.add_route("/", Index())
shop.add_route("/call/{word}", Call())
app = AutocronMiddleware(shop, **json.loads(os.environ["SHOP_SETTINGS"]))
"""

BOTTLE = """
import json, os, sys
import bottle
import autocron_web as autocron
from autocron_web.bottle import AutocronPlugin

app = bottle.Bottle()
app.config["shop.currency"] = "EUR"
app.install(AutocronPlugin(**json.loads(os.environ["SHOP_SETTINGS"])))

@autocron.delay
def context(word):
    return [bottle.default_app().config["shop.currency"], word]

@app.get("/")
def index():
    return "the shop"

@app.get("/call/<word>")
def call(word):
    return {"result": context(word).get(20)}

if __name__ == "__main__":
    app.run(port=int(sys.argv[1]))
"""


def plain(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK" if environ["PATH_INFO"] == "/" else "404 Not Found", [])
    return [b"the shop"]


class WsgiAdapter(Adapter):
    name = "wsgi"
    needs = ""
    files = {"shop.py": FALCON, "test_shop.py": TEST}
    commands = ("python -m pytest -p no:cacheprovider test_shop.py",)

    def context(self, word: str) -> list[Any]:
        return [True, word]

    def command(self, port: int) -> list[str]:
        return [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-w", "2", "shop:app"]

    def app(self, settings: Settings) -> Any:
        return AutocronMiddleware(plain, **settings)

    def install_again(self, app: Any) -> None:
        AutocronMiddleware(app, database="orders.db")

    def ask(self, app: Any, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        path, _, query = path.partition("?")
        environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
        environ.update({f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()})
        setup_testing_defaults(environ)
        begun: list[Any] = []

        def start_response(*given: Any) -> Any:
            begun.extend(given)

        body = b"".join(app(environ, start_response))
        status, fields, *_ = begun
        return Reply(int(status.split()[0]), {name.lower(): value for name, value in fields}, body)


class BottleAdapter(WsgiAdapter):
    name = "bottle"
    needs = "bottle"
    files = {"shop.py": BOTTLE, "test_shop.py": TEST}

    def context(self, word: str) -> list[Any]:
        return ["EUR", word]

    def command(self, port: int) -> list[str]:
        return [sys.executable, "shop.py", str(port)]

    def app(self, settings: Settings) -> bottle.Bottle:
        app = bottle.Bottle()
        app.install(AutocronPlugin(**settings))
        app.get("/", callback=lambda: "the shop")
        return app

    def install_again(self, app: bottle.Bottle) -> None:
        app.install(AutocronPlugin(database="orders.db"))
