"""Frames: cut right however they arrive, refused where they are wrong; and a monitor that no byte can end."""

from __future__ import annotations

import itertools
import os
import socket
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocron_web.jobs import Job
from autocron_web.pool import wire
from autocron_web.pool.wire import (
    HEADER,
    LIMIT,
    PROTOCOL,
    Channel,
    Decoder,
    Frame,
    Kind,
    WireError,
    encode,
    pack_jobs,
    pieces,
    short_address,
    unpack_jobs,
)
from conftest import RunScript, wait_until
from pool_app import App, app, wait_for_pool  # noqa: F401

pytestmark = pytest.mark.once  # nothing here depends on the version of Python

quick = settings(deadline=None, max_examples=50)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
frames = st.builds(
    Frame,
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    st.dictionaries(st.text(), json_values, max_size=4),
    st.binary(max_size=200),
)


# -- frames ----------------------------------------------------------------------------------------


@quick
@given(st.lists(frames, max_size=6), st.lists(st.integers(0, 2000), max_size=12))
def test_frames_come_out_as_they_went_in_however_they_are_split(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(encode, sent))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    decoder = Decoder()
    received: list[Frame] = []
    for start, end in itertools.pairwise(edges):
        received += decoder.feed(data[start:end])
    assert received == sent
    assert decoder.feed(b"") == []


@quick
@given(st.lists(frames, min_size=1, max_size=3))
def test_frames_come_out_byte_by_byte(sent: list[Frame]) -> None:
    decoder = Decoder()
    assert [frame for byte in b"".join(map(encode, sent)) for frame in decoder.feed(bytes([byte]))] == sent


@quick
@given(st.lists(st.binary(max_size=100), max_size=5))
def test_garbage_is_a_wire_error_and_nothing_else(chunks: list[bytes]) -> None:
    decoder = Decoder()
    try:
        for chunk in chunks:
            decoder.feed(chunk)
    except WireError:
        pass


@quick
@given(st.integers(0, 255), st.integers(0, 2**32 - 1), st.binary(max_size=60), st.binary(max_size=60))
def test_a_frame_with_garbage_in_it_is_a_wire_error_and_nothing_else(
    kind: int, number: int, head: bytes, blob: bytes
) -> None:
    try:
        (frame,) = Decoder().feed(HEADER.pack(PROTOCOL, kind, number, len(head), len(blob)) + head + blob)
    except WireError:
        return
    assert isinstance(frame.head, dict)
    assert (frame.kind, frame.id, frame.blob) == (kind, number, blob)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (HEADER.pack(PROTOCOL + 1, 1, 0, 0, 0), "frame protocol 3 instead of 2"),
        (b"GET / HTTP/1.1\r\n\r\n", "frame protocol 71 instead of 2"),
        (HEADER.pack(PROTOCOL, 1, 0, LIMIT, 1), f"a frame of {LIMIT + 1} bytes is over the limit of {LIMIT}"),
        (HEADER.pack(PROTOCOL, 1, 0, 2**32 - 1, 2**32 - 1), "is over the limit of"),
        (HEADER.pack(PROTOCOL, 1, 0, 1, 0) + b"{", "the head of a frame is no JSON: "),
        (HEADER.pack(PROTOCOL, 1, 0, 2, 0) + b"\xff\xff", "the head of a frame is no JSON: "),
        (HEADER.pack(PROTOCOL, 1, 0, 2, 0) + b"[]", "the head of a frame is no object"),
        (HEADER.pack(PROTOCOL, 1, 0, 4, 0) + b"null", "the head of a frame is no object"),
        (HEADER.pack(PROTOCOL, 1, 0, 200_000, 0) + b"[" * 200_000, "the head of a frame is no JSON: "),
    ],
)
def test_what_is_wrong_with_a_frame_is_said(data: bytes, sentence: str) -> None:
    with pytest.raises(WireError) as error:
        Decoder().feed(data)
    assert sentence in str(error.value)


def test_a_frame_over_the_limit_is_not_even_made() -> None:
    assert len(encode(Frame(1, 0, {}, b"x" * LIMIT))) == HEADER.size + LIMIT
    with pytest.raises(WireError, match=rf"a frame of {LIMIT + 7} bytes is over the limit of {LIMIT}"):
        encode(Frame(1, 0, {"a": 1}, b"x" * LIMIT))
    (frame,) = Decoder().feed(encode(Frame(1, 0, {}, b"x" * LIMIT)))
    assert len(frame.blob) == LIMIT


def test_the_good_frames_before_a_bad_one_are_lost_with_their_connection() -> None:
    """What speaks another protocol is not obeyed, not even in part."""
    with pytest.raises(WireError):
        Decoder().feed(encode(Frame(Kind.WAKE, 0, {"due": 1})) + b"garbage that is longer than a header")


# -- jobs in frames --------------------------------------------------------------------------------

jobs = st.builds(
    Job,
    id=st.text(max_size=5),
    task=st.text(max_size=5),
    due=st.integers(0, 2**62),
    created=st.integers(0, 2**62),
    payload=st.binary(max_size=300),
    result=st.none() | st.binary(max_size=300),
    error=st.none() | st.text(max_size=50),
    output=st.none() | st.text(max_size=50),
    meta=st.dictionaries(st.text(max_size=3), json_values, max_size=2),
    seq=st.none() | st.integers(0, 2**62),
)


@quick
@given(st.lists(jobs, max_size=3))
def test_jobs_come_out_of_a_frame_as_they_went_in(sent: list[Job]) -> None:
    rows, blob = pack_jobs(sent)
    (frame,) = Decoder().feed(encode(Frame(Kind.ANSWER, 1, {"jobs": rows}, blob)))
    assert unpack_jobs(frame.head["jobs"], frame.blob) == sent


@quick
@given(st.lists(jobs, max_size=4))
def test_pieces_are_the_jobs_in_their_order(sent: list[Job]) -> None:
    assert [job for piece in pieces(sent) for job in piece] == sent
    assert all(piece for piece in pieces(sent))


def test_pieces_fit_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    large = Job("id", "task", 0, 0, payload=b"x" * (1 << 20), result=b"y" * (1 << 20), error="\ud7ff" * 65536)
    small = large._replace(payload=b"x" * 100, result=None, error=None)
    for piece in pieces([large, small, large, *[small] * 1000, large]):
        rows, blob = pack_jobs(piece)
        encode(Frame(Kind.ANSWER, 1, {"jobs": rows}, blob))
    monkeypatch.setattr(wire, "PIECE", 5 * 700)
    assert [len(piece) for piece in pieces([small] * 12)] == [5, 5, 2]


# -- a channel -------------------------------------------------------------------------------------


def test_a_channel_never_waits_and_loses_nothing() -> None:
    ours, theirs = socket.socketpair()
    channel, other = Channel(ours), Channel(theirs)
    sent = [Frame(Kind.RUN, i, {"i": i}, b"x" * 300_000) for i in range(5)]
    for frame in sent:
        channel.send(frame)  # more than the socket holds
    assert channel.backlog > 0
    assert channel.receive() == []  # nothing there: no wait either
    received: list[Frame] = []
    while len(received) < 5:
        channel.flush()
        received += other.receive() or []
    assert (received, channel.backlog) == (sent, 0)
    other.close()
    assert channel.receive() is None
    with pytest.raises(ConnectionError):
        channel.send(sent[0])
    channel.close()


def test_descriptors_that_nobody_takes_are_closed_with_the_channel() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours, descriptors=3)
    socket.send_fds(theirs, [encode(Frame(Kind.LEAVE))], [theirs.fileno()] * 3)
    assert channel.receive() == [Frame(Kind.LEAVE)]
    received = list(channel.descriptors)
    assert len(received) == 3
    channel.close()
    theirs.close()
    for fd in received:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@pytest.mark.parametrize("length", [20, 107, 108, 109, 200])
def test_a_socket_can_be_reached_whatever_the_length_of_its_path(home: Path, length: int) -> None:
    folder = home
    while len(str(folder)) + 60 < length:
        folder = folder / ("d" * 40)
    folder.mkdir(parents=True, exist_ok=True)
    path = str(folder / "s").ljust(length, "s")
    listener, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    with listener, client:
        with short_address(path) as address:
            listener.bind(address)
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        listener.listen()
        before = len(os.listdir("/proc/self/fd"))
        with short_address(path) as address:
            client.connect(address)
        assert len(os.listdir("/proc/self/fd")) == before  # the folder is not kept open


# -- the monitor's socket --------------------------------------------------------------------------


def connect(home: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(home / "faults.db.sock"))
    sock.settimeout(5)
    return sock


def is_cut(sock: socket.socket) -> bool:
    """Whether the other side closes the connection; what it says before is skipped."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


HEADS: list[tuple[str, int, object]] = [
    ("an unknown kind", 99, {}),
    ("what only a worker says", Kind.RESULT, {"ok": True}),
    ("what only a monitor says", Kind.WELCOME, {"pid": 1}),
    ("a hello without anything", Kind.HELLO, {}),
    ("a hello of an unknown app without descriptors", Kind.HELLO, {"version": "0", "workers": 2, "load": {}}),
    ("a hello with other types", Kind.HELLO, {"version": 1, "workers": "x", "load": [], "born": {}}),
    ("a wake at a word", Kind.WAKE, {"due": "soon"}),
    ("a wake at a list", Kind.WAKE, {"due": []}),
    ("a wake at infinity", Kind.WAKE, {"due": float("inf")}),
    ("a wake at no number", Kind.WAKE, {"due": float("nan")}),
    ("a watch of nothing", Kind.WATCH, {}),
    ("a watch of a list", Kind.WATCH, {"id": []}),
    ("a cancel of nothing", Kind.CANCEL, {}),
    ("a cancel of a list", Kind.CANCEL, {"id": [1]}),
    ("modules before a hello", Kind.MODULES, {"modules": 7}),
]


def test_no_byte_on_its_socket_ends_the_monitor(app: App, home: Path) -> None:
    app.run("tell:a")
    app.wait_for("tell a")
    pool = wait_for_pool()
    raw = [
        os.urandom(1000),
        b"GET / HTTP/1.1\r\n\r\n" * 10,
        HEADER.pack(PROTOCOL, Kind.WAKE, 0, 2**31, 2**31),
        HEADER.pack(PROTOCOL, Kind.WAKE, 0, 100_000, 0) + b"[" * 100_000,
        HEADER.pack(PROTOCOL, Kind.WAKE, 0, 4, 0) + b"null",
    ]
    raw += [encode(Frame(kind, 0, head)) for _, kind, head in HEADS if isinstance(head, dict)]
    for data in raw:
        with connect(home) as sock:
            sock.sendall(data)
            assert is_cut(sock), data[:100]
    for data in (  # harmless
        encode(Frame(Kind.WAKE, 0, {"due": 10**40})),
        encode(Frame(Kind.WAKE, 0, {"due": -(10**40)})),
        encode(Frame(Kind.WAKE)),
        encode(Frame(Kind.CANCEL, 0, {"id": "no such job"})),
        encode(Frame(Kind.WATCH, 0, {"id": "no such job"})),
        encode(Frame(Kind.LEAVE)),
        encode(Frame(Kind.STOP)),
        encode(Frame(Kind.SETTINGS, 0, {"max_workers": []})),
        encode(Frame(Kind.INFO, 0, {"what": None})) * 100,
        encode(Frame(Kind.WAKE, 0, {"due": 0}))[:-1],
        b"",
    ):
        with connect(home) as sock:
            sock.sendall(data)
    app.run("tell:b")
    app.wait_for("tell b")
    assert wait_for_pool() == pool


def test_many_slow_connections_do_not_stop_the_monitor(app: App, home: Path) -> None:
    app.run("tell:a")
    app.wait_for("tell a")
    pool = wait_for_pool()
    (monitor,) = pool[0]
    before = len(os.listdir(f"/proc/{monitor}/fd"))
    frame = encode(Frame(Kind.WAKE, 0, {"due": 0}))
    socks = [connect(home) for _ in range(180)]
    for number, sock in enumerate(socks):
        sock.sendall(frame[: number % len(frame)])  # half a frame, and then nothing
    app.run("tell:b")
    app.wait_for("tell b")
    for sock in socks:
        sock.close()
    wait_until(lambda: len(os.listdir(f"/proc/{monitor}/fd")) <= before + 5, 5, "closed connections")
    assert wait_for_pool() == pool


def test_more_connections_than_a_monitor_can_have(app: App, home: Path) -> None:
    app.run("tell:a")
    app.wait_for("tell a")
    pool = wait_for_pool()
    socks = [connect(home) for _ in range(300)]
    (monitor,) = pool[0]

    def ticks() -> int:
        fields = Path(f"/proc/{monitor}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(0.5)
    assert ticks() - before < 0.25 * os.sysconf("SC_CLK_TCK")  # it does not turn round and round
    for sock in socks:
        sock.close()
    app.run("tell:b")
    app.wait_for("tell b")
    assert wait_for_pool() == pool


def test_a_watcher_that_never_reads_is_cut_off(app: App, home: Path) -> None:
    app.run("hold:a")
    app.wait_for("begin a")
    (job,) = app.jobs()
    with connect(home) as sock:
        frame = encode(Frame(Kind.WATCH, 0, {"id": job.id}))
        try:
            for _ in range(60_000):  # each is answered
                sock.sendall(frame)
        except OSError:
            pass  # cut
        app.release("a")
        app.wait_for_states("done")


def test_only_its_user_can_reach_the_socket(app: App, home: Path) -> None:
    app.run("tell:a")
    path = home / "faults.db.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_ISSOCK(path.stat().st_mode)
    if os.geteuid() == 0:
        home.chmod(0o755)
        path.chmod(0o666)  # even then: the monitor asks who is there
        child = os.fork()
        if not child:
            try:
                os.setuid(65534)
                sock = socket.socket(socket.AF_UNIX)
                sock.settimeout(5)
                sock.connect(str(path))
                os._exit(0 if is_cut(sock) else 1)
            except BaseException:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_database_far_down(run_script: RunScript, home: Path) -> None:
    folder = home.joinpath(*["folder-with-a-long-name"] * 6)
    folder.mkdir(parents=True)
    path = folder / "shop.db"
    assert len(str(path)) > 108
    run_script(
        """
import sys
import autocron_web as autocron

@autocron.delay
def add(a, b):
    return a + b

if __name__ == "__main__":
    assert autocron.start(sys.argv[1])
    assert autocron.start(sys.argv[1]) is False
    assert add(1, 2).get(10) == 3
    assert autocron.stop(10)
""",
        path,
    )
    assert {p.name for p in folder.iterdir()} - {"shop.db-wal", "shop.db-shm"} == {"shop.db", "shop.db.lock"}
