"""The frame in which a store's schema grows: numbered steps, each run once, in one transaction.

Step n (counted from 1) turns schema n-1 into schema n; 0 is a store without tables. The number that
a store has reached stands in its table `autocron_meta` under `schema`: not in SQLite's `user_version`,
which belongs to the application where our tables are in its own database, and which PostgreSQL lacks.

A step only adds: tables, indexes, columns with a default. So a process of the version before, still
running during a deploy, goes on with the statements it knows, while a newer schema is refused by
whoever opens it afterwards. A released step is never edited.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SchemaTooNew

#: The statements of one step.
Step = Sequence[str]


def missing_steps(found: int, steps: Sequence[Step], name: str) -> Sequence[Step]:
    """The steps that a store with the schema `found` still needs.

    Raises `SchemaTooNew` if the store, called `name` in the message, has had steps that this version lacks.
    """
    if found > len(steps):
        raise SchemaTooNew(
            f"{name} has the schema {found}, written by a newer autocron-web; this one knows schemas up to "
            f"{len(steps)}. Install the newer version here as well, or use another database."
        )
    return steps[found:]
