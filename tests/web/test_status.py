"""The status of real pools: what it says, and every cause of `fail` brought about for real."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from autocron_web.jobs import SECOND, now
from autocron_web.store import Store
from autocron_web.web import facts, status, verdict
from conftest import CHECKOUT, RunScript, wait_until
from pool_app import App, app, pids, wait_for_pool  # noqa: F401 - `app` is a fixture

pytestmark = pytest.mark.once  # nothing here depends on the version of Python

SCHEMA = json.loads((CHECKOUT / "docs" / "status.schema.json").read_text())


def look(app: App, level: status.Level = "full", **options: Any) -> dict[str, Any]:
    """The document, as the schema says, and within a second; nothing is used again."""
    facts.watch(app.store.name)._looked = -10.0
    began = time.monotonic()
    http, kind, body = status.answer(app.store.name, level, **options)
    assert time.monotonic() - began < 3, "a second, and more for a busy machine"
    document: dict[str, Any] = json.loads(body)
    assert kind == "application/health+json"
    jsonschema.validate(document, SCHEMA)
    assert http == (503 if document["status"] == "fail" else 200)
    return document


def codes(document: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in document["reasons"]]


def wait_for_code(app: App, code: str, timeout: float = 15, **options: Any) -> dict[str, Any]:
    wait_until(lambda: code in codes(look(app, **options)), timeout, f"{code}: {look(app, **options)}")
    return look(app, **options)


def wait_for_pass(app: App) -> dict[str, Any]:
    wait_until(lambda: look(app)["status"] == "pass", 15, f"pass: {look(app)}")
    return look(app)


@pytest.fixture(autouse=True)
def no_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_watches", {})


# -- what it says -----------------------------------------------------------------------------------------


def test_a_pool_at_work_is_described(app: App) -> None:
    script = app.run("hold:a", "tell:b")
    app.wait_for("begin")
    app.wait_for("tell")
    wait_until(lambda: look(app)["pool"]["jobs"]["done"] == 1, 15, "one job done")
    document = wait_for_pass(app)
    pool = document["pool"]
    (monitor,), workers = wait_for_pool()
    assert document["output"] == ""
    assert pool["monitor"]["pid"] == monitor
    assert pool["monitor"]["workers_wanted"] == 2
    assert pool["apps"] == [script.pid]
    assert {worker["pid"] for worker in pool["workers"]} == workers
    assert sorted(worker["state"] for worker in pool["workers"]) == ["ready", "running"]
    (job,) = [worker["job"] for worker in pool["workers"] if worker["job"]]
    assert (job["task"], job["attempt"]) == ("application.hold", 1)
    assert pool["jobs"] == {"waiting": 0, "running": 1, "done": 1, "error": 0, "cancelled": 0}
    assert pool["finished"]["done"] == {"total": 1, "last_minute": 1}
    assert pool["store"]["bytes"] > 10_000
    assert {check[0]["status"] for check in document["checks"].values()} == {"pass"}


def test_who_asks_is_no_app_process(app: App) -> None:
    script = app.run("tell:a")
    app.wait_for("tell")
    for _ in range(3):
        assert look(app)["pool"]["apps"] == [script.pid]


def test_without_rights_it_is_the_status_word_alone(app: App) -> None:
    app.run("tell:a")
    wait_for_pass(app)
    assert look(app, "none") == {"status": "pass"}


def test_crons_have_their_next_and_last_run(app: App) -> None:
    app.add("@autocron.every(seconds=1)\ndef tick():\n    note('tick')")
    app.add("@autocron.cron('0 2 * * *', tz='UTC')\ndef nightly():\n    pass")
    app.run("tell:a")
    app.wait_for("tick")
    crons = {cron["name"]: cron for cron in wait_for_pass(app)["pool"]["crons"]}
    tick, nightly = crons["application.tick"], crons["application.nightly"]
    assert (tick["schedule"], tick["zone"]) == ("every 1", "UTC")
    assert tick["last"] < tick["next"]
    assert nightly["last"] is None
    assert nightly["next"].endswith("T02:00:00.000Z")


def test_a_task_that_nobody_knows_is_told_and_is_no_failure(app: App) -> None:
    from autocron_web.jobs import Job, new_id

    app.run("tell:a")
    app.store.enqueue([Job(id=new_id(), task="application.future", due=0, created=now())])
    document = wait_for_code(app, "unknown_task")
    assert document["status"] == "warn"
    assert document["pool"]["unknown_tasks"] == {"application.future": 1}


def test_details_are_redacted_and_need_a_right_of_their_own(app: App) -> None:
    app.add(
        "@autocron.delay\ndef pay(user, card_number, options):\n"
        "    print('password=hunter2')\n    raise ValueError('token: abcdef at https://me:hunter2@host/')"
    )
    app.add("def try_pay(word):\n    pay('ann', '4111', {'api_key': 'hunter2', 'colour': 'red'})")
    app.run("try_pay:x")
    wait_until(lambda: app.store.counts().get("error") == 1, 15, "the failure")
    (failure,) = look(app)["pool"]["failures"]
    assert failure["error_type"] == "ValueError"
    assert set(failure) == {"id", "task", "attempt", "finished", "error_type"}
    document = look(app, "detail")
    (failure,) = document["pool"]["failures"]
    # This process does not know the task, so what has no name has its number.
    assert failure["arguments"]["2"] == {"api_key": "[redacted]", "colour": "red"}
    assert "ValueError" in failure["error"]
    assert "hunter2" not in json.dumps(document)
    assert "abcdef" not in json.dumps(document)
    assert str(app.file.parent) not in json.dumps(document)


def test_metrics_have_a_form_that_prometheus_reads(app: App) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    app.run("tell:a")
    wait_for_pass(app)
    wait_until(lambda: look(app)["pool"]["jobs"]["done"] == 1, 15, "one job done")
    _, _, body = status.metrics_answer(app.store.name)
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    jobs = {sample.labels["state"]: sample.value for sample in families["autocron_jobs"].samples}
    assert jobs == {"waiting": 0, "running": 0, "done": 1, "error": 0, "cancelled": 0}
    assert families["autocron_up"].samples[0].value == 1
    assert families["autocron_oldest_due_seconds"].samples[0].value == 0
    workers = {sample.labels["state"]: sample.value for sample in families["autocron_workers"].samples}
    assert workers == {"loading": 0, "ready": 2, "running": 0, "retiring": 0}


def test_arguments_that_a_task_calls_secret_are_hidden_from_all(run_script: RunScript) -> None:
    script = run_script(
        "import json, autocron_web as autocron\n"
        "@autocron.delay(secret_args=['pin'])\n"
        "def open_door(house, pin, *, pins=()):\n"
        "    raise ValueError('closed')\n"
        "if __name__ == '__main__':\n"
        "    autocron.start('a.db')\n"
        "    for job in open_door('7a', 'hunter2'), open_door('7b', pin='hunter2', pins=[1]):\n"
        "        try: job.get(20)\n"
        "        except autocron.JobFailed: pass\n"
        "    from autocron_web.engine import engine\n"
        "    from autocron_web.web import status\n"
        "    print(json.dumps(status.document(engine, 'detail')))\n"
    )
    assert "hunter2" not in script.stdout
    shown = [failure["arguments"] for failure in json.loads(script.stdout)["pool"]["failures"]]
    assert sorted(shown, key=str) == [
        {"house": "7a", "pin": "[redacted]"},
        {"house": "7b", "pin": "[redacted]", "pins": [1]},
    ]


HOSTILE = (
    "<img src=x onerror=alert(1)></script>'\"><svg onload>{{7*7}}javascript:\u202e\x00\x1b[31m" + 9000 * "x"
)


def test_whatever_a_task_says_is_plain_text(app: App) -> None:
    app.add(f"HOSTILE = {HOSTILE!r}")
    app.add(
        "@autocron.delay(name=HOSTILE[:90])\ndef say(word):\n    print(HOSTILE); raise ValueError(HOSTILE)"
    )
    app.run("say:a")
    wait_until(lambda: app.store.counts().get("error") == 1, 20, "the failure")
    _, _, body = status.answer(app.store.name, "detail")
    assert body.isascii()
    assert [char for char in body[:-1] if char < 32] == []
    (failure,) = json.loads(body)["pool"]["failures"]
    assert failure["task"] == HOSTILE[:90]
    assert len(body) < 20_000
    assert HOSTILE[:20] not in status.metrics_answer(app.store.name)[2].decode()


def test_the_page_lists_all_reasons_and_metrics(app: App) -> None:
    page = (CHECKOUT / "docs" / "status.md").read_text()
    reasons, numbers = page.partition("## Reasons")[2].split("## Metrics")
    rows = "".join(line.split("|")[1] for line in reasons.splitlines() if line.startswith("| `"))
    known = SCHEMA["properties"]["reasons"]["items"]["properties"]["code"]["enum"]
    assert sorted(re.findall(r"`(\w+)`", rows)) == sorted(known)
    app.run("tell:a")
    wait_for_pass(app)
    text = status.metrics_answer(app.store.name)[2].decode()
    names = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    assert names <= set(re.findall(r"`(autocron_\w+)", numbers))


# -- every cause of fail ----------------------------------------------------------------------------------


def test_no_monitor(app: App) -> None:
    script = app.run("tell:a")
    wait_for_pass(app)
    script.process.send_signal(signal.SIGSTOP)  # so that it starts no other one
    (monitor,), _ = wait_for_pool()
    os.kill(monitor, signal.SIGKILL)
    document = wait_for_code(app, "no_monitor", timeout=5)
    assert document["status"] == "fail"
    assert document["pool"]["monitor"] is None
    assert document["checks"]["monitor:alive"][0]["status"] == "fail"
    script.process.send_signal(signal.SIGCONT)
    wait_for_pass(app)


def test_a_monitor_that_is_stopped(app: App) -> None:
    app.run("tell:a")
    wait_for_pass(app)
    (monitor,), _ = wait_for_pool()
    os.kill(monitor, signal.SIGSTOP)
    try:
        assert codes(wait_for_code(app, "monitor_silent", timeout=5)) == ["monitor_silent"]
        assert look(app)["status"] == "fail"
    finally:
        os.kill(monitor, signal.SIGCONT)
    wait_for_pass(app)


def test_no_worker_that_can_load_the_app(app: App) -> None:
    text = app.file.read_text()
    app.file.write_text(
        text.replace(
            "import autocron_web",
            "import sys\nif __name__ != '__main__': import no_such\nimport autocron_web",
            1,
        )
    )
    app.run("tell:a")
    document = wait_for_code(app, "no_worker", timeout=10)
    assert document["status"] == "fail"
    assert "No module named 'no_such'" in document["output"]
    assert str(app.file.parent) not in json.dumps(document)


def test_a_worker_that_ends_while_it_loads(app: App) -> None:
    text = app.file.read_text()
    app.file.write_text(
        text.replace(
            "import autocron_web", "import os\nif __name__ != '__main__': os._exit(3)\nimport autocron_web", 1
        )
    )
    app.run("tell:a")
    assert "exited with status 3" in wait_for_code(app, "no_worker", timeout=10)["output"]


def test_a_queue_that_stands_still(app: App) -> None:
    app.run("hold:a", "hold:b", "tell:c")
    app.wait_for("begin", count=2)
    wait_for_pass(app)
    document = wait_for_code(app, "queue_stuck", max_age=0.5)
    assert document["pool"]["oldest_due_seconds"] > 0.5
    assert look(app, max_age=3600)["status"] == "pass"


def test_a_cron_that_is_overdue(app: App) -> None:
    app.add("@autocron.cron('* * * * *')\ndef tick():\n    note('tick')")
    app.run("tell:a")
    wait_until(lambda: look(app)["pool"]["crons"], 15, "the cron")
    wait_for_pass(app)
    with sqlite3.connect(app.store.name) as connection:
        before = now() - 7200 * SECOND
        connection.execute("UPDATE autocron_cron SET last_slot = ?, created = ?", (before, before))
    connection.close()
    document = wait_for_code(app, "cron_overdue", timeout=5)
    assert document["status"] == "fail"
    assert "application.tick" in document["output"]


def test_a_store_that_somebody_holds(app: App) -> None:
    app.run("tell:a")
    wait_for_pass(app)
    with app.locked():
        document = look(app)
        assert codes(document) == ["store_locked"]
        assert document["status"] == "fail"
        assert document["pool"]["monitor"], "the pool is described all the same"
    wait_for_pass(app)


def test_a_store_that_does_not_answer(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that hangs: the answer comes all the same, and only one thread waits for it."""
    app.run("tell:a")
    wait_for_pass(app)
    answers, original = threading.Event(), facts.open_store

    def open_store(path: str) -> Store:
        answers.wait(30)
        return original(path)

    monkeypatch.setattr(facts, "open_store", open_store)
    monkeypatch.setattr(verdict, "SILENT", 2.0)
    try:
        document = look(app)
        assert (document["status"], codes(document)) == ("warn", ["store_slow"])
        assert document["pool"]["monitor"], "the pool is described all the same"
        visitors = [threading.Thread(target=look, args=(app, "none")) for _ in range(5)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join(30)
        waiting = [thread for thread in threading.enumerate() if thread.name == "autocron-status"]
        assert len(waiting) == 1
        assert status.ready_answer(app.store.name)[0] == 200, "whether a call can be stored is not known"
        wait_until(lambda: look(app)["status"] == "fail", 15, "fail")
    finally:
        answers.set()
    wait_for_pass(app)


def test_a_store_that_was_deleted(app: App) -> None:
    script = app.run("tell:a")
    wait_for_pass(app)
    for suffix in ("", "-wal", "-shm"):
        os.unlink(app.store.name + suffix)
    assert "store_gone" in codes(wait_for_code(app, "store_gone", timeout=5))
    assert not os.path.exists(app.store.name), "looking makes nothing"
    script.kill()


def test_a_store_that_was_replaced(app: App, tmp_path: Path) -> None:
    from autocron_web.store.sqlite import SqliteStore

    script = app.run("tell:a")
    wait_for_pass(app)
    other = SqliteStore(tmp_path / "other.db")
    other.open()
    other.close()
    os.replace(tmp_path / "other.db", app.store.name)
    document = wait_for_code(app, "store_gone", timeout=5)
    assert "replaced" in document["output"]
    script.kill()


@pytest.mark.parametrize("damage", ["garbage", "nothing"])
def test_a_store_that_is_damaged(app: App, damage: str) -> None:
    script = app.run("tell:a")
    app.wait_for_states("done")
    wait_for_pass(app)
    with sqlite3.connect(app.store.name) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    size = os.path.getsize(app.store.name)
    with open(app.store.name, "r+b") as file:
        if damage == "garbage":
            file.write(os.urandom(size))
        else:
            file.truncate(0)
    wait_until(lambda: look(app)["status"] == "fail", 5, f"fail: {look(app)}")
    assert codes(look(app))[0].startswith("store_")
    script.kill()
    # What the monitor could not write, it tries to until the end of its drain.
    wait_until(lambda: not pids("monitor"), 30, "the end of the pool")


ANOTHER_USER = """
import json, os, sys
from autocron_web.store import Store
from autocron_web.web import facts, status, verdict
status.document(sys.argv[1], "full")  # imports all that it needs, as long as this user may
facts._watches.clear()
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
print(json.dumps(status.document(sys.argv[1], "full")))
"""


def test_a_store_that_cannot_be_written(app: App, home: Path, run_script: RunScript) -> None:
    app.run("tell:a")
    wait_for_pass(app)
    home.chmod(0o755)
    if os.geteuid() == 0:
        for end in ("", "-wal", "-shm"):
            os.chown(app.store.name + end, 65534, 65534)
    os.chmod(app.store.name, 0o444)
    try:
        document = json.loads(run_script(ANOTHER_USER, app.store.name).stdout)
        jsonschema.validate(document, SCHEMA)
        assert document["status"] == "fail"
        assert codes(document)[0] == "store_unwritable"
    finally:
        os.chmod(app.store.name, 0o600)
        home.chmod(0o700)


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """A disk of 16 MiB, on which the store is to lie."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "none", str(home)]
    if os.geteuid() or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("a file system can be mounted by root only, and not in every container")
    yield home
    subprocess.run(["umount", "--lazy", str(home)], check=True)  # the pool may linger


def test_a_disk_that_is_full(small_disk: Path, app: App) -> None:
    app.run("tell:a")
    wait_for_pass(app)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 16)):
            pass
    document = wait_for_code(app, "store_full", timeout=5)
    assert document["status"] == "fail"
    assert status.ready_answer(app.store.name)[0] == 503
    filler.unlink()
    wait_for_pass(app)


def test_the_end_of_the_pool_is_told(app: App) -> None:
    script = app.run("tell:a")
    wait_for_pass(app)
    script.kill()
    document = wait_for_code(app, "no_app", timeout=4)
    assert document["status"] == "warn"
    assert document["pool"]["apps"] == []
    wait_for_code(app, "no_monitor")


# -- ready --------------------------------------------------------------------------------------------------


def test_ready_says_whether_a_job_can_be_stored(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    script = app.run("tell:a")
    wait_for_pass(app)
    assert status.ready_answer(app.store.name)[0] == 200
    (monitor,), _ = wait_for_pool()
    script.process.send_signal(signal.SIGSTOP)
    os.kill(monitor, signal.SIGKILL)
    assert look(app)["status"] == "fail"
    assert status.ready_answer(app.store.name)[0] == 200, "calls are stored without a monitor too"
    script.process.send_signal(signal.SIGCONT)
    with app.locked():
        look(app)
        assert status.ready_answer(app.store.name)[0] == 200, "a call waits for it"
        monkeypatch.setattr(status, "LOCKED", 0.1)
        time.sleep(0.2)
        look(app)
        assert status.ready_answer(app.store.name)[0] == 503
    wait_for_pass(app)
    for suffix in ("", "-wal", "-shm"):
        os.unlink(app.store.name + suffix)
    look(app)
    http, _, body = status.ready_answer(app.store.name)
    assert (http, json.loads(body)) == (503, {"status": "fail"})
    script.kill()


LOCK = """
from autocron_web.store.sqlite import SqliteStore
SqliteStore(os.environ["AUTOCRON_HOME"] + "/a.db").set_setting("autocron_lock", "on")
autocron.start("a.db")
"""
#: What an app process does, its environment, and then: the verdict, and the HTTP status of readiness.
ENGINES: dict[str, tuple[str, dict[str, str], str, int]] = {
    "not started": ("", {}, "fail", 503),
    "inline": ("autocron.start('a.db')", {"AUTOCRON_MODE": "inline"}, "pass", 200),
    "locked": (LOCK, {}, "warn", 200),
    "broken": ("autocron.start('/proc/a.db')", {}, "fail", 503),
    "no pool": ("autocron.start('a.db')", {"AUTOCRON_MODE": "off"}, "fail", 200),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_without_a_pool(engine: str, run_script: RunScript) -> None:
    code, environment, verdict, readiness = ENGINES[engine]
    script = run_script(
        "import json, os, autocron_web as autocron\n"
        f"{code}\n"
        "from autocron_web.engine import engine\n"
        "from autocron_web.web import status\n"
        "print(json.dumps([status.document(engine, 'full'), status.answer(engine)[2].decode(),"
        " status.ready_answer(engine)[0], status.metrics_answer(engine)[2].decode()]))",
        env=environment,
    )
    document, word, ready, metrics = json.loads(script.stdout)
    jsonschema.validate(document, SCHEMA)
    assert document["status"] == json.loads(word)["status"] == verdict
    assert ready == readiness
    assert f"autocron_up {int(verdict != 'fail')}\n" in metrics
