"""Django: a pool where the project is served and nowhere else, tasks as requests, calls by a commit."""

from __future__ import annotations

from pathlib import Path

import pytest
from django_site import RUNSERVER, Project, made_project, open_files, project, seen_by

from autocron_web import codec
from conftest import need, pool_processes, wait_until
from pool_app import wait_for_pool

__all__ = ["made_project", "project"]

pytestmark = pytest.mark.timeout(120)

# -- where it starts ---------------------------------------------------------------------------------------


def test_commands_start_nothing_and_make_no_file(project: Project, home: Path) -> None:
    for words in (["check"], ["showmigrations"], ["shell", "-c", "import orders.tasks"], ["diffsettings"]):
        project.manage(*words)
        assert pool_processes() == {}
    assert list(home.iterdir()) == []


def test_a_command_can_call_tasks_which_the_next_server_runs(project: Project) -> None:
    said = project.manage("shell", "-c", "from orders.tasks import context; print(context('a').status)")
    assert "waiting" in said
    assert pool_processes() == {}
    project.serve(*RUNSERVER)
    wait_until(lambda: [job.state for job in project.jobs()] == ["done"], 20, "the job")


def test_a_script_that_sets_up_django_starts_nothing(project: Project, home: Path) -> None:
    source = "from orders.tasks import disturb\nprint(json.dumps(disturb().status))"
    assert project.script(source) == "waiting"
    assert pool_processes() == {}


def test_runserver_has_one_pool_which_runs_the_new_code_after_a_reload(project: Project) -> None:
    server = project.serve(*RUNSERVER)
    assert server.get("call/a")["result"] == seen_by("a")
    monitors, _ = wait_for_pool()
    tasks = (project.folder / "orders/tasks.py").read_text()
    project.write("orders/tasks.py", tasks.replace("return [Order", "return ['new', Order"))

    def is_new() -> bool:
        try:
            return server.get("call/b")["result"][0] == "new"
        except OSError:
            return False  # between the two

    wait_until(is_new, 30, "the new code")
    assert wait_for_pool()[0] == monitors


def test_without_a_reloader_runserver_serves_too(project: Project) -> None:
    server = project.serve(*RUNSERVER, "--noreload", SHOP_SETTINGS='{"WORKERS": 1}')
    assert server.get("call/a")["result"] == seen_by("a")
    wait_for_pool(workers=1)


@pytest.mark.parametrize(
    "command",
    [
        "gunicorn -w 2 -b 127.0.0.1:{port} shop.wsgi",
        "gunicorn -w 2 --preload -b 127.0.0.1:{port} shop.wsgi",
        "uvicorn --workers 2 --port {port} shop.asgi:application",
        "daphne -p {port} shop.asgi:application",
        "hypercorn -w 2 -b 127.0.0.1:{port} shop.asgi:application",
    ],
)
@pytest.mark.once
def test_servers_have_one_pool(project: Project, command: str) -> None:
    server = project.serve(need(command.split()[0]), *command.split()[1:])
    for word in "abc":
        assert server.get(f"call/{word}")["result"] == seen_by(word)
    wait_for_pool()


# -- around a task -----------------------------------------------------------------------------------------


def test_each_task_has_the_zone_the_language_and_connections_of_a_new_request(project: Project) -> None:
    server = project.serve(*RUNSERVER, "--noreload", SHOP_SETTINGS='{"WORKERS": 1}')
    server.get("call/disturb")
    assert server.get("call/a")["result"] == seen_by("a")
    _, worker = server.get("call/acount")["result"]
    wait_until(lambda: open_files(worker, "db.sqlite3") == 0, 10, "the end of the connections")


# -- calls in a transaction --------------------------------------------------------------------------------


def test_a_call_in_a_transaction_waits_for_its_commit(project: Project) -> None:
    server = project.serve(*RUNSERVER, "--noreload")
    called = server.get("atomic")["id"]
    wait_until(lambda: [job.state for job in project.jobs()] == ["done"], 20, "the job")
    (job,) = project.jobs()
    assert job.id == called
    assert job.result is not None
    assert codec.loads(job.result)[0] == 1  # it saw the order


TRANSACTIONS = """
import autocron_web as autocron
from django.db import transaction
from orders.tasks import count

def stored():
    return sorted(result.id for result in autocron.get_results())

seen = {}
with transaction.atomic():
    kept = count(1)
    seen["while it is open"] = [kept.status, kept.reason, kept.is_ready(), stored()]
    try:
        kept.get(timeout=5)
    except autocron.NotCommitted as error:
        seen["waiting for it"] = str(error).replace(kept.id, "ID")
    try:
        with transaction.atomic():
            count(2)
            raise KeyError
    except KeyError:
        pass
    with transaction.atomic():
        inner = count(3)
    at_once = count.options(on_commit=False).enqueue(4)
    seen["without"] = stored() == [at_once.id]
    dropped = count(5)
    seen["cancelled"] = [dropped.cancel(), dropped.status, dropped.cancel()]
    many = count.enqueue_many([(6,), (7,)])
seen["after the commit"] = stored() == sorted(r.id for r in [kept, inner, at_once, *many])
seen["and then"] = [kept.status, kept.reason, dropped.status, kept.cancel()]

try:
    with transaction.atomic():
        gone = count(8)
        raise KeyError
except KeyError:
    pass
seen["rolled back"] = [gone.id in stored(), gone.status, gone.reason]

one = count.options(unique="args").enqueue(9)
with transaction.atomic():
    same = count.options(unique="args").enqueue(9)
seen["unique"] = same.id == one.id

transaction.set_autocommit(False)
seen["by hand"] = count(10).id in stored()
print(json.dumps(seen))
"""


def test_what_becomes_of_calls_in_transactions(project: Project) -> None:
    why = "it was called in a transaction that has not been committed"
    assert project.script(TRANSACTIONS) == {
        "while it is open": ["waiting", why, False, []],
        "waiting for it": f"the job ID of orders.tasks.count is not stored: {why}, or was rolled back."
        " Ask for its result after the commit, or call the task with options(on_commit=False)",
        "without": True,
        "cancelled": [True, "cancelled", False],
        "after the commit": True,
        "and then": ["waiting", None, "cancelled", True],
        "rolled back": [False, "waiting", why],
        "unique": True,
        "by hand": True,
    }


def test_that_can_be_switched_off(project: Project) -> None:
    source = """
from django.db import transaction
from orders.tasks import count
import autocron_web as autocron
with transaction.atomic():
    result = count(1)
    print(json.dumps(result.id in [each.id for each in autocron.get_results()]))
"""
    assert project.script(source) is False
    assert project.script(source, SHOP_SETTINGS='{"ON_COMMIT": false}') is True


def test_a_call_in_a_transaction_fails_at_once_if_nothing_can_be_stored(project: Project) -> None:
    source = """
import autocron_web as autocron
from django.db import transaction
from orders.tasks import count
try:
    with transaction.atomic():
        count(1)
except autocron.StoreError as error:
    print(json.dumps(type(error).__name__))
"""
    assert project.script(source, AUTOCRON_HOME="/proc/1/none") == "StoreError"


# -- what is wrong with the settings -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentences"),
    [
        ("[]", ["AUTOCRON is []: give a dict such as"]),
        (
            '{"WORKER": 2, "workers": 2, "COLOUR": 1}',
            [
                "AUTOCRON['WORKER']: no such setting; there are DATABASE, WORKERS",
                "HINT: Did you mean 'WORKERS'?",
                "AUTOCRON['workers']: no such setting",
                "AUTOCRON['COLOUR']: no such setting",
            ],
        ),
        (
            '{"WORKERS": "2", "STATUS": 1, "ON_COMMIT": 0}',
            [
                "give a whole number from 1 to 256",
                "AUTOCRON['STATUS'] is 1: it can be True or False",
                "AUTOCRON['ON_COMMIT'] is 0: it can be True or False",
            ],
        ),
        ('{"STATUS": true}', ["AUTOCRON['STATUS'] is True, but no URL leads to it", "HINT: Add path('auto"]),
    ],
)
def test_checks_name_what_is_wrong(project: Project, settings: str, sentences: list[str]) -> None:
    said = project.manage("check", "--fail-level", "WARNING", fails=True, SHOP_SETTINGS=settings)
    assert "Traceback" not in said
    for sentence in sentences:
        assert sentence in said
    project.manage("diffsettings", SHOP_SETTINGS=settings)  # a command that asks for no checks


def test_a_server_does_not_start_with_wrong_settings(project: Project) -> None:
    command = (need("gunicorn"), "-b", "127.0.0.1:0", "shop.wsgi")
    said = project.run(*command, fails=True, SHOP_SETTINGS='{"WORKERS": 0, "STATUS": 1}')
    assert "give a whole number from 1 to 256; AUTOCRON['STATUS'] is 1: it can be True or False" in said


def test_runserver_says_in_a_check_why_it_cannot_start(project: Project) -> None:
    command = ("runserver", "--noreload", "0")
    said = project.manage(*command, fails=True, SHOP_SETTINGS='{"DATABASE": "/no/shop.db"}')
    assert "the folder /no of the database '/no/shop.db' does not exist" in said
    assert "Traceback" not in said


def test_a_project_with_a_name_like_many_is_asked_for_its_database(project: Project) -> None:
    (project.folder / "shop").rename(project.folder / "config")
    for name in ("config/settings.py", "manage.py"):
        file = project.folder / name
        file.write_text(file.read_text().replace("shop.", "config."))
    said = project.manage("check", fails=True)
    assert "is called 'config', as many are: name its database with AUTOCRON['DATABASE']" in said
    project.manage("check", SHOP_SETTINGS='{"DATABASE": "shop.db"}')


# -- the project's own tests ------------------------------------------------------------------------------


TESTS = """
from django.test import TestCase
from autocron_web.testing import recording
from orders.models import Order
from orders.tasks import context, count

class OrderTest(TestCase):
    def test_calls_run_at_once_with_the_data_of_the_test(self):
        order = Order.objects.create(word="a")
        self.assertEqual(count(order.pk).get()[0], 1)

    def test_recorded_calls(self):
        autocron = self.enterContext(recording())
        context("b")
        self.assertEqual([call.args for call in autocron.enqueued(context)], [("b",)])
        self.assertEqual(Order.objects.count(), 0)
        autocron.drain()
        self.assertEqual(Order.objects.get().word, "b")
"""


def test_the_tests_of_the_project_run_calls_at_once_or_record_them(project: Project, home: Path) -> None:
    project.write("orders/tests.py", TESTS)
    assert "Ran 2 tests" in project.manage("test")
    assert list(home.iterdir()) == []
    assert pool_processes() == {}
