"""Does a module that waits at some line wait for ever, or is there more to come? Pure: asks its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_DEFINING = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom,
    ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr,
)  # fmt: skip


def defines_more(source: str, line: int, function: int | None = None) -> bool:
    """Whether something is still to be defined, imported or assigned at this line or below it.

    source: of the whole file. line: where it waits. function: the first line of the function that waits
    there, counted with its decorators; None for the module's own code.

    `while True: time.sleep(60)` and `server.join()` at a module's end wait for ever, and nothing that a
    worker needs is lost if the execution ends there. `database = connect()` or a retry loop around it
    comes to its end some time, and so does whatever has a function or an import below it.
    """
    try:
        body = _body(ast.parse(source), function)
    except (SyntaxError, ValueError, RecursionError, StopIteration):
        return True  # not to be told
    return _defines(body, line)


def _body(tree: ast.Module, function: int | None) -> list[ast.stmt]:
    if function is None:
        return tree.body
    return next(
        node.body
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) == function
    )


def _defines(body: list[ast.stmt], line: int) -> bool:
    for statement in body:
        if (statement.end_lineno or statement.lineno) < line:
            continue
        if statement.lineno > line:
            found = any(isinstance(node, _DEFINING) for node in ast.walk(statement))
        elif _is_endless(statement):
            return False
        elif isinstance(statement, (ast.If, ast.Try, ast.With, ast.AsyncWith)):
            found = any(_defines(inner, line) for inner in _blocks(statement) if _holds(inner, line))
        else:
            found = any(isinstance(node, _DEFINING) for node in ast.walk(statement))
        if found:
            return True
    return False


def _is_endless(statement: ast.stmt) -> bool:
    """`while True:` without a `break`; one of a loop inside it counts too, which only means more patience."""
    return (
        isinstance(statement, ast.While)
        and isinstance(statement.test, ast.Constant)
        and bool(statement.test.value)
        and not any(isinstance(node, (ast.Break, ast.Return)) for node in ast.walk(statement))
    )


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        yield getattr(statement, name, [])
    for handler in getattr(statement, "handlers", []):
        yield handler.body


def _holds(body: list[ast.stmt], line: int) -> bool:
    return bool(body) and body[0].lineno <= line <= (body[-1].end_lineno or body[-1].lineno)
