"""Fault 99: which index each statement uses, so that none reads what it does not answer with."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from places import job

from autocron_web.store import sqlite_sql as sql
from autocron_web.store.sqlite import SqliteStore

pytestmark = pytest.mark.once

ID = "sqlite_autoindex_autocron_job_1 (id=?)"
CLAIM = "autocron_job_claim (priority"
STATE = "autocron_job_state (state=?)"

#: Statements that run again and again, and how each one finds its jobs.
PLANS = {
    "GET": ID,
    "FIND_EXISTING": ID,
    "CANCEL": ID,
    "RETRY": ID,
    "EXPIRE": ID,
    "EXPIRE_RIVAL": "autocron_job_unique (unique_key=?)",
    "SETTLE": ID,
    "SETTLE_DONE": ID,
    "ANNOTATE": ID,
    "NEXT_LEVEL": f"{CLAIM}<?)",
    "DUE": f"{CLAIM}=? AND due<?)",
    "CLAIM": "INTEGER PRIMARY KEY (rowid=?)",
    "NEXT_DUE": f"{CLAIM}=?)",
    "PAGE": "INTEGER PRIMARY KEY (rowid<?)",
    "PAGE_OF_STATE": "autocron_job_state (state=? AND rowid<?)",
    "RECOVER_OFTEN": STATE,
    "RECOVER_WAITING": STATE,
    "REVIVE": "autocron_job_unknown (task=?)",
    "PURGE_LATE": "autocron_job_late (expires>? AND expires<?)",
    "PURGE_FINISHED": "autocron_job_finished (expires>? AND expires<?)",
}

#: Statements that have to read an index from one end to the other, and never the jobs themselves.
SCANS = {"COUNTS": "COVERING INDEX autocron_job_state", "UNKNOWN_TASKS": "INDEX autocron_job_unknown"}


@pytest.fixture(scope="module", params=["as it comes", "analyzed"])
def connection(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[sqlite3.Connection]:
    """A connection to a store with some jobs; also where somebody has let SQLite gather statistics."""
    path: Path = tmp_path_factory.mktemp("plans") / "app.db"
    with closing(SqliteStore(path, durability="normal")) as store:
        store.enqueue([job(priority=number % 3) for number in range(500)])
        store.enqueue([job(state="done", expires=number) for number in range(2000)])
    with closing(sqlite3.connect(path)) as connection:
        if request.param == "analyzed":
            connection.execute("ANALYZE")
        yield connection


def plan(connection: sqlite3.Connection, statement: str) -> list[str]:
    """What SQLite is going to do, as https://sqlite.org/eqp.html describes it."""
    names = set(re.findall(r":([a-z_]+)", statement))
    values = dict.fromkeys(names, 1) if names else [1] * statement.count("?")
    return [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


@pytest.mark.parametrize("name", PLANS)
def test_a_statement_finds_its_jobs_by_an_index(connection: sqlite3.Connection, name: str) -> None:
    steps = plan(connection, getattr(sql, name))
    assert any(step.endswith(PLANS[name]) for step in steps), steps
    # The first look for a priority is a min or max, which SQLite calls a search without a condition.
    assert not [step for step in steps if step.startswith("SCAN autocron_job")], steps


@pytest.mark.parametrize("name", SCANS)
def test_what_is_counted_is_counted_in_an_index(connection: sqlite3.Connection, name: str) -> None:
    (step,) = plan(connection, getattr(sql, name))
    assert step.endswith(SCANS[name])
