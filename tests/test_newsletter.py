"""The demo, used as a person would: once by its own check, once with a real browser."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import CHECKOUT, RunScript, Script, cannot_run, need, wait_until

RUN = CHECKOUT / "examples" / "newsletter" / "run.py"

pytestmark = [pytest.mark.once, pytest.mark.timeout(180)]  # the digest comes with the next full minute


def test_the_check_uses_everything_once_and_leaves_nothing(run_script: RunScript) -> None:
    script = run_script(RUN, "--check", "--port", 8100, wait=False)
    output = script.succeed(150)
    for step in (
        "1 reader is confirmed",
        "200 new, 0 known",
        "mail to 201 readers: Your digest",
        "nothing of it runs",
    ):
        assert step in output


def test_the_check_fails_with_a_sentence_where_no_job_runs(run_script: RunScript) -> None:
    script = run_script(RUN, "--check", "--port", 8200, env={"AUTOCRON_MODE": "off"}, wait=False)
    assert script.wait(60) == 1
    assert "The check failed: waited for" in script.stderr


# -- in a browser -------------------------------------------------------------------------------

#: What to switch off in a browser that is to do nothing but show one page.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

#: Notes each state in which a job is shown, by the name of its task, and that this is still the same page.
WATCH = """
    window.seen = {};
    new MutationObserver(() => {
      for (const row of document.querySelectorAll("#jobs tr")) {
        const states = (window.seen[row.querySelector(".task").textContent] ??= []);
        if (states.at(-1) !== row.dataset.status) states.push(row.dataset.status);
      }
    }).observe(document.getElementById("jobs"), {childList: true, subtree: true, attributes: true});
"""


@pytest.fixture
def demo(run_script: RunScript, home: Path) -> Iterator[Script]:
    """The demo, serving; at the end of the test it is ended by Ctrl-C and must end well."""
    script = run_script(RUN, "--port", 8300, env={"NEWSLETTER_VAR": str(home / "newsletter")}, wait=False)
    script.wait_for("(Ctrl-C ends it)")
    yield script
    script.process.send_signal(signal.SIGINT)
    assert script.wait(20) == 0, script.stderr
    assert script.stdout.endswith("All has ended.\n")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A headless Chromium with a profile of its own."""
    chromium, driver = need("chromium"), need("chromedriver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        cannot_run("the package selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    window = webdriver.Chrome(options=options, service=Service(driver))
    yield window
    window.quit()


def script_value(browser: Any, expression: str) -> Callable[[], Any]:
    return lambda: browser.execute_script(f"return {expression}")


def test_the_page_shows_jobs_from_their_call_to_their_end_without_a_reload(
    demo: Script, browser: Any
) -> None:
    url = demo.stdout.split("The newsletter is at ")[1].split()[0]
    browser.get(url)
    browser.execute_script(WATCH)

    browser.find_element("id", "address").send_keys("ada@example.org")
    browser.find_element("css selector", "form[action='/subscribe'] button").click()
    demo.wait_for("mail to ada@example.org: Please confirm your subscription")
    mail = script_value(browser, "window.seen['send confirmation']")
    wait_until(lambda: (mail() or [])[-1:] == ["done"], 20, "the confirmation to be shown as done")
    assert mail()[0] in ("waiting", "running")
    assert "ada@example.org is on its way" in browser.find_element("id", "message").text

    browser.find_element("css selector", "form[action='/import'] button").click()
    part = script_value(
        browser, "[...document.querySelectorAll('progress')].some(b => b.value > 0 && b.value < b.max)"
    )
    wait_until(part, 20, "a progress bar in the middle of its way")
    imports = script_value(browser, "window.seen['import addresses']")
    wait_until(lambda: (imports() or [])[-1:] == ["done"], 30, "the import to be shown as done")
    assert "running" in imports()
    assert "200 new, 0 known" in browser.find_element("id", "jobs").text
    assert browser.find_element("id", "all").text == "201"

    problems = [entry["message"] for entry in browser.get_log("browser")]
    assert problems == []


def test_the_page_fits_a_phone(demo: Script, browser: Any) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.get(demo.stdout.split("The newsletter is at ")[1].split()[0])
    browser.find_element("css selector", "form[action='/import'] button").click()
    rows = script_value(browser, "document.querySelectorAll('#jobs tr').length")
    wait_until(rows, 20, "a job on the page")
    assert script_value(browser, "document.documentElement.scrollWidth")() <= phone["width"]
