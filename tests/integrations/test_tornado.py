"""Tornado: an app that catches all paths, and who is let in."""

from __future__ import annotations

from typing import Any

import pytest
from adapter_site import own_engine
from contract_tornado import TornadoAdapter
from tornado.web import Application, RequestHandler

from autocron_web.tornado import install

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
