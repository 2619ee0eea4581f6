"""WSGI: factories, and who is let in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapter_site import Server, end_pools, own_engine
from contract_wsgi import WsgiAdapter, plain

import autocron_web as autocron
from autocron_web.wsgi import AutocronMiddleware
from conftest import need
from pool_app import wait_for_pool

engine = own_engine

FACTORY = """
import json
import autocron_web as autocron
from autocron_web.wsgi import AutocronMiddleware

def create_app(greeting="none"):
    @autocron.delay
    def context(word):
        return [greeting, word]

    def shop(environ, start_response):
        start_response("200 OK", [])
        return [json.dumps({"result": context(environ["PATH_INFO"][1:]).get(20)}).encode()]

    return AutocronMiddleware(shop)
"""


@pytest.fixture
def server(tmp_path: Path, home: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()
    end_pools()


@pytest.mark.parametrize("program", ["waitress-serve", "gunicorn"])
def test_tasks_in_a_factory_are_found(server: Server, tmp_path: Path, home: Path, program: str) -> None:
    (tmp_path / "shop.py").write_text(FACTORY)
    bind = f"127.0.0.1:{server.port}"
    if program == "gunicorn":
        server.start(need("gunicorn"), "-b", bind, "--preload", "shop:create_app('hello')")
        greeting = "hello"
    else:
        server.start(need("waitress-serve"), f"--listen={bind}", "--call", "shop:create_app")
        greeting = "none"
    assert server.get("a")["result"] == [greeting, "a"]
    wait_for_pool()
    assert (home / "shop.db").exists()  # called as the module of the factory


@pytest.mark.usefixtures("engine")
def test_who_may_see_more_of_the_status_is_the_apps_choice() -> None:
    def auth(environ: Any) -> bool:
        return environ["QUERY_STRING"] == "admin"

    app = AutocronMiddleware(plain, database="shop.db", status=True, auth=auth)
    adapter = WsgiAdapter()
    assert b"reasons" in adapter.ask(app, "GET", "/autocron/status?admin", {}).body
    assert b"reasons" not in adapter.ask(app, "GET", "/autocron/status", {}).body


@pytest.mark.usefixtures("engine")
def test_the_status_goes_before_an_app_that_answers_all_paths() -> None:
    def mine(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"mine"]

    app = AutocronMiddleware(mine, database="shop.db", status=True)
    answers = [WsgiAdapter().ask(app, "GET", f"/autocron/{page}", {}).body for page in ("ready", "other")]
    assert answers == [b'{"status": "pass"}\n', b"mine"]


@pytest.mark.usefixtures("engine")
def test_an_app_that_answers_for_any_attribute_can_be_wrapped() -> None:
    class Anything:
        def __getattr__(self, name: str) -> Anything:
            return self

        def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
            return []

    AutocronMiddleware(Anything(), database="shop.db")
    with pytest.raises(autocron.ConfigError, match="wrap it in AutocronMiddleware once"):
        AutocronMiddleware(AutocronMiddleware(plain, database="shop.db"), database="shop.db")
