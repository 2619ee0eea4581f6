"""Tornado: a button calls a task; the page shows the newest jobs. `python app.py [PORT]`"""

import asyncio
import sys

from tornado.web import Application, RequestHandler

import autocron_web as autocron
from autocron_web.tornado import install


@autocron.delay
async def bake(cake: str) -> str:
    await asyncio.sleep(2)
    return f"a {cake} cake"


class Index(RequestHandler):
    async def get(self) -> None:
        jobs = await asyncio.to_thread(autocron.get_results, 10)
        rows = "".join(f"<li>{job.status}: {job.result or ''}" for job in jobs)
        self.write(f"<form method=post action=/bake><button>Bake a cake</button></form><ul>{rows}</ul>")


class Bake(RequestHandler):
    async def post(self) -> None:
        await bake.aenqueue("chocolate")
        self.redirect("/")


async def main() -> None:
    app = Application([("/", Index), ("/bake", Bake)])
    install(app, database="tornado_example.db", status=True)
    app.listen(int(sys.argv[1]) if len(sys.argv) > 1 else 8000, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
