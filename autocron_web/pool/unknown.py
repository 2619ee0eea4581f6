"""Tasks that no worker knows: their jobs wait, and the pool says once why that may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .loop import Loop
from .output import Printer

PATIENCE = 1.0  # seconds: the module of a task that was just defined may be on its way to the workers


class Unknown:
    """Explains each unknown task once.

    is_known: whether the workers know a task by now. is_loading: whether they may know more in a moment.
    """

    def __init__(
        self, loop: Loop, printer: Printer, is_known: Callable[[str], bool], is_loading: Callable[[], bool]
    ) -> None:
        self._loop = loop
        self._printer = printer
        self._is_known = is_known
        self._is_loading = is_loading
        self._seen: set[str] = set()
        self._loaded: dict[str, Any] = {"stops": [], "main": None, "missing": {}}

    def learn(self, ready: dict[str, Any]) -> None:
        """A worker has said where the execution of its modules was ended, and what the main one is called."""
        self._loaded = ready

    def seen(self, task: str) -> None:
        """A job was claimed whose task no worker knows."""
        if task not in self._seen:
            self._seen.add(task)
            self._wait_for(task)

    def _wait_for(self, task: str) -> None:
        self._loop.after(PATIENCE, lambda: self._explain(task))

    def _explain(self, task: str) -> None:
        if self._is_known(task):
            self._seen.discard(task)
        elif self._is_loading():
            self._wait_for(task)
        else:
            loaded = self._loaded
            self._printer.say(explanation(task, loaded["stops"], loaded["main"], loaded["missing"]))


def explanation(task: str, stops: list[list[Any]], main: str | None, missing: dict[str, str]) -> str:
    """Why the workers may not know the task, and what to do.

    stops: where the execution of modules was ended, as [module, file, line, source of that line].
    main: the name of the main module, if the workers have executed it.
    missing: the modules of other code that the workers could not import, and why.
    """
    waits = f"no worker knows {task}, so its jobs wait"
    for module, error in missing.items():
        if task.startswith(f"{module}."):
            return (
                f"{waits}: its module is that of an older app process, and workers load the app as the newest"
                f" one does, where {error.splitlines()[-1]}. Give both the same paths, or a database each"
            )
    for module, file, line, source in stops:
        if task.startswith(f"{module}."):
            return (
                f"{waits}: it is defined below line {line} of {file}, `{source}`, where workers stop,"
                " as a server starts there or the module waits. Define it above that line, or put the line"
                " under `if not autocron.in_worker():`"
            )
    if main is not None and task.startswith(f"{main}."):
        return (
            f"{waits}: {main}, executed as a module, does not define it."
            ' Define it where `if __name__ == "__main__":` does not hide it'
        )
    return (
        f"{waits} for code that has it. If the function has another name now, put `name={task!r}`"
        " into the brackets of its decorator"
    )
