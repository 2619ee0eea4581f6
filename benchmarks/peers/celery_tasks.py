"""The task of Celery."""

from __future__ import annotations

import importlib
import os
from typing import Any

import stamps

app: Any = importlib.import_module("celery").Celery(
    "bench", broker=f"redis+socket://{os.environ['BENCH_REDIS']}"
)


@app.task(ignore_result=True)  # type: ignore[untyped-decorator]  # Celery has no types
def mark(index: int) -> None:
    stamps.note(index)


def call(index: int) -> None:
    mark.delay(index)


def left(redis: Any) -> int:
    return int(redis.llen("celery")) + int(redis.hlen("unacked"))
