"""Signed pickles, for tasks that ask for `serializer="pickle"`. docs/pickle.md says what that protects.

A pickle is a program: whoever can write one into the store could run code in the workers and in the app.
So each is signed with a key that is not in the store, for one job of one task, and nothing is unpickled
before the signature was found right.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import operator
import os
import pickle
import stat
from contextlib import suppress
from typing import Any

from .codec import MAX_ARGUMENT_BYTES, MAX_RESULT_BYTES, within
from .engine import engine
from .errors import ConfigError, NotStorable, StoreError
from .settings import main_module, main_name

FORMAT = b"\x01"
KEY_BYTES = 32
_HEADER = len(FORMAT) + 4 + hashlib.sha256().digest_size  # the format, which key it was, and the signature

_keys: dict[str, bytes] = {}  # by what says where they are


def dump_call(task: str, job_id: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The signed bytes of the arguments of one call. Raises `NotStorable`, and `StoreError` without a key."""
    data = within(MAX_ARGUMENT_BYTES, _pickled((args, kwargs), "the arguments"), "the arguments take", "pass")
    return _signed("call", task, job_id, data)


def load_call(task: str, job_id: str, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The `args` and `kwargs` of this job of this task. Raises `NotStorable`, also where unpickling fails."""
    args, kwargs = _unpickled(_verified("call", task, job_id, data))
    return args, kwargs


def dump_result(task: str, job_id: str, value: object) -> bytes:
    """The signed bytes of what the task returned. Raises `NotStorable`."""
    data = within(MAX_RESULT_BYTES, _pickled(value, "the result"), "the result takes", "return")
    return _signed("result", task, job_id, data)


def load_result(task: str, job_id: str, data: bytes) -> Any:
    """The result of this job of this task. Raises `NotStorable`."""
    return _unpickled(_verified("result", task, job_id, data))


def _pickled(value: object, what: str) -> bytes:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # whatever the objects' own methods raise
        raise NotStorable(f"{what} cannot be pickled: {type(error).__name__}: {error}") from error


def _unpickled(data: bytes) -> Any:
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # as above; a class may be gone since, or have other attributes
        raise NotStorable(
            f"what was pickled cannot be read any more: {type(error).__name__}: {error}"
        ) from error


class _Unpickler(pickle.Unpickler):
    """Knows the main module by both of its names: a worker has executed it as `application`."""

    def find_class(self, module: str, name: str) -> Any:
        main = main_module()
        if main is not None and module in (main_name(), "__main__", "__mp_main__"):
            return operator.attrgetter(name)(main)
        return super().find_class(module, name)


def _signed(what: str, task: str, job_id: str, data: bytes) -> bytes:
    key = _key(make=True)
    return FORMAT + _name(key) + _signature(key, what, task, job_id, data) + data


def _verified(what: str, task: str, job_id: str, blob: bytes) -> bytes:
    """The pickle, if it was signed with our key for this purpose, and not changed since."""
    key = _key(make=False)
    data = blob[_HEADER:]
    expected = _signature(key, what, task, job_id, data)
    if blob[:5] == FORMAT + _name(key) and hmac.compare_digest(blob[5:_HEADER], expected):
        return data
    if blob[:1] == FORMAT and blob[1:5] != _name(key):
        raise NotStorable(
            f"the {what} of {task} was signed with another key than this process has, and is not unpickled:"
            " was the key file replaced, or has AUTOCRON_KEY another value here?"
        )
    raise NotStorable(
        f"the {what} of {task} is not what was signed for the job {job_id}, and is not unpickled:"
        " somebody has changed it in the store"
    )


def _signature(key: bytes, what: str, task: str, job_id: str, data: bytes) -> bytes:
    purpose = json.dumps(["autocron_web", FORMAT[0], what, task, job_id]).encode()
    return hmac.digest(key, purpose + b"\0" + data, "sha256")


# -- the key -----------------------------------------------------------------------------------------------


def _name(key: bytes) -> bytes:
    """Tells keys apart, and nothing of what they are."""
    return hashlib.sha256(b"autocron_web key " + key).digest()[:4]


def _key(*, make: bool) -> bytes:
    """`AUTOCRON_KEY`, else what is in the file beside the database, which whoever first signs makes."""
    given, file = os.environ.get("AUTOCRON_KEY"), engine.key_file
    where = f"AUTOCRON_KEY={given}" if given else file or ""
    if where not in _keys:
        if given:
            _keys[where] = _from_text(given)
        elif file:
            _keys[where] = _from_file(file, make)
        else:  # inline mode: calls do not leave this process
            _keys[where] = os.urandom(KEY_BYTES)
    return _keys[where]


def _from_text(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES:
        raise ConfigError(
            f"AUTOCRON_KEY is not {KEY_BYTES} bytes in hexadecimal: make one with"
            ' `python3 -c "import secrets; print(secrets.token_hex(32))"`'
        )
    return key


def _from_file(path: str, make: bool) -> bytes:
    try:
        return _read(path)
    except FileNotFoundError:
        if not make:
            raise StoreError(
                f"the key {path} is gone: what was signed with it cannot be read any more. Put it back"
            ) from None
    except OSError as error:
        raise StoreError(f"the key {path} cannot be read ({error.strerror})") from None
    try:
        _make(path)
        return _read(path)
    except OSError as error:
        raise StoreError(
            f"the key {path} cannot be made ({error.strerror}): pickles are signed with it. Let this user"
            " write there, or set AUTOCRON_KEY"
        ) from None


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            raise StoreError(f"others can read or write the key {path}, or it is no file: chmod 600 {path}")
        if status.st_uid not in (os.geteuid(), 0):
            raise StoreError(f"the key {path} belongs to user {status.st_uid}, not to {os.geteuid()}")
        key = os.read(fd, KEY_BYTES + 1)
    finally:
        os.close(fd)
    if len(key) != KEY_BYTES:
        raise StoreError(f"the key {path} has not {KEY_BYTES} bytes: it is damaged")
    return key


def _make(path: str) -> None:
    """Whole or not at all, and never in the place of another process's."""
    draft = f"{path}.{os.urandom(8).hex()}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, os.urandom(KEY_BYTES))
        os.fsync(fd)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.close(fd)
        os.unlink(draft)
