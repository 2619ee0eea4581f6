"""Tornado, for the contract of adapters."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from adapter_site import Adapter, Reply, Settings
from contract_asgi import TEST
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from autocron_web.tornado import install

SHOP = """
import asyncio, json, os, sys
from tornado import gen
from tornado.ioloop import IOLoop
from tornado.web import Application, RequestHandler
import autocron_web as autocron
from autocron_web.tornado import install

@autocron.delay
async def context(word):
    await gen.sleep(0.01)
    return [IOLoop.current().asyncio_loop is asyncio.get_running_loop(), word]

class Index(RequestHandler):
    def get(self):
        self.write("the shop")

class Call(RequestHandler):
    async def get(self, word):
        self.write({"result": await context(word)})

def make_app():
    return Application([("/", Index), ("/call/(.*)", Call)])

async def main(port):
    app = make_app()
    install(app, **json.loads(os.environ["SHOP_SETTINGS"]))
    app.listen(port, "127.0.0.1")
    await asyncio.Event().wait()

if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
else:
    app = make_app()
"""


class Index(RequestHandler):
    def get(self) -> None:
        self.write("the shop")


class TornadoAdapter(Adapter):
    name = "tornado"
    needs = "tornado"
    files = {"shop.py": SHOP, "test_shop.py": TEST}
    commands = ("python -m pytest -p no:cacheprovider test_shop.py",)

    def context(self, word: str) -> list[Any]:
        return [True, word]

    def command(self, port: int) -> list[str]:
        return [sys.executable, "shop.py", str(port)]

    def app(self, settings: Settings) -> Application:
        app = Application([("/", Index)])
        install(app, **settings)
        return app

    def install_again(self, app: Application) -> None:
        install(app, database="orders.db")

    def ask(self, app: Application, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        async def request() -> Reply:
            server = HTTPServer(app)
            sock, port = bind_unused_port()
            server.add_sockets([sock])
            try:
                answer = await AsyncHTTPClient().fetch(
                    f"http://127.0.0.1:{port}{path}",
                    method=method, headers=dict(headers), allow_nonstandard_methods=True, raise_error=False,
                )  # fmt: skip
            finally:
                server.stop()
            names = {name.lower(): value for name, value in answer.headers.get_all()}
            return Reply(answer.code, names, answer.body)

        return asyncio.run(request())
