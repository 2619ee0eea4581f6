"""What users must not write: both checkers find an error in each marked line, and nowhere else."""

import autocron_web as autocron
from autocron_web import Result


@autocron.delay
def send_mail(address: str, text: str, *, copies: int = 1) -> int:
    return copies


@autocron.delay(retries=1)
async def fetch(url: str) -> bytes:
    return url.encode()


send_mail("a@b.c")  # error
send_mail("a@b.c", 5)  # error
send_mail("a@b.c", "hi", 2)  # error
send_mail("a@b.c", "hi", copy=2)  # error
send_mail.call("a@b.c")  # error
send_mail.options(minutes=1).enqueue("a@b.c")  # error
send_mail.options(minuets=1)  # error
send_mail.options(name="other")  # error
send_mail.options(retries="3")  # error
send_mail.options(unique="arguments")  # error
send_mail.enqueue_many(["a@b.c"])  # error
fetch(5)  # error

text: str = send_mail("a@b.c", "hi").get()  # error
number: int = send_mail("a@b.c", "hi")  # error
certain: int = send_mail("a@b.c", "hi").result  # error
of_another: Result[str] = send_mail("a@b.c", "hi")  # error
print(send_mail("a@b.c", "hi").resutl)  # error
print(send_mail("a@b.c", "hi").function_name)  # error


async def in_an_event_loop() -> None:
    text: str = await send_mail("a@b.c", "hi")  # error
    await send_mail.aenqueue("a@b.c")  # error
    data: bytes = fetch.call("https://x")  # error
    print(text, data)


@autocron.delay(minute=5)  # error
def wrong_word() -> None: ...


@autocron.delay(queue=5)  # error
def wrong_type() -> None: ...


@autocron.cron("0 2 * * *")  # error
def with_an_argument(user_id: int) -> None: ...


@autocron.every()  # error
def without_seconds() -> None: ...


autocron.cron("* * * * *", missed="twice")  # error
autocron.cron(minute=[1])  # error
autocron.start()  # error
autocron.start("shop.db", workers="two")  # error
autocron.get_results("ten")  # error
