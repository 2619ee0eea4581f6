"""Pyramid, for the contract of adapters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest
from adapter_site import Adapter, Reply, Settings
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationExecutionError
from pyramid.response import Response
from webtest import TestApp

import autocron_web.pyramid  # noqa: F401 - before a test puts an engine of its own behind it
from conftest import CHECKOUT

SHOP = """
import json, os
from pyramid.config import Configurator
from pyramid.response import Response
from pyramid.threadlocal import get_current_registry, get_current_request
import autocron_web as autocron

@autocron.delay
def context(word):
    request = get_current_request()
    return [request.route_path("call", word=word), get_current_registry() is request.registry,
            request.registry.settings["colour"], request.autocron.in_worker()]

def index(request):
    return Response("the shop")

def call(request):
    return {"result": context(request.matchdict["word"]).get(20), "pid": os.getpid()}

def main(global_config, **settings):
    for word, value in json.loads(os.environ.get("SHOP_SETTINGS", "{}")).items():
        settings[f"autocron.{word}"] = value if isinstance(value, str) else json.dumps(value)  # as in a file
    with Configurator(settings=settings) as config:
        config.include("autocron_web.pyramid")
        config.add_route("index", "/")
        config.add_route("call", "/call/{word}")
        config.add_view(index, route_name="index")
        config.add_view(call, route_name="call", renderer="json")
        return config.make_wsgi_app()
"""

INI = """
[app:main]
paste.app_factory = shop:main
colour = green

[server:main]
use = egg:waitress#main
listen = 127.0.0.1:%(http_port)s
"""


#: Whose apps are installed, as packages; ours lies in the folder.
INSTALLED = f"env PYTHONPATH={CHECKOUT}{os.pathsep}."


class PyramidAdapter(Adapter):
    name = "pyramid"
    needs = "pyramid"
    files = {"shop/__init__.py": SHOP, "development.ini": INI}
    commands = tuple(
        f"{INSTALLED} {command}"
        for command in (
            "proutes development.ini",
            "pviews development.ini /",
            "ptweens development.ini",
            "prequest development.ini /",
            "pshell development.ini",
        )
    )

    def context(self, word: str) -> list[Any]:
        return [f"/call/{word}", True, "green", True]

    def command(self, port: int) -> list[str]:
        return [*INSTALLED.split(), "pserve", "development.ini", f"http_port={port}"]

    def spell(self, word: str) -> str:
        return f"autocron.{word}"

    def app(self, settings: Settings) -> Any:
        config = Configurator(settings={self.spell(word): value for word, value in settings.items()})
        config.include("autocron_web.pyramid")
        config.add_route("index", "/")
        config.add_view(lambda request: Response("the shop"), route_name="index")
        try:
            return config.make_wsgi_app()
        except ConfigurationExecutionError as error:  # it names the line of the include, too
            raise error.evalue from error

    def install_again(self, app: Any) -> None:
        pytest.skip("Pyramid itself includes the same only once")

    def ask(self, app: Any, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        raw = {name: value.encode().decode("latin-1") for name, value in headers.items()}
        answer = TestApp(app, lint=False).request(path, method=method, headers=raw, expect_errors=True)
        told = {name.lower(): value for name, value in answer.headerlist}
        return Reply(answer.status_code, told, answer.body)
