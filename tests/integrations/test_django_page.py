"""The code of docs/django.md and examples/django run as they stand, as a reader would have them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from adapter_site import Server, end_pools
from django_site import RUNSERVER, Project, made_project, project

from conftest import CHECKOUT, pool_processes, wait_until
from pool_app import wait_for_pool

__all__ = ["made_project", "project"]

PAGE = (CHECKOUT / "docs" / "django.md").read_text()

pytestmark = [pytest.mark.timeout(120), pytest.mark.once]

MODELS = """
from django.db import models

class Order(models.Model):
    address = models.EmailField()
"""


def write_page(project: Project, part: str = "") -> None:
    """Put the page's code into the project; what settings it shows is added to those that are there."""
    for code in re.findall(r"```python\n(.*?)```", PAGE.partition(part)[2] if part else PAGE, re.S):
        name = code.partition("\n")[0].removeprefix("# ")
        if name == "shop/settings.py":
            project.append(name, code)
        elif name != "orders/apps.py" or part:
            project.write(name, code)


@pytest.fixture
def shop(project: Project) -> Project:
    settings = (project.folder / "shop/settings.py").read_text()
    project.write("shop/settings.py", settings.replace('"autocron_web.django", "orders"', '"orders"'))
    project.append("shop/settings.py", 'EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"\n')
    project.write("orders/models.py", MODELS)
    shutil.rmtree(project.folder / "orders/migrations")
    (project.folder / "db.sqlite3").unlink()
    write_page(project)
    project.manage("makemigrations", "orders")
    project.manage("migrate", "-v", "0")
    return project


@pytest.mark.matrix
def test_the_page_shows_a_project_that_works(shop: Project) -> None:
    assert "Ran 2 tests" in shop.manage("test")
    shop.manage("check", "--fail-level", "WARNING")
    assert pool_processes() == {}
    server = shop.serve(*RUNSERVER)
    called = server.get("order?address=ann@example.com")
    wait_until(lambda: [job.state for job in shop.jobs()] == ["done"], 20, "the job")
    assert [job.id for job in shop.jobs()] == [called["job"]]
    wait_until(lambda: "To: ann@example.com" in server.output, 10, "the mail")
    token = "let-monitoring-show-this-as-bearer-token"
    told = json.loads(server.ask("/autocron/status", Authorization=f"Bearer {token}"))
    assert told["status"] == "pass"


@pytest.mark.matrix
def test_also_without_the_entry(shop: Project) -> None:
    write_page(shop, "## Without the entry")
    shop.append("shop/settings.py", 'INSTALLED_APPS.remove("autocron_web.django")\ndel AUTOCRON\n')
    server = shop.serve(*RUNSERVER)
    server.get("order?address=ann@example.com")
    wait_for_pool()
    wait_until(lambda: [job.state for job in shop.jobs()] == ["done"], 20, "the job")


def test_the_example_runs_with_one_command(tmp_path: Path, home: Path) -> None:
    folder = shutil.copytree(CHECKOUT / "examples" / "django", tmp_path / "django")
    server = Server(folder)
    try:
        server.start(sys.executable, "manage.py", PORT=str(server.port))
        page = server.ask("/").decode()
        token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[0]
        form = urlencode({"address": "bob@example.com", "csrfmiddlewaretoken": token}).encode()
        address = f"http://127.0.0.1:{server.port}/"
        urlopen(Request(address, form, {"Cookie": f"csrftoken={token}"}), timeout=20).close()
        wait_until(lambda: "confirmed" in server.ask("/").decode(), 20, "the confirmation")
        assert "a mail to bob@example.com" in server.output
    finally:
        server.stop()
        end_pools()
