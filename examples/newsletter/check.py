"""`run.py --check`: the demo, used once from outside as a person would, with every step printed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

RUN = Path(__file__).resolve().with_name("run.py")
MARK = "NEWSLETTER_CHECK"
ADDRESS = "check@example.org"

Found = TypeVar("Found")


class Failed(Exception):
    """A step did not come about; the message says which."""


class Demo:
    """A running demo: a process, the lines that it prints, and its address."""

    def __init__(self, folder: str, port: int) -> None:
        self.mark = uuid.uuid4().hex
        environment = {**os.environ, "NEWSLETTER_VAR": folder, MARK: self.mark}
        command = [sys.executable, str(RUN), "--port", str(port)]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""

    def ready(self) -> None:
        """Wait until it serves."""
        self.url = self.printed(r"The newsletter is at (http\S+)/", 30)[1]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            print(f"    {line.rstrip()}", flush=True)
            self.lines.append(line.rstrip())

    def printed(self, pattern: str, seconds: float) -> re.Match[str]:
        """Wait for a line in the terminal."""
        what = f'a line like "{pattern}" in the terminal'

        def look() -> re.Match[str] | None:
            ended = self.process.poll() is not None  # asked first: its last lines may still come in
            if ended:
                self._reader.join(5)
            found = next((found for line in self.lines if (found := re.search(pattern, line))), None)
            if ended and found is None:
                raise Failed(f"the demo ended by itself, without {what}")
            return found

        return wait(what, look, seconds)

    def ask(self, path: str, form: dict[str, str] | None = None) -> Any:
        """Open a page, or send a form; the JSON in the answer."""
        data = None if form is None else urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(self.url + path, data, {"Accept": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def job(self, matches: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        """The newest job on the page that matches."""
        return next(filter(matches, self.ask("/jobs")["jobs"]), None)

    def finished(self, job_id: str, seconds: float) -> dict[str, Any]:
        """Wait until a job is done."""
        job = wait(
            f"job {job_id}",
            lambda: self.job(lambda job: job["id"] == job_id and job["status"] not in ("waiting", "running")),
            seconds,
        )
        if job["status"] != "done":
            raise Failed(f"{job['task']} ended in {job['status']}: {job['text']}")
        return job

    def left(self) -> list[int]:
        """The ids of all processes that the demo has started, whoever their parent is; reads /proc."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0") and not is_zombie(entry):
                    found.append(int(entry.name))
            except OSError:
                continue  # ended meanwhile, or somebody else's
        return found

    def end(self) -> None:
        """Ctrl-C, and wait until the demo has ended by itself."""
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            raise Failed("the demo did not end within 20 s of Ctrl-C") from None
        self._reader.join(5)
        if code != 0:
            raise Failed(f"the demo ended with exit code {code}")

    def kill(self) -> None:
        """End whatever is left."""
        for pid in [*self.left(), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()


def is_zombie(entry: Path) -> bool:
    """Whether a process has ended, and only its parent has not yet noticed."""
    return (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"


def wait(what: str, look: Callable[[], Found | None], seconds: float) -> Found:
    """Look until there is something; `Failed` after `seconds`."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise Failed(f"waited for {what}, at most {seconds:g} s, and it did not come")
        time.sleep(0.1)
    return found


def subscribe(demo: Demo) -> None:
    say(f"subscribe {ADDRESS}")
    answer = demo.ask("/subscribe", {"address": ADDRESS})
    link = demo.printed(rf"mail to {ADDRESS}: .* (http\S+)", 20)[1]
    say(f"the confirmation mail has arrived; the job is {demo.finished(answer['job']['id'], 20)['status']}")
    with urllib.request.urlopen(link, timeout=10):
        pass
    if demo.ask("/jobs")["confirmed"] != 1:
        raise Failed("the link in the mail was opened, and the address is not confirmed")
    say("its link was opened: 1 reader is confirmed")


def import_addresses(demo: Demo) -> None:
    job_id = demo.ask("/import", {})["job"]["id"]
    seen: list[int] = []

    def look() -> dict[str, Any] | None:
        job = demo.job(lambda job: job["id"] == job_id)
        if job and job["done"] and job["done"] not in seen:
            seen.append(job["done"])
        return job if job and job["status"] not in ("waiting", "running") else None

    job = wait("the end of the import", look, 60)
    if job["status"] != "done" or len(seen) < 3 or seen != sorted(seen):
        raise Failed(f"the import is {job['status']} ({job['text']}), and its progress was seen at {seen}")
    say(f"the import is done: {job['text']}; its progress was seen at {', '.join(map(str, seen))}")


def digest(demo: Demo) -> None:
    """The one to all who are on the list by now: a minute that began during the import has had its own."""
    readers = f"{demo.ask('/jobs')['confirmed']} readers"
    say(f"wait for the digest to {readers}, which is due in {60 - time.time() % 60:.0f} s")
    demo.printed(rf"mail to {readers}: Your digest", 75)
    job = wait(
        "a finished digest",
        lambda: demo.job(lambda job: job["task"] == "send digest" and job["text"] == f"sent to {readers}"),
        10,
    )
    say(f"the digest has arrived: {job['text']}")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def main(port: int) -> int:
    """Run all steps. 0 if everything happened and nothing is left, else 1."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell runs with `&` would ignore Ctrl-C
    with tempfile.TemporaryDirectory(prefix="newsletter-") as folder:
        say("start the demo")
        demo = None
        try:
            demo = Demo(folder, port)
            demo.ready()
            subscribe(demo)
            import_addresses(demo)
            digest(demo)
            say("press Ctrl-C")
            demo.end()
            if left := demo.left():
                raise Failed(f"the demo has ended, and the processes {left} still run")
            say("nothing of it runs any more" if Path("/proc/self").exists() else "it has ended")
        except (Failed, OSError) as error:
            print(f"The check failed: {error}", file=sys.stderr)
            return 1
        finally:
            if demo is not None:
                demo.kill()
    say("all well")
    return 0
