"""Django: a pool where the project is served and nowhere else, tasks as requests, calls by a commit."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from django_site import RUNSERVER, Project, made_project, open_files, project, seen_by

from autocron_web import codec
from autocron_web.store.sqlite import SqliteStore
from conftest import need, pool_processes, wait_until
from pool_app import wait_for_pool

__all__ = ["made_project", "project"]

pytestmark = pytest.mark.timeout(120)

# -- where it starts ---------------------------------------------------------------------------------------


@pytest.mark.once
def test_commands_start_nothing_and_make_no_file(project: Project, home: Path) -> None:
    for words in (["check"], ["showmigrations"], ["shell", "-c", "import orders.tasks"], ["diffsettings"]):
        project.manage(*words)
        assert pool_processes() == {}
    assert list(home.iterdir()) == []


@pytest.mark.once
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


@pytest.mark.once
def test_without_a_reloader_runserver_serves_too(project: Project) -> None:
    server = project.serve(*RUNSERVER, "--noreload", SHOP_SETTINGS='{"WORKERS": 1}')
    assert server.get("call/a")["result"] == seen_by("a")
    wait_for_pool(workers=1)


@pytest.mark.parametrize(
    "command",
    [
        "gunicorn -w 2 -b 127.0.0.1:{port} shop.wsgi",
        pytest.param("gunicorn -w 2 --preload -b 127.0.0.1:{port} shop.wsgi", marks=pytest.mark.matrix),
        "uvicorn --workers 2 --port {port} shop.asgi:application",
        pytest.param("daphne -p {port} shop.asgi:application", marks=pytest.mark.matrix),
        pytest.param("hypercorn -w 2 -b 127.0.0.1:{port} shop.asgi:application", marks=pytest.mark.matrix),
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


@pytest.mark.once
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


@pytest.mark.once
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


COVERED = """
from django.urls import include
def page(request, name):
    return HttpResponse(name)
urlpatterns += [path("jobs/<name>", page), path("jobs/", include("autocron_web.django.urls"))]
"""


@pytest.mark.once
def test_a_check_names_the_view_that_answers_in_the_place_of_the_status(project: Project) -> None:
    project.append("shop/urls.py", COVERED)
    said = project.manage("check", fails=True)
    assert (
        "(autocron.E003) /jobs/status does not lead to the status: shop.urls.page answers it before" in said
    )
    assert "HINT: Put the include of 'autocron_web.django.urls' above it, or give it another path." in said
    project.manage("check", SHOP_SETTINGS='{"STATUS": false}')
    project.append("shop/urls.py", "urlpatterns.reverse()")
    project.manage("check")


@pytest.mark.once
def test_a_server_does_not_start_with_wrong_settings(project: Project) -> None:
    command = (need("gunicorn"), "-b", "127.0.0.1:0", "shop.wsgi")
    said = project.run(*command, fails=True, SHOP_SETTINGS='{"WORKERS": 0, "STATUS": 1}')
    assert "give a whole number from 1 to 256; AUTOCRON['STATUS'] is 1: it can be True or False" in said


def test_runserver_says_in_a_check_why_it_cannot_start(project: Project) -> None:
    command = ("runserver", "--noreload", "0")
    said = project.manage(*command, fails=True, SHOP_SETTINGS='{"DATABASE": "/no/shop.db"}')
    assert "the folder /no of the database '/no/shop.db' does not exist" in said
    assert "Traceback" not in said


@pytest.mark.matrix
@pytest.mark.once
def test_a_project_with_a_name_like_many_is_asked_for_its_database(project: Project) -> None:
    (project.folder / "shop").rename(project.folder / "config")
    for name in ("config/settings.py", "manage.py"):
        file = project.folder / name
        file.write_text(file.read_text().replace("shop.", "config."))
    said = project.manage("check", fails=True)
    assert "is called 'config', as many are: name its database with AUTOCRON['DATABASE']" in said
    project.manage("check", SHOP_SETTINGS='{"DATABASE": "shop.db"}')


# -- tests of a project ------------------------------------------------------------------------------------

TESTS = """
from django.db import transaction
from django.test import Client, TestCase, TransactionTestCase
import autocron_web as autocron
from autocron_web.testing import recording
from orders.models import Order
from orders.tasks import context, count

class OrderTest(TestCase):
    def test_calls_run_at_once(self):
        assert context("a").result == [1, "Europe/Berlin", "de", "/call/a"]
        assert Order.objects.count() == 1

    def test_calls_in_transactions_wait_for_it(self):
        with self.captureOnCommitCallbacks(execute=True):
            with transaction.atomic():
                result = count(1)
            assert result.status == "waiting"
        assert result.status == "done"

    def test_they_can_be_recorded(self):
        with recording() as recorded:
            context("b")
            assert [call.args for call in recorded.enqueued(context)] == [("b",)]
            assert Order.objects.count() == 0
            recorded.drain()
            assert Order.objects.get().word == "b"

class CommitTest(TransactionTestCase):
    def test_views_whose_calls_wait_for_the_commit(self):
        Client().get("/atomic")
        assert [result.result[0] for result in autocron.get_results()[:1]] == [1]
"""


@pytest.mark.once
def test_in_tests_of_a_project_calls_run_at_once_and_nothing_starts(project: Project, home: Path) -> None:
    project.write("orders/tests.py", TESTS)
    assert "Ran 4 tests" in project.manage("test", "--parallel", "1")
    assert pool_processes() == {}
    assert list(home.iterdir()) == []


@pytest.mark.matrix
@pytest.mark.once
def test_also_under_pytest_django(project: Project, home: Path) -> None:
    project.write("orders/tests.py", TESTS)
    project.write("pytest.ini", "[pytest]\nDJANGO_SETTINGS_MODULE = shop.settings\n")
    said = project.run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "orders/tests.py")
    assert "4 passed" in said
    assert pool_processes() == {}
    assert list(home.iterdir()) == []


# -- other ways to set it up -------------------------------------------------------------------------------

#: As the specification prints them, with this package's name.
APPS = """
import autocron_web as autocron
from django.apps import AppConfig

class OrdersConfig(AppConfig):
    default_auto_field = 'django.db.models.BigAutoField'
    name = 'orders'

    def ready(self):
        autocron.start("the_django_app.db")
"""

VIEW = """
# view.py
import time
import autocron_web as autocron

from django.http import HttpResponse

@autocron.delay
def do_this_later():
    \"\"\"example for a blocking task.\"\"\"
    time.sleep(2)
    print("\\ndo this later")

@autocron.cron("* * * * *")
def cronjob():
    \"\"\"do something every minute\"\"\"
    print("action from the cron job")

def index(request):
    \"\"\"view providing the response without delay.\"\"\"
    task_result = do_this_later()
    return HttpResponse(f"Hello, TaskResult uuid: {task_result.uuid}")
"""


@pytest.mark.matrix
@pytest.mark.once
def test_the_specifications_own_way(project: Project, home: Path) -> None:
    project.append("shop/settings.py", "INSTALLED_APPS.remove('autocron_web.django')\n")
    project.write("orders/apps.py", APPS)
    project.write("orders/view.py", VIEW)
    project.append(
        "shop/urls.py", "from orders.view import index\nurlpatterns.append(path('later', index))\n"
    )
    project.manage("check")
    assert pool_processes() == {}
    server = project.serve(*RUNSERVER)
    called = server.ask("/later").decode().rpartition(" ")[2]
    wait_for_pool()
    assert server.get("call/a")["result"] == seen_by("a")  # of the framework it sees the same
    project.store = SqliteStore(home / "the_django_app.db")
    wait_until(lambda: {job.state for job in project.jobs() if job.id == called} == {"done"}, 20, "the job")
    wait_until(lambda: "do this later" in server.output, 10, "what the task has printed")


SINGLE = """
import os, sys
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
import autocron_web as autocron

settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x", TIME_ZONE="Europe/Berlin", DEBUG=True,
    INSTALLED_APPS=["autocron_web.django"], AUTOCRON={"DATABASE": "single.db"},
)

@autocron.delay
def double(number):
    from django.utils import timezone
    return [2 * number, str(timezone.get_current_timezone())]

urlpatterns = [path("<int:number>", lambda request, number: JsonResponse({"result": double(number).get(20)}))]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
else:
    application = get_wsgi_application()
"""


@pytest.mark.once
@pytest.mark.parametrize(
    "command",
    ["python single.py runserver {port}", "gunicorn -b 127.0.0.1:{port} single"],
    ids=["runserver", "gunicorn"],
)
def test_a_project_in_a_single_file(project: Project, command: str) -> None:
    project.write("single.py", SINGLE)
    program, *words = command.split()
    server = project.serve(need(program), *words)
    assert server.get("4")["result"] == [8, "Europe/Berlin"]
    wait_for_pool()


# -- commands ----------------------------------------------------------------------------------------------


@pytest.mark.once
def test_manage_py_has_the_commands_of_the_command_line(project: Project) -> None:
    assert "There is no database" in project.manage("autocron", "status", fails=True)
    server = project.serve(*RUNSERVER, "--noreload")
    server.get("call/a")
    told = json.loads(project.manage("autocron", "status", "--json"))
    assert told["status"] == "pass"
    assert "orders.tasks.context" in project.manage("autocron", "--results", "--settings", "shop.settings")
    for words in (["autocron", "--help"], ["help", "autocron"]):
        said = project.manage(*words)
        assert "Usage: manage.py autocron" in said
        assert "  retry " in said
    assert "Did you mean 'status'?" in project.manage("autocron", "statsu", fails=True)
    call = "from django.core.management import call_command; call_command('autocron', 'status')"
    assert "pass" in project.manage("shell", "-c", call)
    wrong = project.manage("autocron", "status", fails=True, SHOP_SETTINGS='{"WORKERS": 0}')
    assert wrong == "Error: AUTOCRON['WORKERS'] is 0: give a whole number from 1 to 256\n"
    project.manage("autocron", "stop")
    assert pool_processes() == {}


# -- status ------------------------------------------------------------------------------------------------

STAFF = """
from django.contrib.auth.models import User
from django.test import Client, override_settings
User.objects.create_user("ann", is_staff=True)
User.objects.create_user("bob")
User.objects.create_user("eve", is_staff=True, is_active=False)
seen = {}
for name in [None, "ann", "bob", "eve"]:
    client = Client()
    if name:
        client.force_login(User.objects.get(username=name))
    answer = client.get("/jobs/status")
    seen[str(name)] = [len(answer.json()) > 1, client.get("/jobs/metrics").status_code]
seen["off"] = []
with override_settings(AUTOCRON={"STATUS": False}):
    seen["off"] = [Client().get(f"/jobs/{page}").status_code for page in ("status", "ready", "metrics")]
print(json.dumps(seen))
"""


@pytest.mark.once
def test_the_status_tells_more_to_the_staff(project: Project) -> None:
    includes = "urlpatterns.append(path('jobs/', include('autocron_web.django.urls')))\n"
    project.append("shop/urls.py", includes)
    middleware = "MIDDLEWARE.append('django.contrib.auth.middleware.LoginRequiredMiddleware')\n"
    project.append("shop/settings.py", middleware + "ALLOWED_HOSTS = ['*']\n")
    project.manage("check", "--fail-level", "WARNING", SHOP_SETTINGS='{"STATUS": true}')
    assert project.script(STAFF) == {
        "None": [False, 401],
        "ann": [True, 200],
        "bob": [False, 401],
        "eve": [False, 401],
        "off": [404, 404, 404],
    }
