"""A small shop of Tornado: one process, or two with `fork` on the command line."""

from __future__ import annotations

import asyncio
import sys

from small import DATABASE, PORT, WORKERS, answer
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.process import fork_processes
from tornado.web import Application, RequestHandler

from autocron_web.tornado import install


class Page(RequestHandler):
    def get(self) -> None:
        self.write(answer(self.request.method or "", self.request.path))

    post = get


async def serve() -> None:
    HTTPServer(app).add_sockets(sockets)
    await asyncio.Event().wait()


app = Application([("/.*", Page)])
install(app, database=DATABASE, workers=WORKERS)

if __name__ == "__main__":
    sockets = bind_sockets(PORT, "127.0.0.1")
    if "fork" in sys.argv:
        fork_processes(2)
    asyncio.run(serve())
