"""What users write, with the types that a checker must find. Checked by test_typing.py, never executed."""

import asyncio
import datetime
from collections.abc import Callable, Coroutine
from typing import Any, assert_type

import autocron_web as autocron
from autocron_web import Progress, Result, Task
from autocron_web.testing import Enqueued, Recording, recording


@autocron.delay
def send_mail(address: str, text: str, *, copies: int = 1) -> int:
    return copies


@autocron.delay()
def empty() -> None: ...


@autocron.delay(
    minutes=5, retries=3, backoff=2.0, timeout=60, priority=5, queue="mail", unique="args", expires=3600,
    result_ttl=600, name="digest",
)  # fmt: skip
def digest(user_id: int) -> list[str]:
    return [str(user_id)]


@autocron.delay(schedule=datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))
def new_year(*names: str, **more: bytes) -> None: ...


@autocron.delay
async def fetch(url: str) -> bytes:
    return url.encode()


@autocron.delay(retries=2)
async def fetch_again(url: str) -> bytes:
    return url.encode()


def calls() -> None:
    assert_type(send_mail("a@b.c", "hi"), Result[int])
    assert_type(send_mail("a@b.c", text="hi", copies=2), Result[int])
    assert_type(send_mail.enqueue("a@b.c", "hi"), Result[int])
    assert_type(send_mail.call("a@b.c", "hi"), int)
    assert_type(empty(), Result[None])
    assert_type(digest(7), Result[list[str]])
    assert_type(new_year("a", "b", c=b"d"), Result[None])
    assert_type(fetch("https://x"), Result[bytes])
    assert_type(fetch_again("https://x"), Result[bytes])
    print(assert_type(fetch.call("https://x"), Coroutine[Any, Any, bytes]))
    assert_type(send_mail.options(minutes=10, priority=9, unique=None).enqueue("a@b.c", "hi"), Result[int])
    assert_type(send_mail.options(seconds=1)("a@b.c", "hi"), Result[int])
    many = send_mail.enqueue_many([("a@b.c", "hi"), {"address": "d@e.f", "text": "ho"}])
    assert_type(many, list[Result[int]])
    assert_type(send_mail.options(hours=1).enqueue_many([("a@b.c", "hi")]), list[Result[int]])
    assert_type(send_mail.name, str)


def results(r: Result[int]) -> None:
    assert_type(r.get(), int)
    assert_type(r.get(timeout=5), int)
    assert_type(r.result, int | None)
    assert_type(r.error_message, str | None)
    assert_type(r.is_ready(), bool)
    assert_type(r.is_waiting(), bool)
    assert_type(r.has_error, bool)
    if r.is_ready and not r.has_error:
        assert_type(r.status, str)
    assert_type(r.progress, Progress | None)
    assert_type(r.due, datetime.datetime)
    assert_type(r.finished, datetime.datetime | None)
    assert_type(r.cancel(), bool)
    assert_type(r.uuid, str)
    wider: Result[object] = r
    print(wider)


async def in_an_event_loop() -> None:
    assert_type(await send_mail("a@b.c", "hi"), int)
    assert_type(await send_mail.aenqueue("a@b.c", "hi"), Result[int])
    assert_type(await (await fetch.aenqueue("https://x")), bytes)
    assert_type(await fetch.call("https://x"), bytes)
    assert_type(await send_mail.options(minutes=1).aenqueue("a@b.c", "hi"), Result[int])
    await asyncio.gather(fetch("https://x"), fetch("https://y"))


@autocron.cron("0 2 * * *")
def nightly() -> str:
    return "done"


@autocron.cron
def each_minute() -> None: ...


@autocron.cron(minutes=[0, 30], hours="9-17", dow=["mon", 2], tz=datetime.UTC, missed="skip", overlap="allow")
async def often() -> None: ...


@autocron.cron(unix="30 9 * * mon,wed", catch_up=60)
@autocron.delay(retries=3)
def both() -> int:
    return 1


@autocron.every(seconds=90, start_now=True)
def look(now: bool = True) -> None: ...


def crons() -> None:
    assert_type(nightly(), str)
    assert_type(each_minute(), None)
    coroutine: Coroutine[Any, Any, None] = often()
    print(coroutine)
    assert_type(both(), Result[int])
    assert_type(both.options(minutes=1).enqueue(), Result[int])
    look(now=False)


def the_rest(app: Callable[[], object]) -> None:
    assert_type(autocron.start("shop.db"), bool)
    assert_type(autocron.start(database_file="shop.db", workers=2), bool)
    assert_type(autocron.Engine().start("shop.db", strict=True), bool)
    assert_type(autocron.stop(timeout=5), bool)
    assert_type(autocron.get_results(10, state="done"), list[Result[Any]])
    assert_type(autocron.in_worker(), bool)
    autocron.progress(1, 2, "note")
    tasks: list[Task[..., Any]] = [send_mail, fetch]
    print(tasks, app)


def test_mail(autocron: Recording) -> None:
    [call] = autocron.enqueued(send_mail)
    assert_type(call, Enqueued)
    assert_type(autocron.enqueued(nightly), list[Enqueued])
    assert_type(autocron.drain(allow_errors=True), list[Result[Any]])
    autocron.travel(hours=2)
    with recording() as inner:
        assert_type(inner.now, datetime.datetime)
