"""Bottle: plugins of one app and of the default one, apps in the main module, and who is let in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import bottle
import pytest
from adapter_site import Server, end_pools, own_engine
from contract_wsgi import BottleAdapter

import autocron_web as autocron
from autocron_web.bottle import AutocronPlugin
from autocron_web.engine import Engine
from conftest import wait_until
from pool_app import wait_for_pool

engine = own_engine

UNGUARDED = """
import sys
import bottle
import autocron_web as autocron
from autocron_web.bottle import AutocronPlugin

bottle.install(AutocronPlugin(database="shop.db"))

@autocron.delay
def context(word):
    return [bottle.default_app().get_url("call", word=word), word]

@bottle.get("/<word>", name="call")
def call(word):
    return {"result": context(word).get(20)}

bottle.run(port=int(sys.argv[1]), server="waitress")
"""


@pytest.fixture
def server(tmp_path: Path, home: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()
    end_pools()


def ask(app: bottle.Bottle, path: str) -> tuple[int, bytes]:
    reply = BottleAdapter().ask(app, "GET", path, {})
    return reply.status, reply.body


def test_the_default_app_in_a_main_module_without_a_guard(server: Server, tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(UNGUARDED)
    server.start(sys.executable, "application.py", str(server.port))
    wait_for_pool()
    assert server.get("a")["result"] == ["/a", "a"]


def test_26_bottles_reloader_has_one_pool_which_runs_the_new_code(server: Server, tmp_path: Path) -> None:
    script = UNGUARDED.replace('server="waitress"', 'server="waitress", reloader=True, interval=0.2')
    file = tmp_path / "application.py"
    file.write_text(script)
    server.start(sys.executable, "application.py", str(server.port))
    assert server.get("a")["result"] == ["/a", "a"]
    monitors, _ = wait_for_pool()
    file.write_text(script.replace("word=word), word]", "word=word), 'new']"))

    def reloaded() -> bool:
        try:
            return bool(server.get("b")["result"] == ["/b", "new"])
        except OSError:
            return False  # between the two

    wait_until(reloaded, 30, "the new code")
    assert wait_for_pool()[0] == monitors


def test_a_task_sees_its_app_as_the_default_one(
    engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOCRON_MODE", "inline")
    app = bottle.Bottle()
    app.config["shop.colour"] = "green"
    app.install(AutocronPlugin(database="shop.db"))

    @autocron.delay
    def colour() -> str:
        return bottle.default_app().config["shop.colour"]

    before = bottle.default_app()
    assert colour().result == "green"
    assert bottle.default_app() is before
    assert list(home.iterdir()) == []


def test_an_app_that_is_closed_leaves(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[bool] = []
    monkeypatch.setattr(engine, "leave", lambda: left.append(True))
    app = bottle.Bottle()
    app.install(AutocronPlugin(database="shop.db"))
    app.close()
    assert left == [True]


@pytest.mark.usefixtures("engine")
def test_who_may_see_more_of_the_status_is_the_apps_choice() -> None:
    app = bottle.Bottle()
    app.install(
        AutocronPlugin(database="shop.db", status=True, auth=lambda: bottle.request.query_string == "admin")
    )
    assert ask(app, "/autocron/status")[1].strip() == b'{"status": "fail"}'
    assert b"reasons" in ask(app, "/autocron/status?admin")[1]


@pytest.mark.usefixtures("engine")
def test_an_app_that_is_mounted_answers_below_its_prefix() -> None:
    app, root = bottle.Bottle(), bottle.Bottle()
    app.install(AutocronPlugin(database="shop.db", status=True))
    root.mount("/shop/", app)
    assert ask(root, "/shop/autocron/ready") == (200, b'{"status": "pass"}\n')
    assert ask(root, "/autocron/ready")[0] == 404


@pytest.mark.usefixtures("engine")
def test_a_route_that_the_app_has_already_is_not_taken() -> None:
    app = bottle.Bottle()
    app.get("/autocron/status", callback=lambda: "mine")
    with pytest.raises(autocron.ConfigError) as error:
        app.install(AutocronPlugin(database="shop.db", status=True))
    assert str(error.value) == (
        "the app has a route /autocron/status already: give another url_prefix than '/autocron'"
    )
    app.install(AutocronPlugin(database="shop.db", status=True, url_prefix="/jobs"))
    assert ask(app, "/autocron/status") == (200, b"mine")
