"""What the contract of adapters needs of a framework, and the servers that it starts."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from autocron_web import execution, tasks
from autocron_web.client import StoreClient
from autocron_web.engine import Engine
from conftest import CHECKOUT, free_port, wait_until
from pool_app import alive, pids

Settings = Mapping[str, Any]


class Reply(NamedTuple):
    """An HTTP answer; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Adapter:
    """One framework's adapter, as the contract needs it. Each framework fills in one of these.

    name: of the adapter's module, `autocron_web.<name>`.
    needs: the module without which the adapter cannot be imported; "" if there is none.
    files: the sample app, by file name. It is importable as `shop`, reads its settings (our words) from
        the JSON in the environment variable `SHOP_SETTINGS`, has a task that tells what it sees of its
        framework (see `context`), answers `/` with anything and `/call/<word>` with
        `{"result": …}` of that task.
    commands: command lines that load the app and serve nothing, with the programs beside this Python.
    """

    name: str
    needs: str
    files: Mapping[str, str]
    commands: Sequence[str]

    def __repr__(self) -> str:
        return self.name

    def context(self, word: str) -> list[Any]:
        """What the sample app's task tells, called with this word."""
        raise NotImplementedError

    def command(self, port: int) -> list[str]:
        """How its developers serve the sample app."""
        raise NotImplementedError

    def spell(self, word: str) -> str:
        """How a setting is called in this framework."""
        return word

    def app(self, settings: Settings) -> Any:
        """An app called `shop` in this process, with the adapter. Raises what the developer would see."""
        raise NotImplementedError

    def install_again(self, app: Any) -> None:
        """Install the adapter once more in the same app."""
        raise NotImplementedError

    def ask(self, app: Any, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        """The answer of such an app, without a server."""
        raise NotImplementedError


# -- in this process: pytest serves nothing, so no pool is started -----------------------------------------


@pytest.fixture
def own_engine(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Engine]:
    """An engine of this test's own, behind every adapter, and no task of other tests.

    A module that a test before has imported first has that test's engine.
    """
    own = Engine()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "autocron_web" and isinstance(getattr(module, "engine", None), Engine):
            monkeypatch.setattr(module, "engine", own)
    monkeypatch.setattr(tasks, "registry", {})
    monkeypatch.setattr(execution, "surroundings", [])
    yield own
    if isinstance(own._client, StoreClient):
        own._client._store.close()


# -- in processes of their own -----------------------------------------------------------------------------


class Server:
    """A server in a process of its own."""

    def __init__(self, folder: Path, number: int = 0) -> None:
        self._folder = folder
        self._output = folder / f"output{number}"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *command: str, **environment: str) -> None:
        """Start it, and wait until it takes connections."""
        self.launch(*command, **environment)
        self.wait_until_up()

    def launch(self, *command: str, **environment: str) -> None:
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env={**app_environment(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_up(self) -> None:
        wait_until(self._is_up, 30, "the server")

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(self.output)
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def output(self) -> str:
        return self._output.read_text()

    def ask(self, path: str, method: str = "GET", **headers: str) -> bytes:
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return bytes(response.read())
        except http.client.HTTPException as error:  # a reload has ended the server in the middle of it
            raise ConnectionError(f"no whole answer: {error}") from error

    def get(self, word: str) -> Any:
        return json.loads(self.ask(f"/{word}"))

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to all of its processes, and wait until it has ended.

        Again if it serves on: wsgiref catches everything in a request, also what Ctrl-C raises.
        """
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.ask("/")
            os.killpg(self._process.pid, signal.SIGINT)
            self._process.wait(20)

    def stop(self) -> None:
        """SIGTERM, as a service manager sends it, and wait until it has ended."""
        if self._process is None:
            return
        group = self._process.pid
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(15)
        try:
            os.killpg(group, signal.SIGKILL)  # a reloader's child
        except ProcessLookupError:
            pass


def app_environment() -> dict[str, str]:
    """The environment in which the programs of these tests find this package and each other."""
    scripts = sysconfig.get_path("scripts")
    return {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class Site:
    """The sample app of an adapter in a folder, and its servers."""

    def __init__(self, adapter: Adapter, folder: Path) -> None:
        self._adapter = adapter
        self._folder = folder
        self._servers: list[Server] = []
        for name, source in adapter.files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)

    def launch(self, **settings: Any) -> Server:
        """Start one more server, with these settings."""
        server = Server(self._folder, len(self._servers))
        self._servers.append(server)
        server.launch(*self._adapter.command(server.port), SHOP_SETTINGS=json.dumps(settings))
        return server

    def run(self, *command: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run another command in the folder."""
        return subprocess.run(
            command, cwd=self._folder, env={**app_environment(), "SHOP_SETTINGS": json.dumps(settings)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90,
        )  # fmt: skip

    def stop(self) -> None:
        for server in self._servers:
            server.stop()
        end_pools()


def end_pools() -> None:
    """The servers have ended: without this, the pool would linger."""
    for monitor in pids("monitor"):
        if alive(monitor):
            os.kill(monitor, signal.SIGTERM)
