"""A newsletter with Flask and autocron-web. What takes time is in tasks.py; here it is only called."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import subscribers
import tasks
from flask import Flask, Response, abort, flash, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

import autocron_web as autocron
from autocron_web.flask import AutocronFlask

HERE = Path(__file__).resolve().parent
VAR = Path(os.environ.get("NEWSLETTER_VAR", HERE / "var"))
VAR.mkdir(parents=True, exist_ok=True)

app = Flask(__name__)
app.config.update(
    SECRET_KEY=os.urandom(16),  # for the one-line messages; they need not outlive the process
    TRUSTED_HOSTS=["127.0.0.1", "localhost"],  # links in mails are made from the request's host
    SUBSCRIBERS=str(VAR / "subscribers.db"),
    SMTP=os.environ.get("NEWSLETTER_SMTP", "127.0.0.1:1025"),
    IMPORT_PAUSE=0.02,  # seconds a row, so that there is something to watch
    AUTOCRON_DATABASE=str(VAR / "jobs.db"),
)
AutocronFlask(app)


@app.get("/")
def index() -> str:
    return render_template("index.html")


@app.post("/subscribe")
def subscribe() -> ResponseReturnValue:
    address = request.form.get("address", "").strip()
    if len(address) > 254 or not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", address):
        return answer("Please write a mail address, like ada@example.org.", status=400)
    _, token = subscribers.add(address)
    job = tasks.send_confirmation(address, url_for("confirm", token=token, _external=True))
    return answer(f"Thank you. A mail to {address} is on its way.", job)


@app.post("/import")
def import_csv() -> ResponseReturnValue:
    job = tasks.import_addresses(str(HERE / "addresses.csv"))
    return answer("The addresses are being imported.", job)


@app.get("/confirm/<token>")
def confirm(token: str) -> ResponseReturnValue:
    if not subscribers.confirm(token):
        abort(404)
    return answer("Welcome! The next digest is for you, too.")


@app.get("/jobs")
def jobs() -> Response:
    everybody = subscribers.counts()
    newest = autocron.get_results(limit=20)
    return jsonify(jobs=[describe(job) for job in newest], all=everybody.all, confirmed=everybody.confirmed)


def describe(job: autocron.Result[Any]) -> dict[str, Any]:
    """What the page shows of a job."""
    done, total, note = job.progress or (0, 0, "")
    texts = {"done": job.result, "error": (job.error_message or "").strip().rpartition("\n")[2]}
    return {
        "id": job.id,
        "task": job.task.rpartition(".")[2].replace("_", " "),
        "status": job.status,
        "done": done,
        "total": total,
        "text": texts.get(job.status, note) or "",
        "created": job.created.isoformat(),
    }


def answer(message: str, job: autocron.Result[Any] | None = None, status: int = 200) -> ResponseReturnValue:
    """JSON for the page's script, a redirect with a message for a plain form."""
    if request.accept_mimetypes.best == "application/json":
        return jsonify(message=message, job=job and describe(job)), status
    flash(message)
    return redirect(url_for("index"))


@app.before_request
def refuse_other_sites() -> None:
    if request.method == "POST" and request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        abort(403)


@app.after_request
def only_own_files(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = "default-src 'self'; img-src data:; frame-ancestors 'none'"
    return response
