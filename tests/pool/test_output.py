"""What workers print: passed on without ever waiting for a reader, and kept as a tail."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autocron_web.pool.loop import Loop
from autocron_web.pool.output import QUEUE, TAIL, Output, Printer
from autocron_web.process import identity
from conftest import wait_until

FLUSH = 20.0  # seconds, on a busy machine


class Reader:
    """What stands behind an app's stdout, and what has come out of it."""

    def __init__(self, out: int, into: int) -> None:
        self.out, self.into = out, into
        os.set_blocking(self.out, False)

    def read(self) -> bytes:
        """What comes until nothing has come for a moment."""
        data = b""
        while select.select([self.out], [], [], 0.05)[0]:
            try:
                piece = os.read(self.out, 65536)
            except OSError:  # a terminal's way to say that it has ended
                break
            if not piece:
                break
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
        for fd in {self.out, self.into}:
            try:
                os.close(fd)
            except OSError:
                pass  # the test has closed it


def make_socket() -> Reader:
    ours, theirs = socket.socketpair()
    return Reader(ours.detach(), theirs.detach())


def make_fifo(folder: Path) -> Reader:
    os.mkfifo(folder / "fifo")
    out = os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    return Reader(out, os.open(folder / "fifo", os.O_WRONLY))


@pytest.fixture
def stdout() -> Iterator[Reader]:
    reader = Reader(*os.pipe())
    yield reader
    reader.close()


@pytest.fixture
def stderr() -> Iterator[Reader]:
    reader = Reader(*os.pipe())
    yield reader
    reader.close()


@pytest.fixture
def printer(stdout: Reader, stderr: Reader) -> Iterator[Printer]:
    printer = Printer()
    printer.set_targets((stdout.into, stderr.into))
    yield printer
    printer.set_targets(None)
    for reader in (stdout, stderr):
        os.close(reader.out)  # so that none of its threads waits
    assert printer.flush(FLUSH)


def test_each_stream_goes_to_its_own_target(printer: Printer, stdout: Reader, stderr: Reader) -> None:
    printer.write(0, b"out")
    printer.write(1, b"err")
    printer.say("a sentence with \ud800")
    assert printer.flush(FLUSH)
    assert (stdout.read(), stderr.read()) == (b"out", b"errautocron: a sentence with ?\n")


def test_without_an_app_nothing_is_written(stdout: Reader) -> None:
    printer = Printer()
    printer.write(0, b"lost")
    printer.set_targets((stdout.into, stdout.into))
    printer.write(0, b"a")
    printer.set_targets(None)
    printer.write(0, b"lost")
    assert printer.flush(FLUSH)
    assert stdout.read() == b"a"


def test_the_pipe_of_an_app_that_is_gone_is_let_go(stdout: Reader) -> None:
    printer = Printer()
    printer.set_targets((stdout.into, stdout.into))
    printer.write(0, b"last")
    printer.set_targets(None)
    os.close(stdout.into)
    data = b""
    while select.select([stdout.out], [], [], FLUSH)[0] and (piece := os.read(stdout.out, 100)):
        data += piece
    assert data == b"last"
    assert select.select([stdout.out], [], [], 0)[0], "the end of the pipe has not come"


def test_both_streams_of_one_file_keep_their_order(printer: Printer, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        printer.set_targets((file.fileno(), file.fileno()))
        for number in range(1000):
            printer.write(number % 2, b"%d\n" % number)
        assert printer.flush(FLUSH)
    assert (tmp_path / "log").read_text().split() == [str(number) for number in range(1000)]


def test_a_file_gets_all_that_is_printed_at_once(printer: Printer, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        printer.set_targets((file.fileno(), file.fileno()))
        for _ in range(320):
            printer.write(0, b"x" * 65536)
        assert printer.flush(FLUSH)
    assert (tmp_path / "log").stat().st_size == 320 * 65536


# -- nobody reads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket", "terminal"])
@pytest.mark.parametrize("blocks", [True, False])
def test_what_nobody_reads_is_dropped_and_counted(kind: str, blocks: bool, tmp_path: Path) -> None:
    """And the app's own flags stay as they are."""
    makers: dict[str, Callable[[], Reader]] = {
        "pipe": lambda: Reader(*os.pipe()),
        "fifo": lambda: make_fifo(tmp_path),
        "socket": make_socket,
        "terminal": lambda: Reader(*os.openpty()),
    }
    reader = makers[kind]()
    os.set_blocking(reader.into, blocks)
    printer = Printer()
    printer.set_targets((reader.into, reader.into))
    line = b"x" * 8191 + b"\n"
    began = time.monotonic()
    for _ in range(2 * QUEUE // len(line)):
        printer.write(0, line)
    assert time.monotonic() - began < 5  # of 20 ms: nothing waits for a reader
    assert os.get_blocking(reader.into) is blocks
    dropped = printer.dropped
    assert 0 < dropped <= QUEUE
    assert dropped % len(line) == 0
    assert not printer.flush(0.01)

    read = read_until(reader, printer, lambda: printer.flush(0))
    printer.write(0, b"read again\n")
    read += read_until(reader, printer, lambda: printer.flush(0))
    ends = b"autocron: %d bytes of output were dropped\nread again\n" % dropped
    text = read.replace(b"\r\n", b"\n")
    assert text.endswith(b"x\n" + ends)
    assert len(text) == 2 * QUEUE - dropped + len(ends)
    printer.set_targets(None)
    reader.close()


def read_until(reader: Reader, printer: Printer, is_enough: Callable[[], bool]) -> bytes:
    deadline, data = time.monotonic() + FLUSH, b""
    while not is_enough():
        assert time.monotonic() < deadline
        data += reader.read()
    return data + reader.read()


def test_a_terminal_that_is_held_up_holds_up_nothing_else(printer: Printer, stderr: Reader) -> None:
    """Ctrl-S; and another app process's output, or the stderr beside it, goes on."""
    import termios

    terminal = Reader(*os.openpty())
    termios.tcflow(terminal.into, termios.TCOOFF)
    printer.set_targets((terminal.into, stderr.into))
    printer.write(0, b"held\n")
    printer.write(1, b"goes on\n")
    assert not printer.flush(0.05)
    assert stderr.read() == b"goes on\n"
    printer.set_targets((stderr.into, stderr.into))  # a newer app
    printer.write(0, b"newer\n")
    assert stderr.read() == b"newer\n"
    printer.set_targets((terminal.into, stderr.into))  # that one is gone, and the older one still held up
    printer.write(0, b"and again\n")
    termios.tcflow(terminal.into, termios.TCOON)
    assert printer.flush(FLUSH)
    assert terminal.read() == b"held\r\nand again\r\n"
    terminal.close()


def test_many_apps_on_one_hung_terminal_take_one_thread(printer: Printer) -> None:
    terminal = Reader(*os.openpty())
    before = {*threading.enumerate()}
    for _ in range(20):
        printer.set_targets((terminal.into, terminal.into))
        printer.write(0, b"x" * 20_000)
        printer.set_targets(None)
    begun = {*threading.enumerate()} - before
    terminal.close()
    assert len(begun) == 1
    assert printer.flush(FLUSH)


def test_without_a_descriptor_nothing_is_written_and_nothing_is_left(
    printer: Printer, stdout: Reader, stderr: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [os.dup(stdout.into)]

    def dup(fd: int) -> int:
        if not copies:
            raise OSError(errno.EMFILE, "Too many open files")
        return copies.pop()

    (copy,) = copies
    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", dup)
        printer.set_targets((stdout.into, stderr.into))
        printer.write(0, b"lost")
        wait_until(lambda: identity(copy) is None, 10, "the copy to be closed")
    assert stdout.read() == b""


def test_a_reader_that_is_gone_is_no_trouble(printer: Printer, stdout: Reader, stderr: Reader) -> None:
    os.close(stdout.out)
    printer.write(0, b"x")
    assert printer.flush(FLUSH)
    printer.write(1, b"y")
    assert printer.flush(FLUSH)
    assert stderr.read() == b"autocron: 1 bytes of output were dropped\ny"
    stdout.out = os.open(os.devnull, os.O_RDONLY)


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
    assert output._printer.flush(FLUSH)
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
