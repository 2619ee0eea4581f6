"""Django projects for the tests, made by `django-admin startproject` as their users make them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapter_site import Server, app_environment, end_pools

from autocron_web.jobs import Job
from autocron_web.store.sqlite import SqliteStore

#: What the tests add to the settings that `startproject` writes.
SETTINGS = """
import json, os
INSTALLED_APPS += ["autocron_web.django", "orders"]
AUTOCRON = json.loads(os.environ.get("SHOP_SETTINGS", "{}"))
TIME_ZONE = "Europe/Berlin"
LANGUAGE_CODE = "de"
vars().update(json.loads(os.environ.get("SHOP_MORE", "{}")))
"""

MODELS = """
from django.db import models

class Order(models.Model):
    word = models.CharField(max_length=20)
"""

TASKS = """
import os
import autocron_web as autocron
from django.db import connection
from django.utils import timezone, translation
from .models import Order

@autocron.delay
def context(word):
    from django.urls import reverse
    Order.objects.create(word=word)
    return [Order.objects.filter(word=word).count(), str(timezone.get_current_timezone()),
            translation.get_language(), reverse("call", args=[word])]

@autocron.delay
def count(pk):
    return [Order.objects.filter(pk=pk).count(), os.getpid()]

@autocron.delay
async def acount():
    return [await Order.objects.acount(), os.getpid()]

@autocron.delay
def disturb():
    translation.activate("fr")
    timezone.activate("Asia/Tokyo")

@autocron.delay
def lose_connection():
    Order.objects.exists()
    connection.connection.close()
    Order.objects.exists()
"""

URLS = """
import os, time
from django.db import transaction
from django.http import HttpResponse, JsonResponse
from django.urls import include, path
from orders import tasks
from orders.models import Order

RELEASE = "first"

def call(request, word):
    result = getattr(tasks, word, tasks.context)
    args = () if hasattr(tasks, word) else (word,)
    return JsonResponse({"result": result(*args).get(20), "pid": os.getpid(), "release": RELEASE})

@transaction.atomic
def atomic(request):
    order = Order.objects.create(word="atomic")
    result = tasks.count(order.pk)
    time.sleep(1)  # long enough for a worker to run it too early
    return JsonResponse({"id": result.id})

urlpatterns = [
    path("", lambda request: HttpResponse("the shop")),
    path("call/<word>", call, name="call"),
    path("atomic", atomic),
]
"""


class Project:
    """A project `shop` with the app `orders`, in a folder; its store is `shop.db`, the default."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.store = SqliteStore(home / "shop.db")
        self.servers: list[Server] = []

    def make(self) -> None:
        """Once in a session: the others are copies."""
        self.run("django-admin", "startproject", "shop", ".")
        self.manage("startapp", "orders")
        self.append("shop/settings.py", SETTINGS)
        self.write("orders/models.py", MODELS)
        self.write("orders/tasks.py", TASKS)
        self.write("shop/urls.py", URLS)
        self.manage("makemigrations", "orders")
        self.manage("migrate", "-v", "0")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def append(self, name: str, text: str) -> None:
        with (self.folder / name).open("a") as file:
            file.write(text)

    def run(self, *command: str, fails: bool = False, **environment: str) -> str:
        """Run a program in the folder of the project; what it says."""
        done = subprocess.run(
            command, cwd=self.folder, env={**app_environment(), **environment}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=40,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    def manage(self, *words: str, fails: bool = False, **environment: str) -> str:
        """`manage.py` with these words."""
        return self.run(sys.executable, "manage.py", *words, fails=fails, **environment)

    def script(self, source: str, **environment: str) -> Any:
        """Execute a script that sets up Django, and read the JSON that it prints."""
        head = "import os, json, django\nos.environ['DJANGO_SETTINGS_MODULE'] = 'shop.settings'\n"
        self.write("script.py", f"{head}django.setup()\n{source}")
        return json.loads(self.run(sys.executable, "script.py", fails=False, **environment).splitlines()[-1])

    def serve(self, *command: str, **environment: str) -> Server:
        """Start a server; `{port}` in its command is filled in."""
        server = Server(self.folder, len(self.servers))
        self.servers.append(server)
        server.start(*(word.format(port=server.port) for word in command), **environment)
        return server

    def jobs(self) -> list[Job]:
        self.store.open()
        return self.store.jobs(limit=100)

    def close(self) -> None:
        for server in self.servers:
            server.stop()
        end_pools()
        self.store.close()


@pytest.fixture(scope="session")
def made_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    Project(folder, folder).make()
    return folder


@pytest.fixture
def project(made_project: Path, tmp_path: Path, home: Path) -> Iterator[Project]:
    shutil.copytree(made_project, tmp_path, dirs_exist_ok=True)
    project = Project(tmp_path, home)
    yield project
    project.close()


RUNSERVER = (sys.executable, "manage.py", "runserver", "{port}")


def seen_by(word: str) -> list[Any]:
    """What the task `context(word)` tells, called once."""
    return [1, "Europe/Berlin", "de", f"/call/{word}"]


def open_files(pid: int, name: str) -> int:
    """How many descriptors of a process lead to files of this name."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += os.readlink(entry).endswith(f"/{name}")
        except FileNotFoundError:
            pass  # closed in between
    return found
