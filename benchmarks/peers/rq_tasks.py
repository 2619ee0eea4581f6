"""The job of RQ, and its worker."""

from __future__ import annotations

import importlib
import os
from typing import Any

import stamps

rq: Any = importlib.import_module("rq")
_redis: Any = importlib.import_module("redis").Redis(unix_socket_path=os.environ["BENCH_REDIS"])
_queue: Any = rq.Queue(connection=_redis)


def mark(index: int) -> None:
    stamps.note(index)


def call(index: int) -> None:
    _queue.enqueue(mark, index, result_ttl=0)


def left(redis: Any) -> int:
    return int(_queue.count) + int(_queue.started_job_registry.count)


def work() -> None:
    rq.Worker([_queue], connection=_redis).work(logging_level="ERROR")
