"""What Django does around a request, around a task; and how a call waits for a commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from asgiref.sync import SyncToAsync

from django import db
from django.conf import settings
from django.db import transaction as transactions
from django.utils import timezone, translation

from .. import execution
from ..engine import engine


def install() -> None:
    """Once in a process: all tasks that it runs are surrounded."""
    if around_task not in execution.surroundings:
        execution.surroundings.append(around_task)


@contextmanager
def around_task() -> Iterator[None]:
    """The project's language and time zone; in a worker fresh connections, which are not of a request there.

    See `django.db.close_old_connections`, which Django calls before and after each request.
    """
    process = os.getpid()
    renews = engine.in_worker
    if renews:
        renew_connections()
    try:
        with translation.override(settings.LANGUAGE_CODE), timezone.override(None):
            yield
    finally:
        if renews and os.getpid() == process:  # a child that the task has forked must not close its parent's
            renew_connections()


def renew_connections() -> None:
    """Close those that are too old or broken, of this thread and of the one in which `async` tasks query."""
    db.reset_queries()
    db.close_old_connections()
    executor = SyncToAsync.single_thread_executor
    if getattr(executor, "_threads", None):  # asked, because submitting would start the thread
        executor.submit(db.close_old_connections).result()


OnCommit = Callable[[Callable[[], object]], object]


def transaction() -> OnCommit | None:
    """`on_commit` of the transaction that is under way in the default database; None outside of one.

    That in which `django.test.TestCase` wraps a test counts as none, as it does for `atomic(durable=True)`.
    """
    connection = transactions.get_connection()
    if not connection.in_atomic_block:
        return None
    blocks = connection.atomic_blocks
    if blocks and all(getattr(block, "_from_testcase", False) for block in blocks):
        return None
    on_commit: OnCommit = connection.on_commit
    return on_commit
