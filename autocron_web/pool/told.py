"""What app processes have told of their app: whose word rules, and which modules have tasks.

All of it belongs to the process that told it, and goes with that. While none lives, the last word stays:
servers leave gaps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from ..settings import DEFAULT_WORKERS
from .limits import Limits

#: What may differ between processes of one program that load the app alike.
_OF_THE_PROCESS = {"argv", "main", "modules"}


#: Variables that tell who has started a process, from where or as which of several, and nothing to the app.
_OF_THE_START = frozenset({
    "_", "INVOCATION_ID", "JOURNAL_STREAM", "OLDPWD", "SHLVL", "SUPERVISOR_PROCESS_NAME", "SYSTEMD_EXEC_PID",
})  # fmt: skip


class Word(NamedTuple):
    """What one app process told in its hello."""

    born: int  # when it, or the process that it is a fork of, imported the code: the monotonic clock
    version: str  # of autocron-web
    load: dict[str, Any]  # how to load the app: see `autocron_web.hello`
    size: int = DEFAULT_WORKERS
    limits: Limits = Limits()
    preload: bool = False  # a template is worth it

    @classmethod
    def of(cls, hello: dict[str, Any]) -> Word:
        """Read a hello; raises KeyError where something is missing."""
        size = hello["workers"] or DEFAULT_WORKERS
        limits = Limits(*hello["limits"])
        return cls(hello["born"], hello["version"], hello["load"], size, limits, hello["preload"])

    def loads_like(self, other: Word) -> bool:
        """Whether a worker that was started for one can stand in for one that is started for the other."""
        return self.born == other.born or self._way == other._way

    @property
    def _way(self) -> dict[str, Any]:
        way = {key: value for key, value in self.load.items() if key not in _OF_THE_PROCESS}
        way["env"] = {key: value for key, value in way["env"].items() if key not in _OF_THE_START}
        return way


class _Said(NamedTuple):
    word: Word
    modules: set[str]  # that have registered tasks in this process; the main one is `__main__`


class Told:
    """The words of the app processes that live.

    The newest one rules: by when its code was imported, and among forks of one process the one that joined
    last. `peer` is whatever tells processes apart.
    """

    def __init__(self) -> None:
        self._living: dict[object, _Said] = {}  # in the order of their hellos
        self._last: _Said | None = None  # of the process that ended last, while none lives

    def join(self, peer: object, word: Word) -> None:
        """A process has said hello."""
        self._living[peer] = _Said(word, set(word.load["modules"]))
        self._last = None

    def add_modules(self, peer: object, modules: Iterable[str]) -> None:
        """More modules have registered tasks in a process. One that does not count any more is not heard."""
        if peer in self._living:
            self._living[peer].modules.update(modules)

    def leave(self, peer: object) -> None:
        """The process has ended or left."""
        said = self._living.pop(peer, None)
        if said is not None and not self._living:
            self._last = said

    def would_rule(self, word: Word) -> bool:
        """Whether this would be the newest code of all."""
        return all(word.born > said.word.born for said in self._living.values())

    @property
    def ruling(self) -> Word | None:
        """The word to follow; None before the first hello."""
        said = self._ruling
        return None if said is None else said.word

    @property
    def modules(self) -> list[str]:
        """Those of the ruling code, in whichever of its forks they were imported: workers need them."""
        ruling = self._ruling
        if ruling is None:
            return []
        same = (said.modules for said in self._said if said.word.born == ruling.word.born)
        return sorted(set().union(*same))

    @property
    def others(self) -> list[str]:
        """Those of other code, which a worker imports if it can: its paths or its files may lack them.

        The main module of another program goes by the name under which it can be imported.
        """
        ruling = self._ruling
        found = set()
        for said in self._said:
            if ruling is None or said.word.born == ruling.word.born:
                continue
            main = said.word.load["main"]
            for module in said.modules:
                if module != "__main__" or main == ruling.word.load["main"]:
                    found.add(module)
                elif main is not None:
                    found.add(main["name"])
        return sorted(found.difference(self.modules))

    @property
    def needs_main(self) -> bool:
        """Whether the app, or a task of the ruling code, is defined in its main module."""
        ruling = self.ruling
        loader = ruling.load["loader"] if ruling is not None else None
        return "__main__" in self.modules or (loader is not None and loader["module"] == "__main__")

    @property
    def _said(self) -> list[_Said]:
        return list(self._living.values()) or ([] if self._last is None else [self._last])

    @property
    def _ruling(self) -> _Said | None:
        return max(reversed(self._said), key=lambda said: said.word.born, default=None)
