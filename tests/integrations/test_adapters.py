"""What every adapter does alike, tried with each of them: see `adapter_site.Adapter`."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from adapter_site import Adapter, Reply, Site, own_engine
from contract_asgi import AsgiAdapter, StarletteAdapter
from contract_django import DjangoAdapter
from contract_flask import FlaskAdapter
from contract_pyramid import PyramidAdapter
from contract_tornado import TornadoAdapter
from contract_wsgi import BottleAdapter, WsgiAdapter
from prometheus_client.parser import text_string_to_metric_families

import autocron_web as autocron
from autocron_web.engine import Engine
from autocron_web.store.sqlite import SqliteStore
from conftest import CHECKOUT, pool_processes, wait_until
from pool_app import wait_for_pool

__all__ = ["own_engine"]

ADAPTERS: list[Adapter] = [
    AsgiAdapter(),
    BottleAdapter(),
    DjangoAdapter(),
    FlaskAdapter(),
    PyramidAdapter(),
    StarletteAdapter(),
    TornadoAdapter(),
    WsgiAdapter(),
]

# On other Pythons another Django is installed; the others are the same.
each_adapter = pytest.mark.parametrize(
    "adapter",
    [
        pytest.param(adapter, marks=() if repr(adapter) == "django" else pytest.mark.once)
        for adapter in ADAPTERS
    ],
    ids=repr,
)

SCHEMA = json.loads((CHECKOUT / "docs" / "status.schema.json").read_text())

AT_ONCE = 4.0  # seconds for two answers, of which each takes one at most, on a busy machine
TOKEN = "a-token-of-at-least-thirty-two-characters"


@pytest.fixture
def site(adapter: Adapter, tmp_path: Path, home: Path) -> Iterator[Site]:
    site = Site(adapter, tmp_path)
    yield site
    site.stop()


def numbers(metrics: str, name: str) -> list[float]:
    """What Prometheus reads of a metric."""
    return [
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name
    ]


# -- real servers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "adapter",
    [
        pytest.param(adapter, marks=() if repr(adapter) in ("flask", "asgi", "wsgi") else pytest.mark.matrix)
        for adapter in ADAPTERS
    ],
    ids=repr,
)
@pytest.mark.once
def test_servers_have_one_pool_which_ends_with_the_last_of_them(
    adapter: Adapter, site: Site, home: Path
) -> None:
    settings = {"database": "orders.db", "workers": 1, "status": True, "url_prefix": "/jobs", "token": TOKEN}
    servers = []
    for _ in range(2):  # one after the other, so that the second one is the newer, whose word rules
        servers.append(site.launch(**settings))
        servers[-1].wait_until_up()
        assert servers[-1].get("call/a")["result"] == adapter.context("a")
    pool = wait_for_pool(workers=1)
    assert (home / "orders.db").exists()
    document = json.loads(servers[0].ask("/jobs/status", Authorization=f"Bearer {TOKEN}"))
    assert document["status"] == "pass"
    jsonschema.validate(document, SCHEMA)
    assert len(document["pool"]["workers"]) == 1
    metrics = servers[1].ask("/jobs/metrics", Authorization=f"Bearer {TOKEN}").decode()
    assert numbers(metrics, "autocron_up") == [1]
    assert numbers(metrics, "autocron_workers_wanted") == [1]
    assert json.loads(servers[1].ask("/jobs/ready"))["status"] == "pass"
    assert servers[1].ask("/jobs/ready", "HEAD") == b""
    servers[0].stop()
    assert servers[1].get("call/b")["result"] == adapter.context("b")
    assert wait_for_pool(workers=1) == pool
    servers[1].stop()
    wait_until(lambda: not pool_processes(), 15, "the end of the pool")


@pytest.mark.once
@each_adapter
def test_without_autostart_nothing_starts(adapter: Adapter, site: Site, home: Path) -> None:
    server = site.launch(database="orders.db", autostart=False)
    server.wait_until_up()
    assert server.ask("/")
    assert pool_processes() == {}
    assert list(home.iterdir()) == []


@pytest.mark.once
@pytest.mark.matrix  # `make test` does so for Django and Flask, in files of their own
@pytest.mark.timeout(180)  # each imports a framework, and one is a pytest with all its plugins
@each_adapter
def test_commands_that_serve_nothing_start_no_pool(adapter: Adapter, site: Site) -> None:
    for command in adapter.commands:
        run = site.run(*command.split(), database="orders.db")
        assert run.returncode == 0, run.stdout + run.stderr
        assert pool_processes() == {}


# -- set-up ------------------------------------------------------------------------------------------------


@each_adapter
@pytest.mark.parametrize(
    ("word", "value", "sentence"),
    [
        ("workers", 0, "{} is 0: give a whole number from 1 to 256"),
        ("max_jobs", 0, "{} is 0: give a whole number, 1 or more"),
        ("max_memory", True, "{} is True: give a whole number, 1 or more"),
        ("worker", 2, "{}: no such setting; there are "),
        ("status", "maybe", "{} is 'maybe': it can be True or False"),
        ("autostart", "maybe", "{} is 'maybe': it can be True or False"),
        ("url_prefix", "jobs", "{} is 'jobs': give a path such as '/autocron'"),
        ("token", "secret", "{} is a text of 6 characters: give at least 32 characters, such as those of"),
    ],
)
@pytest.mark.usefixtures("own_engine")
def test_a_wrong_setting_is_named(
    adapter: Adapter, word: str, value: object, sentence: str, home: Path
) -> None:
    with pytest.raises(autocron.ConfigError) as error:
        adapter.app({"database": "orders.db", word: value})
    assert sentence.format(adapter.spell(word)) in str(error.value)
    assert list(home.iterdir()) == []


@each_adapter
@pytest.mark.usefixtures("own_engine")
def test_a_second_installation_is_refused_with_advice(adapter: Adapter) -> None:
    app = adapter.app({"database": "orders.db"})
    with pytest.raises(autocron.ConfigError, match=r"already: .* once"):
        adapter.install_again(app)


@pytest.mark.once
@each_adapter
def test_a_missing_framework_is_told_in_one_sentence(adapter: Adapter) -> None:
    if not adapter.needs:
        pytest.skip("it needs no framework")
    code = f"import sys; sys.modules[{adapter.needs!r}] = None; import autocron_web.{adapter.name}"
    run = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True)
    *_, last = run.stderr.splitlines()
    assert last.startswith(f"ImportError: autocron_web.{adapter.name} needs ")
    assert last.endswith(f": pip install 'autocron-web[{adapter.name}]'")


# -- the status, as the app answers it in this process -----------------------------------------------------


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"database": "orders.db", "status": True, "token": TOKEN}


@pytest.fixture
def app(adapter: Adapter, settings: dict[str, Any], own_engine: Engine) -> Any:
    return adapter.app(settings)


def words_of(reply: Reply) -> set[str]:
    """The names in a JSON document."""
    return set(json.loads(reply.body))


@each_adapter
@pytest.mark.usefixtures("own_engine")
def test_the_status_is_mounted_only_where_asked_for(adapter: Adapter) -> None:
    app = adapter.app({"database": "orders.db"})
    assert adapter.ask(app, "GET", "/", {}).status == 200
    for page in ("status", "ready", "metrics"):
        assert adapter.ask(app, "GET", f"/autocron/{page}", {}).status == 404


@each_adapter
def test_the_status_tells_strangers_one_word(adapter: Adapter, app: Any) -> None:
    for page in ("status", "ready"):
        reply = adapter.ask(app, "GET", f"/autocron/{page}", {})
        assert reply.headers["content-type"] == "application/health+json"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert words_of(reply) == {"status"}
    assert adapter.ask(app, "GET", "/autocron/status", {}).status == 503  # pytest serves nothing: no monitor
    assert adapter.ask(app, "GET", "/autocron/ready", {}).status == 200


@each_adapter
@pytest.mark.parametrize(
    ("authorization", "allowed"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN} ", True),
        (f"Basic {TOKEN}", False),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        ("Bearer é" + TOKEN[1:], False),
        ("Bearer", False),
        (TOKEN, False),
    ],
)
def test_who_shows_the_token_is_told_more(
    adapter: Adapter, app: Any, authorization: str, allowed: bool
) -> None:
    headers = {"Authorization": authorization}
    told, metrics = (adapter.ask(app, "GET", f"/autocron/{page}", headers) for page in ("status", "metrics"))
    jsonschema.validate(json.loads(told.body), SCHEMA)
    assert (words_of(told) > {"status"}) == allowed
    assert metrics.status == (200 if allowed else 401)
    assert metrics.headers["content-type"].startswith("text/plain; ")
    assert (
        numbers(metrics.body.decode(), "autocron_up") == [0] if allowed else b"autocron_" not in metrics.body
    )


@each_adapter
def test_a_token_in_the_address_is_none(adapter: Adapter, app: Any) -> None:
    reply = adapter.ask(app, "GET", f"/autocron/status?token={TOKEN}", {})
    assert words_of(reply) == {"status"}


@each_adapter
def test_the_status_is_only_read(adapter: Adapter, app: Any) -> None:
    head, get = (adapter.ask(app, method, "/autocron/status", {}) for method in ("HEAD", "GET"))
    assert (head.status, head.headers["content-type"], head.body) == (
        get.status,
        get.headers["content-type"],
        b"",
    )
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        reply = adapter.ask(app, method, "/autocron/status", {})
        assert reply.status == 405
        assert "GET" in reply.headers["allow"]


@each_adapter
def test_the_site_goes_on_without_a_database_that_is_another_applications(
    adapter: Adapter,
    settings: dict[str, Any],
    own_engine: Engine,
    home: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = SqliteStore(home / "orders.db")
    store.open()
    store.adopt("forum")
    store.close()
    app = adapter.app(settings)
    assert adapter.ask(app, "GET", "/", {}).status == 200
    with pytest.raises(autocron.WrongApplication):
        own_engine.get_results()
    assert f"{home}/orders.db belongs to the application 'forum', and this is '" in caplog.text
    headers = {"Authorization": f"Bearer {TOKEN}"}
    ready, told = (adapter.ask(app, "GET", f"/autocron/{page}", headers) for page in ("ready", "status"))
    assert (ready.status, told.status) == (503, 503)
    assert str(home) not in told.body.decode()


def hold(file: Path) -> sqlite3.Connection:
    """Take the write lock, until the connection is closed."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def remove(file: Path) -> None:
    for part in file.parent.glob(f"{file.name}*"):
        part.unlink()


def damage(file: Path) -> None:
    for part in file.parent.glob(f"{file.name}-*"):
        part.unlink()
    file.write_bytes(b"no database, " * 4096)  # the same file still: another one would be "gone"


@each_adapter
@pytest.mark.parametrize(
    ("code", "harm", "ready"),
    [
        ("store_gone", remove, 503),
        ("store_corrupt", damage, 503),
        ("store_locked", hold, 200),  # a call waits for it
    ],
)
def test_what_is_wrong_with_the_store_is_told_at_once(
    adapter: Adapter, app: Any, code: str, harm: Callable[[Path], Any], ready: int, home: Path
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert adapter.ask(app, "GET", "/autocron/ready", headers).status == 200
    held = harm(home / "orders.db")

    def is_told() -> bool:
        began = time.monotonic()
        asked = [adapter.ask(app, "GET", f"/autocron/{page}", headers) for page in ("ready", "status")]
        assert time.monotonic() - began < AT_ONCE
        assert b"Traceback" not in asked[1].body
        codes = {reason["code"] for reason in json.loads(asked[1].body)["reasons"]}
        return [reply.status for reply in asked] == [ready, 503] and code in codes

    try:
        wait_until(is_told, 10, code)
    finally:
        if held is not None:
            held.close()


@each_adapter
@pytest.mark.parametrize("settings", [{"database": "orders.db", "status": True, "url_prefix": "/our/jobs"}])
def test_the_prefix_is_moved_and_all_other_paths_are_the_apps(adapter: Adapter, app: Any) -> None:
    assert adapter.ask(app, "GET", "/our/jobs/ready", {}).status == 200
    assert adapter.ask(app, "GET", "/", {}).status == 200
    for path in (
        "/autocron/status",
        "/our/jobs",
        "/our/jobs/other",
        "/our/jobs/status/more",
        "/our/jobsstatus",
    ):
        assert adapter.ask(app, "GET", path, {}).status == 404
