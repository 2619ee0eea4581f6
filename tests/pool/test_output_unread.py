"""An app whose terminal nobody reads: its pool goes on, whatever tasks print."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from conftest import RunScript
from pool_app import App, app, pids  # noqa: F401

pytestmark = pytest.mark.once

PRINTS = """
@autocron.delay
def chatter(word):
    for number in range(300):
        print("line", number, "." * 9000)
    note("chattered", word)
"""

#: Runs its arguments on a terminal of which it reads nothing until it is told to.
HUNG = """
import os, pty, signal, sys

pid, terminal = pty.fork()
if not pid:
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
print("runs on a terminal", pid, flush=True)
signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_terminal_that_nobody_reads_holds_up_no_job(app: App, run_script: RunScript) -> None:
    app.add(PRINTS)
    hung = app.file.with_name("hung.py")
    hung.write_text(HUNG)
    app.start("hold:a", "chatter:b", through=[sys.executable, str(hung)])
    app.wait_for("begin a")
    app.wait_for("chattered b", timeout=30)
    app.release("a")  # in the other worker
    app.wait_for_states("done", "done", timeout=30)
    command = [sys.executable, "-m", "autocron_web", str(app.store.name), "status", "--json"]
    status = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, env=os.environ)
    (monitor,) = pids("monitor")
    assert f'"pid": {monitor}' in status.stdout
