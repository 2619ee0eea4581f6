"""Where an app object comes from: the module whose import makes it, or the factory that was called."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from autocron_web.origin import app_name, app_origin
from autocron_web.settings import main_name

SHOP = """
from autocron_web.origin import app_origin

found = []

def create_app(name="shop", *, debug=False):
    found.append(app_origin())

def create_with_all(first, /, *rest, key=None, **more):
    found.append(app_origin())

def create_from_parts():
    set_up(object())

def set_up(app):
    found.append(app_origin())

async def main():
    found.append(app_origin())

class Factory:
    @staticmethod
    def make():
        found.append(app_origin())

    def method(self):
        found.append(app_origin())

def outer():
    def inner():
        found.append(app_origin())
    return inner

decorated = (lambda function: lambda: function())(create_app)
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "origin_shop.py").write_text(SHOP)
    yield importlib.import_module("origin_shop")
    for name in [name for name in sys.modules if name.startswith("origin_")]:
        del sys.modules[name]


def served(call: Callable[[], object], server: str = "gunicorn.util") -> None:
    """Call it as a server does: from a module of the server's."""
    namespace: dict[str, Any] = {"__name__": server, "call": call}
    exec("call()", namespace) if server == "__main__" else exec("def load():\n    call()\nload()", namespace)


def by_server(function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    namespace: dict[str, Any] = {
        "__name__": "gunicorn.util",
        "function": function,
        "args": args,
        "kw": kwargs,
    }
    exec("def load():\n    function(*args, **kw)\nload()", namespace)


def test_a_module_that_is_imported_makes_the_app(shop: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "origin_wsgi.py").write_text("import origin_shop\napp = origin_shop.create_app('x')\n")
    (tmp_path / "origin_package").mkdir()
    (tmp_path / "origin_package" / "__init__.py").write_text(
        "from autocron_web.origin import app_origin\nfound = app_origin()\n"
    )
    importlib.import_module("origin_wsgi")
    assert shop.found == [{"module": "origin_wsgi"}]
    assert importlib.import_module("origin_package").found == {"module": "origin_package"}


def test_a_function_that_a_server_calls_is_the_factory(shop: ModuleType) -> None:
    by_server(shop.create_app)
    by_server(shop.create_app, "toys", debug=True)
    by_server(shop.create_app, name="books")
    factory = {"module": "origin_shop", "factory": "create_app"}
    assert shop.found == [
        {**factory, "args": ["shop"], "kwargs": {"debug": False}},
        {**factory, "args": ["toys"], "kwargs": {"debug": True}},
        {**factory, "args": ["books"], "kwargs": {"debug": False}},
    ]


def test_all_kinds_of_arguments_are_repeated(shop: ModuleType) -> None:
    by_server(shop.create_with_all, 1, [2], {"three": 3}, key=None, more="4")
    by_server(shop.create_with_all, 1)
    factory = {"module": "origin_shop", "factory": "create_with_all"}
    assert shop.found == [
        {**factory, "args": [1, [2], {"three": 3}], "kwargs": {"key": None, "more": "4"}},
        {**factory, "args": [1], "kwargs": {"key": None}},
    ]
    for origin in shop.found[:2]:
        assert json.loads(json.dumps(origin)) == origin
        shop.create_with_all(*origin["args"], **origin["kwargs"])


def test_arguments_that_cannot_be_repeated_are_named(shop: ModuleType) -> None:
    by_server(shop.create_app, object(), debug=True)
    by_server(shop.Factory().method)
    by_server(shop.create_with_all, 1, object(), more={1})
    assert shop.found == [
        {"module": "origin_shop", "factory": "create_app", "unrepeatable": ["name"]},
        {"module": "origin_shop", "factory": "Factory.method", "unrepeatable": ["self"]},
        {"module": "origin_shop", "factory": "create_with_all", "unrepeatable": ["2", "more"]},
    ]


def test_the_outermost_function_of_the_app_is_the_factory(shop: ModuleType) -> None:
    by_server(shop.create_from_parts)
    by_server(shop.Factory.make)
    assert [origin["factory"] for origin in shop.found] == ["create_from_parts", "Factory.make"]
    assert shop.found[0] == {
        "module": "origin_shop",
        "factory": "create_from_parts",
        "args": [],
        "kwargs": {},
    }


def test_a_factory_in_a_function_is_named_so_that_the_worker_can_say_it(shop: ModuleType) -> None:
    by_server(shop.outer())
    assert shop.found[0]["factory"] == "outer.<locals>.inner"


@pytest.mark.parametrize(
    "server", ["gunicorn.util", "flask.cli", "uvicorn.importer", "werkzeug.serving", "click.core"]
)
def test_each_server_ends_the_search(shop: ModuleType, server: str) -> None:
    namespace: dict[str, Any] = {"__name__": server, "shop": shop}
    exec("shop.create_app('toys')", namespace)
    assert shop.found[0]["args"] == ["toys"]


def test_a_call_in_the_main_module_names_the_factory_and_the_module(shop: ModuleType) -> None:
    """It may stand under `if __name__ == "__main__"`: then executing the module makes no app."""
    exec("shop.create_app('toys')", {"__name__": "__main__", "shop": shop})
    assert shop.found[0] == {
        "module": "origin_shop", "factory": "create_app", "args": ["toys"], "kwargs": {"debug": False},
    }  # fmt: skip
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("from autocron_web.origin import app_origin\nfound = app_origin()", namespace)
    assert namespace["found"] == {"module": "__main__"}
    exec("def make():\n    global found\n    found = app_origin()\nmake()", namespace)
    assert namespace["found"] == {"module": "__main__", "factory": "make", "args": [], "kwargs": {}}


def test_what_nothing_of_the_app_has_called_has_no_origin() -> None:
    namespace: dict[str, Any] = {"__name__": "gunicorn.util"}
    exec("from autocron_web.origin import app_origin\nfound = app_origin()", namespace)
    assert namespace["found"] is None


def test_a_coroutine_is_no_factory(shop: ModuleType) -> None:
    asyncio.run(shop.main())
    assert shop.found == [None]
    namespace: dict[str, Any] = {"__name__": "__main__", "asyncio": asyncio}
    source = "from autocron_web.origin import app_origin\nasync def main():\n    return app_origin()\n"
    exec(source + "found = asyncio.run(main())", namespace)
    assert namespace["found"] == {"module": "__main__"}


def test_a_framework_may_stand_between_the_app_and_the_adapter(shop: ModuleType) -> None:
    """`app.install(AutocronPlugin())` of Bottle, and what Starlette makes when the server calls it."""
    framework: dict[str, Any] = {"__name__": "bottle", "app_origin": app_origin}
    exec("def install():\n    return app_origin()", framework)
    namespace: dict[str, Any] = {"__name__": "__main__", "install": framework["install"]}
    exec("found = install()", namespace)
    assert namespace["found"] == {"module": "__main__"}
    exec("def load():\n    return install()\nfound = load()", {**namespace, "__name__": "uvicorn.config"})
    server: dict[str, Any] = {"__name__": "uvicorn.config", "install": framework["install"]}
    exec("found = install()", server)
    assert server["found"] is None


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        (None, None),
        ({"module": "shop"}, "shop"),
        ({"module": "shop.web.main"}, "shop"),
        ({"module": "__main__"}, main_name()),
    ],
)
def test_an_app_is_called_as_its_package(origin: dict[str, Any] | None, name: str | None) -> None:
    assert app_name(origin) == (name and name.partition(".")[0])
