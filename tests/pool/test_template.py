"""A process that has loaded the app and forks the workers: they are as any other, and take less memory."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from autocron_web.launch import ask_monitor
from conftest import RunScript, cannot_run, wait_until
from pool_app import App, alive, app, pids, wait_for_pool  # noqa: F401

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a template needs Linux")

#: Each load of the app by the pool is noted.
LOADED = """
if autocron.in_worker():
    note("loaded", os.getpid())
"""

NUMBERS = """
import random, tempfile, types, uuid

sys.modules["numpy.random"] = types.SimpleNamespace(seed=lambda: note("seeded", os.getpid()))

@autocron.delay
def numbers(word):
    hold.call(word)
    note("numbers", os.getpid(), random.random(), uuid.uuid4(), os.path.basename(tempfile.mktemp()))
"""

ON = {"AUTOCRON_PRELOAD": "on"}


@pytest.fixture
def forked(app: App) -> App:
    app.add(LOADED)
    return app


def info(app: App) -> dict[str, Any]:
    told = ask_monitor(app.store.name, 10)
    assert isinstance(told, dict), told
    return told


def run_both(app: App) -> tuple[int, int, set[int]]:
    """A pool whose two workers run a job each; monitor, template and workers."""
    app.run("hold:a", "hold:b", env=ON)
    app.wait_for("begin", count=2, timeout=30)
    (monitor,), workers = wait_for_pool(timeout=30)
    (template,) = pids("template")
    assert {int(pid) for _, _, pid in app.lines("begin")} == workers
    return monitor, template, workers


def stat(pid: int) -> tuple[int, int]:
    """The parent of a process, and its group."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), int(fields[2])


def test_workers_are_the_monitors_children_and_the_app_is_loaded_once(forked: App) -> None:
    monitor, template, workers = run_both(forked)
    assert stat(template) == (monitor, template)
    assert {stat(pid) for pid in workers} == {(monitor, pid) for pid in workers}
    assert forked.lines("loaded") == [["loaded", str(template)]]
    told = info(forked)
    assert (told["template"], told["no_template"]) == (template, None)
    assert {worker["pid"] for worker in told["workers"]} == workers
    forked.release("a")
    forked.release("b")
    forked.wait_for_states("done", "done")


def test_none_outlives_the_monitor(forked: App) -> None:
    monitor, template, workers = run_both(forked)
    os.kill(monitor, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, [template, *workers])), 10, "the end of template and workers")
    forked.release("a")
    forked.release("b")
    forked.wait_for_states("done", "done", timeout=30)  # by the next pool
    assert [(job.attempt, job.crashes) for job in forked.jobs()] == [(2, 0), (2, 0)]


def test_a_worker_that_is_killed_is_replaced_by_a_fork_and_its_job_counts_a_crash(forked: App) -> None:
    _, template, workers = run_both(forked)
    (victim,) = (int(pid) for _, word, pid in forked.lines("begin") if word == "a")
    os.kill(victim, signal.SIGKILL)
    forked.wait_for("begin", count=3)
    assert int(forked.lines("begin")[2][2]) not in workers
    forked.release("a")
    forked.release("b")
    jobs = forked.wait_for_states("done", "done")
    assert [(job.attempt, job.crashes) for job in jobs] == [(2, 1), (1, 0)]
    assert pids("template") == {template}
    assert len(forked.lines("loaded")) == 1


def test_the_pool_goes_on_without_its_template(forked: App) -> None:
    _, template, workers = run_both(forked)
    os.kill(template, signal.SIGKILL)
    wait_until(lambda: not alive(template), 10, "the end of the template")
    (victim,) = (int(pid) for _, word, pid in forked.lines("begin") if word == "a")
    os.kill(victim, signal.SIGKILL)
    forked.wait_for("begin", count=3)
    forked.release("a")
    forked.release("b")
    jobs = forked.wait_for_states("done", "done")
    assert [(job.attempt, job.crashes) for job in jobs] == [(2, 1), (1, 0)]
    _, now = wait_for_pool()
    assert len(now & workers) == 1


@pytest.mark.once
def test_a_template_that_hangs_is_given_up(forked: App) -> None:
    _, template, _ = run_both(forked)
    os.kill(template, signal.SIGSTOP)
    (victim,) = (int(pid) for _, word, pid in forked.lines("begin") if word == "a")
    os.kill(victim, signal.SIGKILL)
    forked.wait_for("begin", count=3, timeout=40)
    forked.release("a")
    forked.release("b")
    forked.wait_for_states("done", "done")
    wait_until(lambda: not alive(template), 10, "the end of the template")
    assert info(forked)["no_template"] == "it has not forked a worker"


def test_newer_code_has_a_template_of_its_own(forked: App) -> None:
    _, template, workers = run_both(forked)
    forked.add("@autocron.delay\ndef newer(word):\n    note('newer', word, os.getpid())")
    forked.run("newer:c", env=ON)
    forked.release("a")
    forked.release("b")
    ((_, _, pid),) = forked.wait_for("newer")
    wait_until(lambda: not any(map(alive, [template, *workers])), 20, "the end of the older code")
    second = info(forked)["template"]
    assert forked.lines("loaded") == [["loaded", str(template)], ["loaded", str(second)]]
    assert int(pid) not in (template, second)


@pytest.mark.once
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import threading; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
            "1 threads",
        ),
        ("import socket; kept = socket.socketpair()", "opened socket:"),
        ("import select; kept = select.epoll()", "opened anon_inode:"),
        ("kept = open(__file__)", "opened /.*/application.py"),
        ("import mmap; kept = mmap.mmap(-1, 4096)", "mapped /dev/zero"),
        ("import tempfile; kept = tempfile.mkdtemp(dir=os.path.dirname(LEDGER))", "made the folder "),
        ("time.sleep = lambda seconds, sleep=time.sleep: sleep(seconds)", "replaced functions of the system"),
        ("import random; kept = random.Random()", "made a random.Random"),
        ("kept = subprocess.Popen(['sleep', '300']) if autocron.in_worker() else None", "process .* .sleep."),
    ],
    ids=["thread", "socket", "epoll", "file", "memory", "folder", "patch", "numbers", "process"],
)
def test_what_cannot_be_in_common_lets_each_worker_load_the_app(forked: App, code: str, reason: str) -> None:
    forked.add(code)
    forked.run("hold:a", "hold:b", env=ON)
    begun = {int(pid) for _, _, pid in forked.wait_for("begin", count=2, timeout=30)}
    told = info(forked)
    assert told["template"] is None
    assert re.search(reason, told["no_template"]), told["no_template"]
    assert pids("template") == set()
    assert {int(pid) for _, pid in forked.lines("loaded")} == begun == wait_for_pool()[1]
    forked.release("a")
    forked.release("b")
    forked.wait_for_states("done", "done")


def test_a_log_that_all_append_to_is_no_hindrance(forked: App) -> None:
    forked.add("kept = open(LEDGER + '.log', 'a')")
    run_both(forked)


def test_random_numbers_are_those_of_each_worker(forked: App) -> None:
    forked.add(NUMBERS)
    forked.run("numbers:a", "numbers:b", env=ON)
    forked.wait_for("begin", count=2, timeout=30)
    forked.release("a")
    forked.release("b")
    one, other = forked.wait_for("numbers", count=2)
    assert len({*one, *other}) == len(one) + len(other) - 1, (one, other)
    assert {pid for _, pid in forked.lines("seeded")} == {one[1], other[1]}


def test_what_a_worker_prints_belongs_to_its_job_and_signals_to_all_end_none(forked: App) -> None:
    forked.add("@autocron.delay\ndef say(word):\n    print(word, flush=True)\n    tell(word)")
    _, template, workers = run_both(forked)
    for pid in (template, *workers):
        os.killpg(pid, signal.SIGINT)
        os.killpg(pid, signal.SIGTERM)
    forked.release("a")
    forked.release("b")
    forked.wait_for_states("done", "done")
    script = forked.run("say:hello", env=ON)
    forked.wait_for("tell")
    wait_until(lambda: "hello" in script.stdout, 10, "what the task prints")
    wait_until(lambda: [job.output for job in forked.jobs() if job.output] == ["hello\n"], 10, "its output")
    assert (pids("template"), pids("worker")) == ({template}, workers)


def test_one_worker_has_no_template(run_script: RunScript, forked: App) -> None:
    forked.file.write_text(forked.file.read_text().replace("workers=2", "workers=1"))
    forked.run("hold:a", env=ON)
    forked.wait_for("begin", timeout=30)
    assert (len(pids("worker")), pids("template")) == (1, set())
    forked.release("a")
    forked.wait_for_states("done")


# -- memory ---------------------------------------------------------------------------------------------

DJANGO = """
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x", USE_TZ=True, ROOT_URLCONF="application", STATIC_URL="/static/",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    INSTALLED_APPS=["django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
                    "django.contrib.sessions", "django.contrib.messages", "django.contrib.staticfiles"],
)
django.setup()
import django.contrib.admin.sites, django.core.handlers.wsgi, django.forms
from django.urls import path

urlpatterns = [path("admin/", django.contrib.admin.site.urls)]
"""


def memory(processes: set[int]) -> int:
    """KiB: what several processes have in common counts once (proc(5), smaps_rollup, Pss_Anon)."""
    total = 0
    for pid in processes:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        found = re.search(r"^Pss_Anon: *(\d+) kB", text, re.M)
        total += int(found[1]) if found else cannot_run("this kernel does not tell Pss_Anon")
    return total


@pytest.mark.once
def test_two_workers_of_a_django_project_take_less_memory_together(forked: App) -> None:
    """A large app has a template without being asked, and can refuse it."""
    forked.add(DJANGO)

    def measured(environment: dict[str, str], word: str) -> int:
        script = forked.run(f"hold:{word}1", f"hold:{word}2", env=environment)
        forked.wait_for(f"begin {word}", count=2, timeout=30)
        wait_for_pool()
        used = memory(pids("worker") | pids("template"))
        forked.release(f"{word}1")
        forked.release(f"{word}2")
        script.process.send_signal(signal.SIGTERM)  # it stops the pool
        script.wait(30)
        return used

    alone = measured({"AUTOCRON_PRELOAD": "off"}, "a")
    assert len(forked.lines("loaded")) == 2
    together = measured({}, "b")
    assert len(forked.lines("loaded")) == 3
    assert together < 0.75 * alone, (together, alone)
