"""Django, for the contract of adapters."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import django
import pytest
from adapter_site import Adapter, Reply, Settings
from django.apps import apps
from django.conf import settings as project
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import include, path
from django_site import Project

import autocron_web.django.apps
import autocron_web.django.urls  # noqa: F401 - before a test puts an engine of its own behind them

SHOP = """
import json, os
INSTALLED_APPS += ["autocron_web.django"]
AUTOCRON = {word.upper(): value for word, value in json.loads(os.environ.get("SHOP_SETTINGS", "{}")).items()}
"""

URLS = """
import json, os
import autocron_web as autocron
from django.http import HttpResponse, JsonResponse
from django.urls import include, path, reverse

@autocron.delay
def context(word):
    return [reverse("call", args=[word])]

prefix = json.loads(os.environ["SHOP_SETTINGS"]).get("url_prefix", "/autocron")
urlpatterns = [
    path("", lambda request: HttpResponse("the shop")),
    path("call/<word>", lambda request, word: JsonResponse({"result": context(word).get(20)}), name="call"),
    path(f"{prefix[1:]}/", include("autocron_web.django.urls")),
]
"""


@functools.cache
def shop() -> dict[str, str]:
    """What `startproject` writes, and ours added."""
    with tempfile.TemporaryDirectory() as name:
        made = Project(Path(name), Path(name))
        made.run("django-admin", "startproject", "shop", ".")
        made.append("shop/settings.py", SHOP)
        made.write("shop/urls.py", URLS)
        return {str(file.relative_to(name)): file.read_text() for file in Path(name).rglob("*.py")}


class DjangoAdapter(Adapter):
    name = "django"
    needs = "django"
    commands = (
        "python manage.py check",
        "python manage.py migrate --plan",
        "python manage.py shell -c pass",
        "python manage.py test",
    )

    @property
    def files(self) -> Mapping[str, str]:  # type: ignore[override]  # made when asked for
        return shop()

    def context(self, word: str) -> list[Any]:
        return [f"/call/{word}"]

    def command(self, port: int) -> list[str]:
        return [sys.executable, "manage.py", "runserver", str(port)]

    def spell(self, word: str) -> str:
        return f"AUTOCRON[{word.upper()!r}]"

    def app(self, settings: Settings) -> Any:
        """The project's settings and URLs, of which a process has one; `ready()` is called with them."""
        if not project.configured:
            project.configure(
                ALLOWED_HOSTS=["*"],
                AUTOCRON={"AUTOSTART": False},
                INSTALLED_APPS=["autocron_web.django"],
                TIME_ZONE=None,  # this process keeps its own
            )
            django.setup()
        urls = ModuleType("shop_urls")
        prefix = settings.get("url_prefix", "/autocron")
        patterns: list[Any] = [path("", lambda request: HttpResponse("the shop"))]
        if settings.get("status"):
            patterns.append(path(f"{prefix[1:]}/", include("autocron_web.django.urls")))
        vars(urls)["urlpatterns"] = patterns
        app = {"AUTOCRON": {word.upper(): value for word, value in settings.items()}, "ROOT_URLCONF": urls}
        with override_settings(**app):
            apps.get_app_config("autocron").ready()
        return app

    def install_again(self, app: Any) -> None:
        pytest.skip("Django itself refuses an app that is installed twice")

    def ask(self, app: Any, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        with override_settings(**app):
            answer = Client(headers=dict(headers)).generic(method, path)
        told = {name.lower(): value for name, value in answer.headers.items()}
        return Reply(answer.status_code, told, cast(HttpResponse, answer).content)
