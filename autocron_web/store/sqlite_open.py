"""Opening a SQLite file: what it may not be, how it is made, and how it gets this version's schema."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import StoreError
from . import sqlite_sql as sql
from .migrations import missing_steps
from .sqlite_errors import is_busy

T = TypeVar("T")

# SQLite's locks and shared memory do not hold on these: https://sqlite.org/wal.html, "all processes
# using a database must be on the same host", and https://sqlite.org/howtocorrupt.html, section 2.1.
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs"}


def refuse_environment(path: str) -> None:
    """Raise `StoreError` where no SQLite file is safe.

    That is with too old a library, on a network file system, and where the file alone is mounted. The latter
    two are known on Linux only.
    """
    if sqlite3.sqlite_version_info < (3, 35):
        raise StoreError(
            f"This Python has SQLite {sqlite3.sqlite_version}, and autocron-web needs 3.35 or later. "
            "Use a newer Python, or a PostgreSQL database."
        )
    try:
        device = os.stat(os.path.dirname(path)).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mounts = file.read()
    except OSError:
        return
    kind = mounted_as(device, mounts)
    if kind in _NETWORK:
        raise StoreError(
            f"{path} is on a network file system ({kind}), where SQLite's locks do not hold and jobs would "
            "get lost. Use a folder on a local disk, or a PostgreSQL database for several machines."
        )
    if is_mounted(os.path.realpath(path), mounts):
        raise StoreError(
            f"{path} is mounted by itself, without its folder, where SQLite keeps the newest jobs in another "
            f"file ({os.path.basename(path)}-wal): they would get lost with this container. Mount the folder "
            f"of the database instead, as in docker -v /srv/data:{os.path.dirname(path)}"
        )


def is_mounted(path: str, mountinfo: str) -> bool:
    """Whether something is mounted at this very path; in mountinfo some characters are octal numbers."""
    point = re.sub(r"[ \t\n\\]", lambda found: f"\\{ord(found[0]):03o}", path)
    return re.search(rf"^(\S+ ){{4}}{re.escape(point)} ", mountinfo, re.MULTILINE) is not None


def mounted_as(device: int, mountinfo: str) -> str | None:
    """The type of the file system with this device number, by the fields of mountinfo in proc(5)."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        if left.split()[2:3] == [wanted]:
            return right.split()[0]
    return None


def make_file(path: str) -> None:
    """Make the file for its owner alone, before SQLite makes it for everyone; -wal and -shm follow its mode.

    A file that is there is left as it is. Raises `StoreError` where no file can be.
    """
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise StoreError(f"{path} is a folder. Give the name of a file in it.")
    if os.path.islink(path) and not os.path.exists(path):
        raise StoreError(f"{path} is a link to a file that does not exist. Remove the link, or correct it.")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR, 0o600))
    except FileExistsError:
        pass
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(
            f"{path} cannot be made, since there is no folder {folder}. Make the folder, or correct its name."
        ) from error
    except OSError as error:
        raise StoreError(
            f"{path} cannot be made by user {os.geteuid()}: {error.strerror}. Let this user write to the "
            "folder, or use another one."
        ) from error


def require_rights(path: str) -> None:
    """Raise `StoreError` if this user may not write the file.

    SQLite would open it all the same, to read. It would make -wal and -shm with the rights of the file, and
    these would stay as they are when somebody has given the file its rights back. They are not looked at
    here: whoever closes the file last deletes them at any moment.
    """
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        raise StoreError(
            f"{path} may not be read and written by user {os.geteuid()} (or is on a read-only file system). "
            "Let this user read and write the file and its folder."
        )


def require_file(path: str) -> None:
    """Raise `StoreError` where there is no file: SQLite would say only that it cannot open it."""
    if not os.path.isfile(path):
        raise StoreError(f"There is no database {path}. Correct its name, or start the application once.")


def require_tables(connection: sqlite3.Connection, path: str) -> None:
    """Raise `StoreError` for a file without tables of autocron-web: an empty one, or another one."""
    _refuse_other_files(connection, path)
    if _schema(connection) == 0:
        raise StoreError(f"{path} is no database of autocron-web. Correct its name.")


def connect(path: str, busy_timeout: float) -> sqlite3.Connection:
    """A connection to a file that is there; SQLite is not to make one, which everyone could read."""
    # The three characters are those that https://sqlite.org/uri.html wants escaped in a path.
    escaped = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(
        f"file:{escaped}?mode=rw",
        uri=True,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=False,
    )


def prepare(connection: sqlite3.Connection, path: str, synchronous: str, busy_timeout: float) -> None:
    """Look at the file before anything is written to it; then switch it to WAL and run the missing steps."""
    deadline = time.monotonic() + busy_timeout
    _patiently(deadline, lambda: _refuse_other_files(connection, path))
    (mode,) = _patiently(deadline, lambda: connection.execute(sql.WAL).fetchone())
    if mode != "wal":
        raise StoreError(
            f"{path} stays in the journal mode {mode!r}: SQLite needs shared memory for its WAL mode, and "
            "this file system does not offer it. Use a folder on a local disk."
        )
    connection.execute(synchronous)
    connection.execute(sql.WAL_LIMIT)
    connection.execute(sql.TEMPORARY_IN_MEMORY)
    _patiently(deadline, lambda: _migrate(connection, path))


def _patiently(deadline: float, step: Callable[[], T]) -> T:
    """Repeat a step until `deadline`: SQLite answers some with BUSY at once, whatever its busy timeout.

    It does so where two connections would wait for each other, as in the switch to WAL:
    https://sqlite.org/c3ref/busy_handler.html.
    """
    while True:
        try:
            return step()
        except sqlite3.Error as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
        time.sleep(0.002)


def _refuse_other_files(connection: sqlite3.Connection, path: str) -> None:
    """Raise `StoreError` for a file of autocron 1.x, `SchemaTooNew` for one of a newer autocron-web."""
    schema = _schema(connection)
    missing_steps(schema, sql.STEPS, path)
    if schema == 0 and connection.execute(sql.IS_AUTOCRON_1).fetchone()[0]:
        raise StoreError(
            f"{path} is a database of autocron 1.x, whose pickled tasks autocron-web does not read. Give "
            "another database name; the old file can be deleted when its tasks have run."
        )


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    """Run the steps that the schema lacks in one transaction, whoever else is about to."""
    if not missing_steps(_schema(connection), sql.STEPS, path):
        return
    connection.execute(sql.BEGIN)
    try:
        for step in missing_steps(_schema(connection), sql.STEPS, path):
            for statement in step:
                connection.execute(statement)
        connection.execute(sql.SET_META, ("schema", str(len(sql.STEPS))))
        connection.execute(sql.COMMIT)
    except BaseException:
        roll_back(connection)
        raise


def _schema(connection: sqlite3.Connection) -> int:
    if not connection.execute(sql.HAS_META).fetchone()[0]:
        return 0
    row = connection.execute(sql.GET_META, ("schema",)).fetchone()
    return int(row[0]) if row else 0


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction that failed, if SQLite has not done so already."""
    if connection.in_transaction:
        try:
            connection.execute(sql.ROLLBACK)
        except sqlite3.Error:
            pass  # the error that led here is the one to tell of
