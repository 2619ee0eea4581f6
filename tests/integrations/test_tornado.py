"""Tornado: an app that catches all paths, who is let in, and its reloader."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapter_site import Server, end_pools, own_engine
from contract_tornado import TornadoAdapter
from tornado.web import Application, RequestHandler

from autocron_web.tornado import install
from conftest import wait_until
from pool_app import wait_for_pool

engine = own_engine


class Mine(RequestHandler):
    def get(self) -> None:
        self.write("mine")


def ask(app: Application, path: str, **headers: str) -> tuple[int, bytes]:
    reply = TornadoAdapter().ask(app, "GET", path, headers)
    return reply.status, reply.body


@pytest.mark.usefixtures("engine")
def test_the_status_goes_before_an_app_that_catches_all_paths() -> None:
    app = Application([("/.*", Mine)])
    install(app, database="shop.db", status=True)
    assert ask(app, "/autocron/status") == (503, b'{"status": "fail"}\n')
    assert ask(app, "/autocron/statuses") == (200, b"mine")


@pytest.mark.usefixtures("engine")
def test_who_may_see_more_of_the_status_is_the_apps_choice() -> None:
    async def later(handler: RequestHandler) -> bool:
        return handler.get_argument("who", "") == "admin"

    def at_once(handler: RequestHandler) -> Any:
        return handler.get_argument("who", "") == "admin" and "detail"

    for auth in (later, at_once):
        app = Application([])
        install(app, database="shop.db", status=True, auth=auth)
        assert b"reasons" in ask(app, "/autocron/status?who=admin")[1]
        assert b"reasons" not in ask(app, "/autocron/status")[1]


SHOP = """
import asyncio, logging, os, sys
from tornado.web import Application, RequestHandler
import autocron_web as autocron
from autocron_web.tornado import install

@autocron.delay
def code():
    return "first"

class Index(RequestHandler):
    async def get(self):
        self.write({"result": await (await code.aenqueue()), "pid": os.getpid()})

async def main():
    app = Application([("/code", Index)], debug=True)
    install(app, database="shop.db")
    app.listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
"""


@pytest.fixture
def server(tmp_path: Path, home: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()
    end_pools()


@pytest.mark.once
@pytest.mark.timeout(120)
def test_a_reload_in_the_same_process_brings_the_new_code(server: Server, tmp_path: Path) -> None:
    """Tornado's reloader does not fork: the process executes itself anew, and keeps its pid."""
    shop = tmp_path / "shop.py"
    shop.write_text(SHOP)
    server.start(sys.executable, "shop.py", str(server.port))
    first = server.get("code")
    assert first["result"] == "first"
    monitors, workers = wait_for_pool()
    shop.write_text(SHOP.replace("first", "second"))

    def reloads() -> bool:
        os.utime(shop)  # the reloader overlooks a change of the moment in which it begins to look
        return "shop.py modified; restarting server" in server.output

    def new_code_runs() -> bool:
        try:
            return bool(server.get("code") == {**first, "result": "second"})
        except OSError:
            return False  # between the two

    wait_until(reloads, 30, "the reload")
    wait_until(new_code_runs, 30, "the new code")
    wait_until(lambda: not wait_for_pool()[1] & workers, 20, "the end of the workers with the old code")
    assert wait_for_pool()[0] == monitors
