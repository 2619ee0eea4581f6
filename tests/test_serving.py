"""Is this process serving? Every row is a command line as `sys.argv` shows it, and why it has no pool."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from autocron_web.serving import Process, forks_in_c, this_process, why_not

RUNNER, SESSION, CHILD = "a test runner", "an interactive session", "another process pool's child"
COMMAND, PARENT = "a flask command that does not serve", "the reloader's parent"
DJANGO, SCRIPT = "a Django command that does not serve", "a script that sets up Django and serves nothing"


def asked(
    argv: list[str],
    environ: dict[str, str] | None = None,
    modules: tuple[str, ...] = (),
    callers: tuple[str, ...] = (),
) -> str | None:
    return why_not(Process(argv, environ or {}, set(modules), set(callers)))


@pytest.mark.parametrize(
    "argv",
    [
        ["app.py"],
        ["/srv/shop/app.py", "--port", "80"],
        ["/srv/shop/__main__.py"],
        ["/usr/bin/gunicorn", "shop:app"],
        ["/usr/lib/python3/site-packages/gunicorn/__main__.py", "shop:app"],
        ["/usr/bin/uvicorn", "shop:app", "--workers", "4"],
        ["uwsgi"],
        ["waitress-serve", "--call", "shop:create_app"],
        ["mod_wsgi"],
        ["-c"],
        ["/usr/bin/flask", "run"],
        ["/usr/bin/flask", "--app", "shop", "run", "--host", "0.0.0.0"],
        ["/usr/bin/flask", "-A", "shop:create_app('x')", "run"],
        ["/usr/bin/flask", "--app=shop", "run"],
        ["/usr/bin/flask", "-e", ".env", "-A", "run", "run"],
        ["/usr/lib/python3/site-packages/flask/__main__.py", "run"],
    ],
)
def test_servers_serve(argv: list[str]) -> None:
    assert asked(argv) is None


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["/usr/bin/pytest"], RUNNER),
        (["/usr/lib/python3/site-packages/pytest/__main__.py", "-x"], RUNNER),
        (["/usr/bin/py.test"], RUNNER),
        (["python3 -m unittest", "discover"], RUNNER),
        (["/usr/bin/python3.11 -m unittest"], RUNNER),
        (["nose2"], RUNNER),
        ([""], SESSION),
        ([], SESSION),
        (["/usr/bin/ipython"], SESSION),
        (["/usr/lib/python3/site-packages/IPython/__main__.py"], SESSION),
        (["/usr/lib/python3/site-packages/ipykernel_launcher.py", "-f", "kernel.json"], SESSION),
        (["/usr/lib/python3.11/asyncio/__main__.py"], SESSION),
        (["bpython"], SESSION),
        (["app.py", "--multiprocessing-fork", "tracker_fd=5"], CHILD),
        (["/usr/bin/flask"], COMMAND),
        (["/usr/bin/flask", "routes"], COMMAND),
        (["/usr/bin/flask", "--app", "run", "shell"], COMMAND),
        (["/usr/bin/flask", "-A", "run", "db", "upgrade"], COMMAND),
        (["/usr/bin/flask", "--app=run", "--help"], COMMAND),
        (["/usr/lib/python3/site-packages/flask/__main__.py", "routes"], COMMAND),
    ],
)
def test_what_does_not_serve(argv: list[str], reason: str) -> None:
    assert asked(argv) == reason


def test_a_worker_of_pytest_xdist_is_a_test_runner() -> None:
    assert asked(["-c"], modules=("execnet.gateway_base",)) == RUNNER
    assert asked(["app.py"], modules=("execnet.gateway_base",)) is None


@pytest.mark.parametrize(
    ("options", "environ", "reloads"),
    [
        (["run"], {}, False),
        (["run", "--debug"], {}, True),
        (["--debug", "run"], {}, True),
        (["run", "--reload"], {}, True),
        (["run", "--debug", "--no-reload"], {}, False),
        (["run"], {"FLASK_DEBUG": "1"}, True),
        (["run"], {"FLASK_DEBUG": "true"}, True),
        (["run"], {"FLASK_DEBUG": "0"}, False),
        (["run"], {"FLASK_DEBUG": "False"}, False),
        (["run"], {"FLASK_DEBUG": "no"}, False),
        (["run"], {"FLASK_DEBUG": ""}, False),
        (["run", "--no-reload"], {"FLASK_DEBUG": "1"}, False),
    ],
)
def test_of_a_reloader_only_the_child_serves(
    options: list[str], environ: dict[str, str], reloads: bool
) -> None:
    argv = ["/usr/bin/flask", *options]
    assert asked(argv, environ) == (PARENT if reloads else None)
    assert asked(argv, {**environ, "WERKZEUG_RUN_MAIN": "true"}) is None


UTILITY = ("django.setup", "django.core.management.execute")


@pytest.mark.parametrize(
    ("words", "environ", "reason"),
    [
        (["runserver"], {}, PARENT),
        (["runserver"], {"RUN_MAIN": "true"}, None),
        (["runserver", "0.0.0.0:80"], {"RUN_MAIN": "true"}, None),
        (["runserver", "--noreload"], {}, None),
        (["runserver_plus"], {}, PARENT),
        (["runserver_plus"], {"WERKZEUG_RUN_MAIN": "true"}, None),
        (["migrate"], {}, DJANGO),
        (["migrate"], {"RUN_MAIN": "true"}, DJANGO),  # a command that the server's child has started
        (["shell"], {}, DJANGO),
        (["check", "--deploy"], {}, DJANGO),
        (["autocron", "status"], {}, DJANGO),
        (["--version"], {}, DJANGO),
        ([], {}, DJANGO),
        (["test"], {}, RUNNER),
        (["test", "orders"], {}, RUNNER),
        (["testserver"], {}, RUNNER),
    ],
)
def test_of_djangos_commands_only_runserver_serves(
    words: list[str], environ: dict[str, str], reason: str | None
) -> None:
    for program in ("manage.py", "/srv/shop/manage.py", "shopctl", "/usr/bin/django-admin"):
        assert asked([program, *words], environ, callers=UTILITY) == reason


@pytest.mark.parametrize(
    ("argv", "callers", "reason"),
    [
        (["import_orders.py"], (), SCRIPT),
        (["serve.py"], ("django.core.wsgi.get_wsgi_application",), None),
        (["serve.py"], ("django.core.asgi.get_asgi_application",), None),
        (["/usr/bin/gunicorn", "shop.wsgi"], ("django.core.wsgi.get_wsgi_application",), None),
        (["/usr/bin/daphne", "shop.asgi:application"], (), None),  # asgi.py calls django.setup() itself
        (["/usr/lib/python3/site-packages/uvicorn/__main__.py", "shop.asgi:application"], (), None),
        (["/usr/bin/celery", "-A", "shop", "worker"], (), SCRIPT),
        (["/usr/bin/pytest"], (), RUNNER),
    ],
)
def test_who_sets_up_django_without_serving_it_is_a_script(
    argv: list[str], callers: tuple[str, ...], reason: str | None
) -> None:
    assert asked(argv, callers=("django.setup", *callers)) == reason


def test_this_process_is_a_test_runner() -> None:
    assert why_not(this_process()) == RUNNER


def test_unittest_is_recognised_for_real(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import unittest\n"
        "from autocron_web.serving import this_process, why_not\n"
        "class Test(unittest.TestCase):\n"
        "    def test_it(self):\n"
        "        self.assertEqual(why_not(this_process()), 'a test runner')\n"
    )
    root = str(Path(__file__).resolve().parent.parent)
    subprocess.run(
        [sys.executable, "-m", "unittest"],
        cwd=tmp_path, env={"PYTHONPATH": root}, check=True, timeout=30, capture_output=True,
    )  # fmt: skip


@pytest.mark.parametrize(("worker", "forks"), [(0, True), (1, False)])
def test_uwsgi_forks_from_the_process_that_is_no_worker(
    monkeypatch: pytest.MonkeyPatch, worker: int, forks: bool
) -> None:
    assert not forks_in_c()
    server = types.ModuleType("uwsgi")
    vars(server)["worker_id"] = lambda: worker
    monkeypatch.setitem(sys.modules, "uwsgi", server)
    assert forks_in_c() is forks
