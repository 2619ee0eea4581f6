"""Pyramid: its page, its shell and scripts, settings of an ini file, and permissions of the app."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapter_site import Server, app_environment, end_pools, own_engine
from contract_pyramid import PyramidAdapter
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from webtest import TestApp

import autocron_web as autocron
from autocron_web.engine import Engine
from conftest import CHECKOUT, need, pool_processes, wait_until
from pool_app import wait_for_pool

engine = own_engine

#: Pyramid imports an app that is installed; those of these tests lie in the folder.
INSTALLED = {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), "."]), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def server(tmp_path: Path, home: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()
    end_pools()


def write_page(folder: Path, port: int) -> str:
    """Write the files that docs/pyramid.md shows; its command."""
    page = (CHECKOUT / "docs" / "pyramid.md").read_text()
    for name, source in re.findall(r"```(?:python|ini)\n# (\S+)\n(.*?)```", page, re.DOTALL):
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(source.replace("8080", str(port)))
    (command,) = re.findall(r"```sh\n(pserve .*)\n```", page)
    return str(command)


# -- processes ---------------------------------------------------------------------------------------------


@pytest.mark.matrix
@pytest.mark.once
@pytest.mark.timeout(120)
def test_the_page_shows_an_app_that_is_served_and_reloaded(server: Server, tmp_path: Path) -> None:
    program, *words = write_page(tmp_path, server.port).split()
    server.start(need(program), *words, **INSTALLED)
    monitors, workers = wait_for_pool()
    assert server.get("order/ann")["job"]
    wait_until(lambda: "thanks to ann for /order/ann" in server.output, 20, "what the task prints")
    assert server.get("autocron/status") == {"status": "pass"}
    tasks = tmp_path / "shop" / "tasks.py"
    tasks.write_text(tasks.read_text().replace("thanks to", "many thanks to"))

    def reloads() -> bool:
        os.utime(tasks)  # the reloader overlooks a change of the moment in which it begins to look
        return "tasks.py changed; reloading" in server.output

    wait_until(reloads, 30, "the reload")
    wait_until(lambda: is_up(server), 30, "the new server")
    assert server.get("order/bob")["job"]
    wait_until(lambda: "many thanks to bob" in server.output, 30, "the new code")
    wait_until(lambda: not wait_for_pool()[1] & workers, 20, "the end of the workers with the old code")
    assert wait_for_pool()[0] == monitors


def is_up(server: Server) -> bool:
    try:
        return server.get("autocron/ready") == {"status": "pass"}
    except OSError:
        return False  # between the two


SCRIPT = """
from pyramid.paster import bootstrap
with bootstrap("development.ini"):
    from shop.tasks import thank
    print("stored", thank("ann").status)
"""


@pytest.mark.once
@pytest.mark.parametrize("command", ["pshell", "script"])
def test_a_shell_and_scripts_start_nothing_and_can_call_tasks(
    command: str, server: Server, tmp_path: Path
) -> None:
    write_page(tmp_path, server.port)
    (tmp_path / "report.py").write_text(SCRIPT)
    words = [need("pshell"), "development.ini"] if command == "pshell" else [sys.executable, "report.py"]
    run = subprocess.run(
        words,
        cwd=tmp_path,
        env={**app_environment(), **INSTALLED},
        capture_output=True,
        text=True,
        timeout=30,
        input="from shop.tasks import thank\nprint('stored', thank('ann').status)\n",
    )
    assert run.returncode == 0, run.stderr
    assert "stored waiting" in run.stdout
    assert pool_processes() == {}
    server.start(need("pserve"), "development.ini", **INSTALLED)
    wait_until(lambda: "thanks to ann for /order/ann" in server.output, 20, "the run of the stored call")


# -- settings, in this process -----------------------------------------------------------------------------


def refusal(settings: dict[str, Any]) -> str:
    with pytest.raises(autocron.ConfigError) as error:
        PyramidAdapter().app(settings)
    return str(error.value)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("word", "text", "sentence"),
    [
        ("workers", "many", "autocron.workers is 'many': give a whole number from 1 to 256"),
        ("status", "perhaps", "autocron.status is 'perhaps': it can be True or False"),
        ("max_jobs", "0", "autocron.max_jobs is 0: give a whole number, 1 or more"),
        ("work", "3", "autocron.work: no such setting; there are autocron.database, autocron.workers, "),
        ("work", "3", "Did you mean autocron.workers?"),
    ],
)
def test_what_is_wrong_in_an_ini_file_is_named(word: str, text: str, sentence: str, home: Path) -> None:
    assert sentence in refusal({"database": "orders.db", word: text})
    assert list(home.iterdir()) == []


def test_what_an_ini_file_says_is_read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[object, dict[str, Any]]] = []
    monkeypatch.setattr(
        engine, "start_where_served", lambda database, **words: started.append((database, words))
    )
    PyramidAdapter().app({"database": " a.db ", "workers": "3", "max_jobs": "7", "status": "off"})
    PyramidAdapter().app({"database": "b.db", "autostart": "no"})
    ((database, words),) = started
    assert (database, words["workers"], words["max_jobs"], words["max_memory"]) == ("a.db", 3, 7, None)


@pytest.mark.usefixtures("engine")
def test_a_route_that_the_app_has_already_is_not_taken() -> None:
    def made(pattern: str, **settings: object) -> TestApp:
        config = Configurator(settings={f"autocron.{word}": value for word, value in settings.items()})
        config.add_route("mine", pattern)
        config.add_view(lambda request: Response("mine"), route_name="mine")
        config.include("autocron_web.pyramid")
        return TestApp(config.make_wsgi_app())

    with pytest.raises(autocron.ConfigError) as error:
        made("/{page:.*}", database="shop.db", status=True)
    assert str(error.value) == (
        "the app has a route for /autocron/status already, '/{page:.*}':"
        " give another autocron.url_prefix than '/autocron', or include autocron_web.pyramid before it"
    )
    app = made("/autocron/status", database="shop.db", status=True, url_prefix="/jobs")
    assert app.get("/autocron/status").text == "mine"
    assert app.get("/jobs/ready").json == {"status": "pass"}


@pytest.mark.usefixtures("engine")
def test_the_prefix_of_an_include_goes_before_that_of_the_status() -> None:
    config = Configurator(settings={"autocron.database": "shop.db", "autocron.status": "true"})
    config.include("autocron_web.pyramid", route_prefix="ops/")
    app = TestApp(config.make_wsgi_app())
    assert app.get("/ops/autocron/ready").json == {"status": "pass"}
    app.get("/autocron/ready", status=404)


# -- the status --------------------------------------------------------------------------------------------


class Policy:
    """Visitors have the permission that they name: enough to see what is asked."""

    def permits(self, request: Request, context: object, permission: str) -> bool:
        return request.headers.get("X-Permission") == permission


def status_of(app: TestApp, permission: str) -> Any:
    return app.get("/autocron/status", headers={"X-Permission": permission}, status=503).json


def served(**settings: Any) -> Configurator:
    config = Configurator(settings={"autocron.database": "shop.db", "autocron.status": "true", **settings})
    config.include("autocron_web.pyramid")
    return config


PERMISSIONS = {"autocron.permission": "operate", "autocron.detail_permission": "debug"}


def test_who_may_see_more_of_the_status_is_the_apps_choice(engine: Engine) -> None:
    config = served(**PERMISSIONS)
    config.set_security_policy(Policy())
    app = TestApp(config.make_wsgi_app())

    @autocron.delay
    def pay(amount: int) -> None: ...

    job = pay(7)
    assert set(status_of(app, "read")) == {"status"}
    app.get("/autocron/metrics", headers={"X-Permission": "read"}, status=401)
    operator, developer = (status_of(app, permission) for permission in ("operate", "debug"))
    assert operator["pool"]["jobs"]["waiting"] == 1
    assert operator["pool"].keys() == developer["pool"].keys()
    assert "autocron_jobs" in app.get("/autocron/metrics", headers={"X-Permission": "operate"}).text
    job.cancel()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("has_policy", "settings"), [(False, PERMISSIONS), (True, {})], ids=["no policy", "no permission"]
)
def test_without_a_policy_or_a_permission_all_are_strangers(has_policy: bool, settings: Any) -> None:
    config = served(**settings)
    if has_policy:
        config.set_security_policy(Policy())
    app = TestApp(config.make_wsgi_app())
    for permission in ("operate", "debug", "read"):
        assert set(status_of(app, permission)) == {"status"}


@pytest.mark.usefixtures("engine")
def test_views_have_the_module_as_an_attribute_of_their_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOCRON_MODE", "inline")

    @autocron.delay
    def double(number: int) -> int:
        return 2 * number

    config = served()
    config.add_route("double", "/double")
    config.add_view(
        lambda request: {"result": double(4).result, "same": request.autocron is autocron},
        route_name="double",
        renderer="json",
    )
    assert TestApp(config.make_wsgi_app()).get("/double").json == {"result": 8, "same": True}
