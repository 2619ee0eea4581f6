"""What workers print: passed on without ever waiting for a reader, and kept as a tail."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from autocron_web.pool.loop import Loop
from autocron_web.pool.output import TAIL, Output, Printer


class Reader:
    """A pipe as it stands behind an app's stdout, and what has come out of it."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe()
        os.set_blocking(self.out, False)

    def read(self) -> bytes:
        data = b""
        while select.select([self.out], [], [], 0)[0] and (piece := os.read(self.out, 65536)):
            data += piece
        return data

    def fill(self) -> None:
        """Until it takes nothing more."""
        os.set_blocking(self.into, False)
        try:
            while True:
                os.write(self.into, b"." * 4096)
        except BlockingIOError:
            pass
        os.set_blocking(self.into, True)

    def close(self) -> None:
        for fd in (self.out, self.into):
            try:
                os.close(fd)
            except OSError:
                pass  # the test has closed it


@pytest.fixture
def stdout() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()


@pytest.fixture
def stderr() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()


@pytest.fixture
def printer(stdout: Reader, stderr: Reader) -> Printer:
    printer = Printer()
    printer.set_targets((stdout.into, stderr.into))
    return printer


def test_each_stream_goes_to_its_own_target(printer: Printer, stdout: Reader, stderr: Reader) -> None:
    printer.write(0, b"out")
    printer.write(1, b"err")
    printer.say("a sentence with \ud800")
    assert (stdout.read(), stderr.read()) == (b"out", b"errautocron: a sentence with ?\n")


def test_without_an_app_nothing_is_written(stdout: Reader) -> None:
    printer = Printer()
    printer.write(0, b"lost")
    printer.set_targets((stdout.into, stdout.into))
    printer.write(0, b"a")
    printer.set_targets(None)
    printer.write(0, b"lost")
    assert stdout.read() == b"a"


def test_what_nobody_reads_is_dropped_and_counted(printer: Printer, stdout: Reader) -> None:
    stdout.fill()
    for size in (10_000, 5, 20):
        printer.write(0, b"x" * size)
    stdout.read()
    printer.write(0, b"read again\n")
    printer.write(0, b"and on\n")
    assert stdout.read() == b"autocron: 10025 bytes of output were dropped\nread again\nand on\n"


def test_more_than_a_pipe_holds_is_written_up_to_what_it_holds(printer: Printer, stdout: Reader) -> None:
    data = bytes(range(256)) * 1000
    printer.write(0, data)
    read = stdout.read()
    assert 0 < len(read) < len(data)
    assert data.startswith(read)
    printer.write(0, b"end\n")
    dropped = len(data) - len(read)
    assert stdout.read() == f"autocron: {dropped} bytes of output were dropped\nend\n".encode()


def test_a_reader_that_is_gone_is_no_trouble(printer: Printer, stdout: Reader, stderr: Reader) -> None:
    os.close(stdout.out)
    printer.write(0, b"x")
    printer.write(1, b"y")
    assert stderr.read() == b"autocron: 1 bytes of output were dropped\ny"


# -- the output of a worker ----------------------------------------------------------------------------


@pytest.fixture
def output(printer: Printer) -> Iterator[Output]:
    output = Output(Loop(), printer)
    yield output
    output.close()


def test_a_tail_is_kept_for_each_job(output: Output, stdout: Reader, stderr: Reader) -> None:
    out, err = output.worker_ends
    assert output.take() is None
    os.write(out, b"one\n")
    os.write(err, b"two\n")
    assert sorted((output.take() or "").splitlines()) == ["one", "two"]
    assert output.take() is None
    os.write(out, "ä".encode()[:1] + b"\0")
    assert output.take() == "\N{REPLACEMENT CHARACTER}" * 2  # neither half a character nor a NUL
    assert (stdout.read(), stderr.read()) == (b"one\n\xc3\0", b"two\n")  # the app gets it as it was
    output.close_worker_ends()


def test_the_tail_is_the_end_of_what_was_printed(output: Output) -> None:
    out, _ = output.worker_ends
    for i in range(30):
        os.write(out, b"%02d" % i + b"x" * 998)
        output._drain(0)
    text = output.take() or ""
    assert len(text) == TAIL
    assert text.endswith("29" + "x" * 998)
    output.close_worker_ends()


def test_a_worker_that_closes_its_output_can_still_end(output: Output) -> None:
    out, err = output.worker_ends
    os.write(out, b"last words")
    os.close(out)
    assert output.take() == "last words"
    assert output.take() is None
    os.write(err, b"more")
    assert output.take() == "more"
    os.close(err)
