"""The newsletter's background work. Each function runs in a worker process, inside the app's context."""

from __future__ import annotations

import csv
import smtplib
import time
from collections.abc import Sequence
from email.message import EmailMessage

import subscribers
from flask import current_app

import autocron_web as autocron


@autocron.delay
def send_confirmation(address: str, link: str) -> str:
    """Ask the owner of an address whether the newsletter is wanted."""
    send_mail(
        [address], "Please confirm your subscription", f"Open this link, and you are on the list:\n\n{link}\n"
    )
    return f"sent to {address}"


@autocron.delay
def import_addresses(file: str) -> str:
    """Read people from a CSV with the columns `name` and `address`.

    If the machine dies half-way, the job runs again from its start: who is on the list already is left alone.
    """
    with open(file, newline="", encoding="utf-8") as rows:
        people = list(csv.DictReader(rows))
    new = 0
    for number, person in enumerate(people, 1):
        added, _ = subscribers.add(person["address"], person["name"], confirmed=True)
        new += added
        autocron.progress(number, len(people), person["address"])
        time.sleep(current_app.config["IMPORT_PAUSE"])
    return f"{new} new, {len(people) - new} known"


@autocron.cron("* * * * *")
def send_digest() -> str:
    """Every minute: one mail to everybody who has confirmed."""
    readers = subscribers.confirmed()
    if not readers:
        return "nobody to write to yet"
    send_mail(readers, "Your digest", f"Hello! You are one of {len(readers)} readers.\n")
    return f"sent to {len(readers)} readers"


def send_mail(recipients: Sequence[str], subject: str, text: str) -> None:
    """Hand one mail for all recipients to the SMTP server; they do not see each other's addresses."""
    message = EmailMessage()
    message["From"] = "The Newsletter <news@example.org>"
    message["To"] = recipients[0] if len(recipients) == 1 else "Readers of the newsletter:;"
    message["Subject"] = subject
    message.set_content(text)
    host, _, port = current_app.config["SMTP"].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as server:
        server.send_message(message, to_addrs=recipients)
