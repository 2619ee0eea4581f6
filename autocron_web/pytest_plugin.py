"""The pytest plugin, which is installed with autocron-web: in tests calls run at once, and nothing starts.

The fixture `autocron` records them instead: see `autocron_web.testing`. `-p no:autocron` turns it off.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from . import settings
from .client import InlineClient
from .engine import engine

if TYPE_CHECKING:
    from .testing import Recording

_MODE = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before the first conftest.py, which may import an app that calls `start()`."""
    early_config.stash[_MODE] = settings.default_mode
    settings.default_mode = "inline"


def pytest_unconfigure(config: pytest.Config) -> None:
    """The process may go on after `pytest.main()`."""
    settings.default_mode = config.stash.get(_MODE, settings.default_mode)


def pytest_runtest_logfinish() -> None:
    """No test finds the results of the one before."""
    if isinstance(engine._client, InlineClient):
        engine.exchange_client(InlineClient())


@pytest.fixture
def autocron() -> Iterator[Recording]:
    """Calls of tasks are recorded, `drain()` runs them, `travel()` lets time pass; see `Recording`."""
    from .testing import recording

    with recording() as it:
        yield it
