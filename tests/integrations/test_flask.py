"""Flask: the app's context in every task, its configuration, and one pool under each way to serve it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from adapter_site import Server, app_environment, end_pools, own_engine
from flask import Flask, current_app, request

import autocron_web as autocron
from autocron_web.engine import Engine
from autocron_web.flask import AutocronFlask
from conftest import need, pool_processes, wait_until
from pool_app import wait_for_pool

pytestmark = pytest.mark.once

# -- set-up, in this process: pytest serves nothing, so no pool is started ---------------------------------


engine = own_engine


def refusal(call: Callable[..., object], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(autocron.ConfigError) as error:
        call(*args, **kwargs)
    return str(error.value)


@pytest.mark.usefixtures("engine")
def test_the_database_is_called_as_the_app(home: Path) -> None:
    app = Flask("shop")
    AutocronFlask(app)
    assert app.config["AUTOCRON_DATABASE"] == "shop.db"
    assert (home / "shop.db").exists()
    assert pool_processes() == {}


@pytest.mark.usefixtures("engine")
def test_the_configuration_says_what_is_and_keywords_go_before_it(home: Path) -> None:
    app = Flask("shop")
    app.config.update(AUTOCRON_DATABASE="a.db", AUTOCRON_WORKERS=3)
    AutocronFlask(app, database="b.db", status=False)
    assert (home / "b.db").exists()
    assert not (home / "a.db").exists()
    given = {key: value for key, value in app.config.items() if key.startswith("AUTOCRON_")}
    assert given == {
        "AUTOCRON_DATABASE": "a.db",  # what the app has set is left as it is
        "AUTOCRON_WORKERS": 3,
        "AUTOCRON_STATUS": False,
        "AUTOCRON_URL_PREFIX": "/autocron",
        "AUTOCRON_TOKEN": None,
        "AUTOCRON_AUTOSTART": True,
        "AUTOCRON_MAX_JOBS": None,
        "AUTOCRON_MAX_MEMORY": None,
    }


def test_init_app_is_for_factories(engine: Engine) -> None:
    extension = AutocronFlask(workers=3)
    app = Flask("shop")
    extension.init_app(app, database="shop.db")
    assert app.extensions["autocron"] is extension
    assert engine._workers == 3
    app = Flask("shop")  # a second app of the same factory, as tests make them
    extension.init_app(app, database="shop.db")
    assert app.extensions["autocron"] is extension


@pytest.mark.usefixtures("engine")
def test_a_second_init_is_refused_with_advice() -> None:
    app = Flask("shop")
    AutocronFlask(app)
    for again in (lambda: AutocronFlask(app), lambda: AutocronFlask().init_app(app)):
        assert refusal(again) == (
            "autocron-web is set up for the Flask app 'shop' already:"
            " call AutocronFlask(app) or init_app(app) once for each app"
        )


def test_without_autostart_nothing_happens(engine: Engine, home: Path) -> None:
    app = Flask("shop")
    app.config["AUTOCRON_AUTOSTART"] = False
    AutocronFlask(app)
    assert list(home.iterdir()) == []
    with pytest.raises(autocron.NotStarted):
        engine.get_results()


@pytest.mark.parametrize(
    ("name", "config", "keywords", "sentence"),
    [
        ("shop", {"AUTOCRON_WORKERS": "2"}, {}, "AUTOCRON_WORKERS is '2': give a whole number"),
        ("shop", {}, {"workers": 0}, "AUTOCRON_WORKERS is 0: give a whole number from 1 to 256"),
        ("shop", {"AUTOCRON_AUTOSTART": "yes"}, {}, "AUTOCRON_AUTOSTART is 'yes': it can be True or False"),
        ("shop", {}, {"worker": 2}, "worker: no such setting; there are database, workers, status"),
        ("shop", {"AUTOCRON_WORKER": 2}, {}, "AUTOCRON_WORKER: no such setting; there are AUTOCRON_"),
        ("shop", {"AUTOCRON_DATABASE": "/no/x.db"}, {}, "the folder /no of the database '/no/x.db'"),
        ("app", {}, {}, "the application is called 'app', as many are: name its database with AUTO"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("engine")
def test_a_wrong_setting_is_named(
    name: str, config: dict[str, Any], keywords: dict[str, Any], sentence: str, home: Path
) -> None:
    app = Flask(name)
    app.config.update(config)
    assert refusal(AutocronFlask, app, **keywords).startswith(sentence)
    assert list(home.iterdir()) == []


@pytest.mark.usefixtures("engine")
def test_a_second_app_with_another_database_is_refused(home: Path) -> None:
    AutocronFlask(Flask("shop"))
    text = refusal(AutocronFlask, Flask("forum"))
    assert text.startswith(f"autocron-web uses {home}/shop.db already: one application has one database, not")


def test_inline_a_task_runs_in_the_context_of_the_app(
    engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOCRON_MODE", "inline")
    app = Flask("shop")
    app.config["COLOUR"] = "green"
    AutocronFlask(app)

    @autocron.delay
    def context() -> list[str]:
        return [current_app.name, current_app.config["COLOUR"]]

    @autocron.delay
    async def later() -> str:
        return current_app.name

    assert context().result == ["shop", "green"]
    assert later().result == "shop"
    assert list(home.iterdir()) == []


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(("allowed", "more"), [(True, True), ("detail", True), (False, False), (None, False)])
def test_who_may_see_more_of_the_status_is_the_apps_choice(allowed: object, more: bool) -> None:
    app = Flask("shop")
    AutocronFlask(app, status=True, auth=lambda: request.args["who"] == "admin" and allowed)
    get = app.test_client().get
    assert (len(get("/autocron/status?who=admin").data) > 100) == more
    assert get("/autocron/status?who=me").json == {"status": "fail"}


@pytest.mark.usefixtures("engine")
def test_a_route_that_the_app_has_already_is_not_taken() -> None:
    app = Flask("shop")
    app.add_url_rule("/autocron/ready", "ready", lambda: "mine")
    assert refusal(AutocronFlask, app, status=True) == (
        "the app has a route /autocron/ready already: give another AUTOCRON_URL_PREFIX than '/autocron'"
    )


# -- servers -----------------------------------------------------------------------------------------------

SHOP = """
import os, sys
from flask import Flask, current_app
import autocron_web as autocron
from autocron_web.flask import AutocronFlask

@autocron.delay
def context(word):
    url = current_app.url_map.bind("localhost").build("index", {"word": word})
    return [current_app.name, current_app.config["GIVEN"], sorted(current_app.extensions), url]

def create_app(given="none"):
    app = Flask("shop")
    app.config.update(GIVEN=given, AUTOCRON_DATABASE="shop.db")
    AutocronFlask(app)

    @app.get("/<word>")
    def index(word):
        r = context(word)
        return {"result": r.get(20), "pid": os.getpid()}

    return app
"""

GUARDED = """
if __name__ == "__main__":
    create_app("by main").run(port=int(sys.argv[1]))
"""

PLAIN = """
app = create_app("at import")
if __name__ == "__main__":
    app.run(port=int(sys.argv[1]))
"""

UNGUARDED = """
app = create_app("at import")
app.run(port=int(sys.argv[1]))
"""


@pytest.fixture
def server(tmp_path: Path, home: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()
    end_pools()


def write(folder: Path, source: str, name: str = "shop") -> str:
    file = folder / f"{name}.py"
    file.write_text(source)
    return str(file)


def expected(given: str, word: str) -> list[Any]:
    return ["shop", given, ["autocron"], f"/{word}"]


@pytest.mark.parametrize(
    ("end", "given"), [(GUARDED, "by main"), (PLAIN, "at import"), (UNGUARDED, "at import")],
    ids=["guarded", "plain", "unguarded"],
)  # fmt: skip
def test_python_app_py(server: Server, tmp_path: Path, end: str, given: str) -> None:
    server.start(sys.executable, write(tmp_path, SHOP + end), str(server.port))
    assert server.get("a")["result"] == expected(given, "a")
    wait_for_pool()
    assert server.output.count("Running on") == 1  # no worker serves as well


SET_UP_LATE = """
import sys
import click
from flask import Flask, current_app
import autocron_web as autocron
from autocron_web.flask import AutocronFlask

app = Flask("shop")

@autocron.delay
def name():
    return current_app.name

@app.get("/name")
def index():
    return {"result": name().get(20)}
"""


WAYS_TO_SET_UP = {
    "guard": """
if __name__ == "__main__":
    AutocronFlask(app)
    app.run(port=int(sys.argv[1]))
""",
    "function": """
def main():
    AutocronFlask(app)
    app.run(port=int(sys.argv[1]))

if __name__ == "__main__":
    main()
""",
    "command": """
@click.command()
@click.argument("port", type=int)
def main(port):
    AutocronFlask(app)
    app.run(port=port)

if __name__ == "__main__":
    main()
""",
}


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(end, id=name, marks=pytest.mark.matrix if name == "function" else ())
        for name, end in WAYS_TO_SET_UP.items()
    ],
)
def test_tasks_have_the_context_of_an_app_that_is_set_up_where_no_worker_comes(
    server: Server, tmp_path: Path, end: str
) -> None:
    server.start(sys.executable, write(tmp_path, SET_UP_LATE + end), str(server.port))
    assert server.get("name")["result"] == "shop"
    wait_for_pool()
    assert server.output.count("Running on") == 1


def test_gunicorn_with_a_factory(server: Server, tmp_path: Path) -> None:
    write(tmp_path, SHOP)
    bind = f"127.0.0.1:{server.port}"
    server.start(need("gunicorn"), "-w", "2", "--threads", "2", "-b", bind, "shop:create_app('y')")
    seen = set()
    wait_for_pool()
    for i in range(20):
        answer = server.get(f"a{i}")
        assert answer["result"] == expected("y", f"a{i}")
        seen.add(answer["pid"])
    wait_for_pool()
    assert seen


def test_gunicorn_with_an_app_of_another_module(server: Server, tmp_path: Path) -> None:
    write(tmp_path, SHOP)
    write(tmp_path, "import shop\nsite = shop.create_app('from wsgi')\n", "entry")
    server.start(need("gunicorn"), "-w", "1", "-b", f"127.0.0.1:{server.port}", "entry:site")
    assert server.get("a")["result"] == expected("from wsgi", "a")
    wait_for_pool()


@pytest.mark.parametrize("app", ["shop", "shop:create_app('none')", "shop:app"])
def test_flask_run(server: Server, tmp_path: Path, app: str) -> None:
    """With a factory that Flask finds, one that is named, and an app object."""
    end = "app = create_app()" if app == "shop:app" else ""
    write(tmp_path, SHOP + end)
    server.start(need("flask"), "--app", app, "run", "--port", str(server.port))
    assert server.get("a")["result"] == expected("none", "a")
    wait_for_pool()


def test_flask_debug_run_has_one_pool_which_runs_the_new_code_after_a_reload(
    server: Server, tmp_path: Path
) -> None:
    write(tmp_path, SHOP)
    server.start(need("flask"), "--app", "shop", "--debug", "run", "--port", str(server.port))
    first = server.get("a")
    assert first["result"] == expected("none", "a")
    monitors, _ = wait_for_pool()
    write(tmp_path, SHOP.replace('given="none"', 'given="new"'))

    def reloaded() -> bool:
        try:
            return bool(server.get("b")["result"] == expected("new", "b"))
        except OSError:
            return False  # between the two

    wait_until(reloaded, 30, "the new code")
    assert server.get("c")["pid"] != first["pid"]
    assert wait_for_pool()[0] == monitors


@pytest.mark.parametrize("command", [["routes"], ["shell"], ["--help"], ["report"]])
def test_commands_start_no_pool_and_can_call_tasks(
    command: list[str], tmp_path: Path, home: Path, server: Server
) -> None:
    write(
        tmp_path,
        SHOP
        + """
app = create_app()

@app.cli.command()
def report():
    print("stored", context("x").status)
""",
    )
    run = subprocess.run(
        [need("flask"), "--app", "shop", *command],
        cwd=tmp_path, env=app_environment(), capture_output=True, text=True, timeout=30,
        input="from shop import context\nprint('stored', context('x').status)\n",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert pool_processes() == {}
    assert ("stored waiting" in run.stdout) == (command[0] in ("shell", "report"))


def test_flask_has_the_commands_for_its_database(tmp_path: Path, home: Path) -> None:
    write(tmp_path, SHOP + "\napp = create_app()\nif not autocron.in_worker(): context('x')\n")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [need("flask"), "--app", "shop", "autocron", *words],
            cwd=tmp_path, env=app_environment(), capture_output=True, text=True, timeout=30,
        )  # fmt: skip

    assert "--set-autocron-lock" in run("--help").stdout
    told = run("status", "--json")
    assert (told.returncode, json.loads(told.stdout)["pool"]["jobs"]["waiting"]) == (2, 2)
    assert "shop.context" in run("--tasks").stdout
    refused = run("nothing")
    assert refused.returncode == 2
    assert "Usage: flask autocron" in refused.stderr
    assert pool_processes() == {}


def test_a_factory_that_no_worker_can_call_is_named(server: Server, tmp_path: Path) -> None:
    write(tmp_path, SHOP.replace("GIVEN=given", "GIVEN='x'"))
    server.start(need("gunicorn"), "-b", f"127.0.0.1:{server.port}", "shop:create_app({1: {2}})")
    sentence = "shop.create_app was called with arguments that a worker cannot be given (given): "
    wait_until(lambda: sentence in server.output, 20, "the sentence")
