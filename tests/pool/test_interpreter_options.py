"""Workers have the interpreter options of the app."""

from __future__ import annotations

import json
import sys

import pytest

from pool_app import App, app  # noqa: F401

TELL = """
@autocron.delay
def options(word):
    import json
    names = "optimize bytes_warning isolated ignore_environment no_user_site dev_mode utf8_mode"
    flags = {name: getattr(sys.flags, name) for name in names.split()}
    note("options", json.dumps([flags, sys._xoptions, sys.warnoptions, __debug__]).replace(" ", ""))
"""


@pytest.mark.once
@pytest.mark.parametrize("preload", ["on", "off"])
@pytest.mark.parametrize(
    "given",
    [
        ["-O"],
        ["-OO", "-bb", "-E", "-s"],
        ["-I", "-X", "utf8=0"],
        ["-X", "utf8", "-X", "int_max_str_digits=5000"],
        ["-X", "dev", "-W", "error::FutureWarning", "-W", "ignore:a message"],
        ["-X", "importtime"],
    ],
    ids=" ".join,
)
def test_workers_have_the_options_of_the_app(app: App, given: list[str], preload: str) -> None:
    app.add(TELL)
    app.file.write_text(
        app.file.read_text().replace('print("called"', 'options.call("app")\n    print("called"')
    )
    app.run("options:task", through=[sys.executable, *given], env={"AUTOCRON_PRELOAD": preload})
    (_, of_app), (_, of_task) = app.wait_for("options", count=2, timeout=40)
    told, found = json.loads(of_app), json.loads(of_task)
    told[1].pop("importtime", None)  # it would fill the log
    assert found == told


@pytest.mark.once
def test_other_options_are_another_way_of_loading(app: App) -> None:
    app.add(TELL)
    app.run("options:one")
    app.wait_for("options", timeout=40)
    app.run("options:two", through=[sys.executable, "-O"])
    app.wait_for("options", count=2, timeout=40)
    assert [json.loads(line[1])[3] for line in app.lines("options")] == [True, False]
