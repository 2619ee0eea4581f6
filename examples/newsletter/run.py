"""The demo: the app, a mail server that prints, and one process to end both.

python run.py           serve, until Ctrl-C
python run.py --check   serve, use everything once over HTTP, and end; exit code 0 if all went well
"""

from __future__ import annotations

import argparse
import asyncio
import email
import email.policy
import logging
import os
import signal
import socket
import sys
import time
from typing import Any

from aiosmtpd.controller import Controller
from werkzeug.serving import make_server

HOST = "127.0.0.1"


class Terminal:
    """Takes every mail, and prints one line for it. It takes its time, as mail servers do."""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        await asyncio.sleep(0.8)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        body = mail.get_body(("plain",))
        link = next(
            (word for word in (body.get_content() if body else "").split() if word.startswith("http")), ""
        )
        recipients = (
            envelope.rcpt_tos[0] if len(envelope.rcpt_tos) == 1 else f"{len(envelope.rcpt_tos)} readers"
        )
        line = f"{time.strftime('%H:%M:%S')}  mail to {recipients}: {mail['subject']}  {link}"
        print("".join(letter for letter in line if letter.isprintable()).rstrip(), flush=True)
        return "250 OK"


def listen(first: int, last: int) -> socket.socket:
    """A socket on the first free port of these."""
    for port in range(first, last + 1):
        try:
            return socket.create_server((HOST, port))
        except OSError:
            continue
    sys.exit(
        f"No port from {first} to {last} of {HOST} is free: end what uses them, or name another with --port."
    )


def serve(port: int) -> None:
    """Serve the app until Ctrl-C or SIGTERM; when this returns, nothing of the demo runs."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.getLogger("werkzeug").setLevel(
        logging.WARNING
    )  # the page asks every second; mails are to be seen
    with socket.create_server((HOST, 0)) as free:
        smtp_port = free.getsockname()[1]
    mails = Controller(Terminal(), hostname=HOST, port=smtp_port)
    mails.start()
    os.environ["NEWSLETTER_SMTP"] = f"{HOST}:{smtp_port}"  # the app reads it, and its workers inherit it

    from app import app

    import autocron_web as autocron

    try:
        with listen(port, port + 100) as listener:
            server = make_server(HOST, 0, app, threaded=True, fd=listener.fileno())
            print(
                f"The newsletter is at http://{HOST}:{listener.getsockname()[1]}/ (Ctrl-C ends it).",
                flush=True,
            )
            server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        print("Ending …", flush=True)
        autocron.stop(timeout=10)
        mails.stop()
    print("All has ended.", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="A newsletter with Flask and autocron-web.")
    parser.add_argument("--port", type=int, default=8000, help="the first port to try (8000)")
    parser.add_argument("--check", action="store_true", help="use everything once over HTTP, and end")
    given = parser.parse_args()
    if given.check:
        import check

        sys.exit(check.main(given.port))
    serve(given.port)


if __name__ == "__main__":
    main()
