"""Jobs as rows: the order of the columns, and what is done to a value on its way in and out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ..jobs import Job

#: The columns of `autocron_job` in the order of `Job`, for the SQL of every store.
COLUMNS = ", ".join(Job._fields)

_META = Job._fields.index("meta")
_NO_META: dict[str, Any] = Job._field_defaults["meta"]  # shared, as the default of `Job` is: never mutated


def job_of(row: Any) -> Job:
    """The job in a row with the columns `COLUMNS`."""
    meta = row[_META]
    return Job._make((*row[:_META], _NO_META if meta == "{}" else json.loads(meta), row[-1]))


def row_of(job: Job) -> tuple[Any, ...]:
    """The values of all columns but `seq`, which the store gives."""
    return (*job[:_META], meta_text(job.meta))


def settled_row(job: Job, epoch: int) -> tuple[Any, ...]:
    """The values that `Store.settle` sets, in the order of `SETTLE`, then the id and the epoch."""
    running = job.state == "running"
    return (
        job.due,
        job.queue,
        job.priority,
        job.state,
        plain(job.reason),
        job.started,
        job.finished,
        job.attempt,
        job.crashes,
        epoch if running else None,
        job.owner if running else None,
        job.expires,
        job.result,
        plain(job.error_type),
        plain(job.error),
        plain(job.output),
        meta_text(job.meta),
        job.id,
        epoch,
    )


def done_rows(jobs: Iterable[Job]) -> tuple[str, bytes]:
    """The ends of jobs that are done, as a JSON list for `SETTLE_DONE`, and the blob of their results."""
    ends: list[tuple[Any, ...]] = []
    results: list[bytes] = []
    start = 1  # as `substr` counts
    for job in jobs:
        result = job.result or b""
        ends.append((
            job.id, job.finished, job.expires, plain(job.reason), plain(job.output), meta_text(job.meta),
            plain(job.error_type), plain(job.error), start, None if job.result is None else len(result),
        ))  # fmt: skip
        results.append(result)
        start += len(result)
    return _to_json(ends), b"".join(results)


_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def meta_text(meta: dict[str, Any]) -> str:
    """`meta` as JSON, in ASCII, so that any store can hold any string in it."""
    return json.dumps(meta) if meta else "{}"


def plain(text: str | None) -> str | None:
    """What a task printed or raised, with an escape for each character that no store can hold.

    PostgreSQL refuses NUL, UTF-8 has no form for a lone surrogate: one such character in an output
    must not lose the results of a whole batch.
    """
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
