"""What is PostgreSQL's alone, beside the contract of all stores: locks of rows, plans, its own errors."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from places import NOW, PostgresPlace, at_once, job, postgres

from autocron_web.errors import SchemaTooNew, StoreError
from autocron_web.jobs import SECOND
from autocron_web.store import Store, postgres_sql
from autocron_web.store.postgres import PostgresStore
from conftest import CHECKOUT, wait_until

pytestmark = pytest.mark.once  # nothing here depends on the version of Python

OWNER = "machine"


@pytest.fixture
def place() -> Iterator[PostgresPlace]:
    place = PostgresPlace(postgres())
    place.execute(f"CREATE SCHEMA {place.schema}")
    yield place
    place.execute(f"DROP SCHEMA {place.schema} CASCADE")


@pytest.fixture
def store(place: PostgresPlace) -> Iterator[Store]:
    store = place.store()
    yield store
    store.close()


@pytest.fixture
def other(place: PostgresPlace) -> Iterator[Store]:
    other = place.store()
    yield other
    other.close()


def test_psycopg_is_not_imported_without_need() -> None:
    program = "import autocron_web, autocron_web.store, sys; sys.exit('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT).returncode == 0


def test_the_name_does_not_show_the_password() -> None:
    store = PostgresStore("postgresql://shop:secret@db.example/jobs")
    assert "secret" not in store.name + repr(store)
    assert "db.example" in store.name


def test_a_database_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(StoreError, match=r"host=127\.0\.0\.1.* cannot be used: .*refused"):
        PostgresStore("postgresql://shop:secret@127.0.0.1:1/jobs").open()


def test_two_claims_at_once_get_different_jobs_without_waiting(store: Store, other: Store) -> None:
    epoch = store.take_epoch(OWNER)
    store.enqueue([job(), job(), job(priority=1)])
    with store.batch():
        mine = store.claim(OWNER, epoch, 1, NOW)
        others = other.claim(OWNER, epoch, 5, NOW)
    assert len(mine) == 1
    assert len(others) == 1  # the claim above has also locked, until its commit, what it did not take
    assert len(other.claim(OWNER, epoch, 5, NOW)) == 1
    assert mine[0].id != others[0].id


def test_a_newer_epoch_begins_when_claims_of_the_older_one_are_committed(store: Store, other: Store) -> None:
    epoch = store.take_epoch(OWNER)
    store.enqueue([job(), job()])
    epochs: list[int] = []
    thread = threading.Thread(target=lambda: epochs.append(other.take_epoch(OWNER)))
    with store.batch():
        assert len(store.claim(OWNER, epoch, 1, NOW)) == 1
        thread.start()
        wait_until(lambda: waits_for_a_lock(postgres()), 10, "the newer epoch waits")
    thread.join(10)
    assert epochs == [epoch + 1]
    assert store.claim(OWNER, epoch, 1, NOW) == []
    assert other.recover(OWNER, epoch + 1, NOW, 20).waiting == 1


def waits_for_a_lock(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return bool(connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall())


def test_many_processes_open_a_new_schema_at_once(place: PostgresPlace) -> None:
    def use() -> list[str]:
        return place.store().enqueue([job()])

    ids = [answer[0] for answer in at_once([use] * 12)]
    assert len(set(ids)) == 12


def test_a_newer_schema_is_refused(place: PostgresPlace, store: Store) -> None:
    store.open()
    place.execute("UPDATE autocron_meta SET value = '99' WHERE key = 'schema'")
    with pytest.raises(SchemaTooNew, match=r"schema 99.*up to 1"):
        place.store().open()


def test_a_claim_and_the_next_due_read_indexes_alone(place: PostgresPlace, store: Store) -> None:
    store.enqueue([job(priority=each % 4, due=NOW + (each % 2) * SECOND) for each in range(5000)])
    place.execute("ANALYZE autocron_job")
    values = {"owner": OWNER, "epoch": 1, "limit": 5, "now": NOW}
    assert scans(place, postgres_sql.CLAIM, values) <= {"Index Scan", "Index Only Scan"}
    assert scans(place, postgres_sql.NEXT_DUE, (NOW,)) <= {"Index Scan", "Index Only Scan"}


def scans(place: PostgresPlace, statement: str, values: Any) -> set[str]:
    """How a statement reads the table of jobs."""
    found = set()

    def walk(node: dict[str, Any]) -> None:
        if node.get("Relation Name") == "autocron_job" and "Scan" in node["Node Type"]:
            found.add(node["Node Type"])
        for child in node.get("Plans", []):
            walk(child)

    with psycopg.connect(place.url) as connection:
        [(plan,)] = connection.execute(f"EXPLAIN (FORMAT JSON) {statement}".encode(), values).fetchall()
    walk((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
    assert found
    return found
