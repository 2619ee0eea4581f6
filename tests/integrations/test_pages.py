"""The code of the frameworks' pages and the examples run as they stand, as a reader would start them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from adapter_site import Server, end_pools

from autocron_web.settings import Settings
from conftest import CHECKOUT, RunScript, need, pool_processes, wait_until
from pool_app import wait_for_pool

PAGES = ("asgi", "bottle", "flask", "tornado", "wsgi")
EXAMPLES = ("bottle", "flask", "pyramid", "starlette", "tornado", "wsgi")

pytestmark = [pytest.mark.once, pytest.mark.timeout(90)]


def programs(page: str) -> list[tuple[str, str, str]]:
    """The code of a page: file, source, and the command that is shown below it, or "" if there is none."""
    text = (CHECKOUT / "docs" / f"{page}.md").read_text()
    shown = re.findall(r"```python\n# (\S+)\n(.*?)```(?:\n\n```sh\n(.*?)\n)?", text, re.DOTALL)
    return [(file, source, command) for file, source, command in shown]


@pytest.fixture
def server(tmp_path: Path, home: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()
    end_pools()


@pytest.mark.parametrize(
    ("page", "file"), [(page, file) for page in PAGES for file, _, command in programs(page) if command]
)
def test_the_code_of_a_page_runs(page: str, file: str, server: Server, tmp_path: Path) -> None:
    ((_, source, command),) = [program for program in programs(page) if program[0] == file]
    (tmp_path / file).write_text(source.replace("8080", str(server.port)))
    words = command.split("\n")[0].split()
    port = {"uvicorn": "--port", "flask": "--port", "gunicorn": "--bind"}.get(words[0])
    words += [port, f"127.0.0.1:{server.port}" if port == "--bind" else str(server.port)] if port else []
    server.start(need(words[0]), *words[1:], PYTHONUNBUFFERED="1")
    wait_for_pool(workers=3 if file == "factory.py" else 2)
    assert server.get("order/ann")["job"]
    wait_until(lambda: re.search(r"thanks (to )?ann", server.output), 20, "what the task prints")
    if "status=True" in source or "STATUS" in source:
        assert server.get("autocron/status") == {"status": "pass"}


#: How a setting is written on the page of a framework; else it is a keyword.
SPELLED: dict[str, Callable[[str], str]] = {
    "django": lambda word: f'"{word.upper()}": ',
    "flask": lambda word: f"`AUTOCRON_{word.upper()}`",
    "pyramid": lambda word: f"`autocron.{word}`",
}


@pytest.mark.parametrize("page", [*PAGES, "django", "pyramid"])
def test_a_page_has_all_settings(page: str) -> None:
    text = (CHECKOUT / "docs" / f"{page}.md").read_text()
    spell = SPELLED.get(page, lambda word: f"`{word}`")
    for word in Settings._fields:
        if (page, word) != ("django", "url_prefix"):  # there it is the path of the include
            assert spell(word) in text


def test_the_app_that_lets_admins_in_can_be_imported(run_script: RunScript) -> None:
    (source,) = [source for file, source, _ in programs("flask") if file == "admins.py"]
    routes = "print(sorted(map(str, app.url_map.iter_rules())))"
    assert "/autocron/status" in run_script(f"{source}\n{routes}", env={"AUTOCRON_MODE": "off"}).stdout


@pytest.mark.matrix  # `make test` runs the newsletter in this way
@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs_with_one_command_and_ends_by_ctrl_c(example: str, server: Server) -> None:
    command = f"python examples/{example}/app.py"
    assert f"`{command}`" in (CHECKOUT / "examples" / "README.md").read_text()
    server.start(sys.executable, str(CHECKOUT / "examples" / example / "app.py"), str(server.port))
    wait_for_pool()
    with urlopen(Request(f"http://127.0.0.1:{server.port}/bake", method="POST"), timeout=20) as page:
        assert b"<button>Bake a cake</button>" in page.read()
    wait_until(lambda: b"<li>done: a chocolate cake" in server.ask("/"), 20, "the cake")
    assert json.loads(server.ask("/autocron/status")) == {"status": "pass"}
    server.interrupt()
    wait_until(lambda: not pool_processes(), 20, "the end of the pool")
