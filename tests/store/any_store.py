"""A store of each kind, empty, for the tests of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from places import Place, PostgresPlace, SqlitePlace, postgres

from autocron_web.jobs import Job
from autocron_web.store import Store

OWNER = "machine"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        yield SqlitePlace(tmp_path)
        return
    place = PostgresPlace(postgres())
    place.execute(f"CREATE SCHEMA {place.schema}")
    yield place
    place.execute(f"DROP SCHEMA {place.schema} CASCADE")


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    store = place.store()
    yield store
    store.close()


@pytest.fixture
def other(place: Place) -> Iterator[Store]:
    """A second store of the same database, as another process has it."""
    other = place.store()
    yield other
    other.close()


@pytest.fixture
def epoch(store: Store) -> int:
    return store.take_epoch(OWNER)


def stored(store: Store, sought: Job) -> Job:
    found = store.get(sought.id)
    assert found is not None
    return found
