"""Every SQL statement of the PostgreSQL store, named; the comment above each says why it is there.

The tables and columns are those of the SQLite store, and so are most statements. What is not said again
here is said there.
"""

from __future__ import annotations

from ..jobs import UNKNOWN_TASK
from .migrations import Step
from .rows import COLUMNS

# -- transactions and schema ------------------------------------------------------------------------

BEGIN = "BEGIN"
# The same for what a crash of the server may undo, if no later commit that waits for the disk has followed.
BEGIN_WITHOUT_SYNC = "BEGIN; SET LOCAL synchronous_commit TO off"
COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"
# One process at a time brings the schema up to date; the number is that of nothing else.
LOCK_SCHEMA = "SELECT pg_advisory_xact_lock(7164839205117)"
# Whether there is a schema yet, where tables are made. Not by `to_regclass`, which remembers that there was
# none before this process waited for the lock.
HAS_META = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_tables
                   WHERE schemaname = current_schema() AND tablename = 'autocron_meta')"""

STEPS: tuple[Step, ...] = (
    (  # 1
        """
        CREATE TABLE autocron_job (
            id TEXT NOT NULL UNIQUE,
            task TEXT NOT NULL,
            due BIGINT NOT NULL,
            created BIGINT NOT NULL,
            kind TEXT NOT NULL,
            queue TEXT NOT NULL,
            priority INTEGER NOT NULL,
            state TEXT NOT NULL,
            reason TEXT,
            started BIGINT,
            finished BIGINT,
            attempt INTEGER NOT NULL,
            crashes INTEGER NOT NULL,
            epoch BIGINT,
            owner TEXT,
            unique_key TEXT,
            expires BIGINT,
            codec TEXT NOT NULL,
            payload BYTEA NOT NULL,
            result BYTEA,
            error_type TEXT,
            error TEXT,
            output TEXT,
            parent TEXT,
            meta TEXT NOT NULL,
            seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY
        )""",
        """
        CREATE TABLE autocron_cron (
            name TEXT PRIMARY KEY,
            schedule TEXT NOT NULL,
            zone TEXT NOT NULL,
            created BIGINT NOT NULL,
            last_slot BIGINT NOT NULL
        )""",
        "CREATE TABLE autocron_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
        "CREATE TABLE autocron_setting (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
        # An index here does not end with `seq` by itself.
        """
        CREATE INDEX autocron_job_claim ON autocron_job (priority, due, seq)
        WHERE state = 'waiting' AND reason IS DISTINCT FROM 'unknown task'""",
        """
        CREATE UNIQUE INDEX autocron_job_unique ON autocron_job (unique_key)
        WHERE unique_key IS NOT NULL AND state IN ('waiting', 'running')""",
        "CREATE INDEX autocron_job_state ON autocron_job (state, seq)",
        """
        CREATE INDEX autocron_job_unknown ON autocron_job (task)
        WHERE state = 'waiting' AND reason = 'unknown task'""",
        """
        CREATE INDEX autocron_job_late ON autocron_job (expires)
        WHERE state = 'waiting' AND expires IS NOT NULL""",
        """
        CREATE INDEX autocron_job_finished ON autocron_job (expires)
        WHERE state IN ('done', 'error', 'cancelled') AND expires IS NOT NULL""",
    ),
)

# -- jobs -------------------------------------------------------------------------------------------

CLAIMABLE = f"state = 'waiting' AND reason IS DISTINCT FROM '{UNKNOWN_TASK}'"
UNKNOWN = f"state = 'waiting' AND reason = '{UNKNOWN_TASK}'"
FINISHED = "state IN ('done', 'error', 'cancelled')"

INSERT = f"""
    INSERT INTO autocron_job ({COLUMNS.removesuffix(", seq")})
    VALUES ({", ".join(["%s"] * COLUMNS.count(","))}) ON CONFLICT DO NOTHING"""
FIND_EXISTING = """
    SELECT id FROM autocron_job
    WHERE id = %(id)s
       OR (unique_key = %(key)s AND unique_key IS NOT NULL AND state IN ('waiting', 'running'))
    ORDER BY id <> %(id)s LIMIT 1"""
_EXPIRE = """
    UPDATE autocron_job
    SET state = 'cancelled', reason = 'expired', finished = %(now)s, expires = %(kept_until)s
    WHERE {} AND state = 'waiting' AND expires <= %(now)s"""
EXPIRE = _EXPIRE.format("id = %(id)s")
EXPIRE_RIVAL = _EXPIRE.format("""
    unique_key = (
        SELECT unique_key FROM autocron_job WHERE id = %(id)s AND state IN ('error', 'cancelled'))""")
GET = f"SELECT {COLUMNS} FROM autocron_job WHERE id = %s"
COUNTS = "SELECT state, count(*) FROM autocron_job GROUP BY state"
CANCEL = """
    UPDATE autocron_job SET state = 'cancelled', reason = %s, finished = %s, expires = %s
    WHERE id = %s AND state = 'waiting'"""
RETRY = """
    UPDATE autocron_job
    SET state = 'waiting', reason = NULL, due = %(now)s, started = NULL, finished = NULL, attempt = 0,
        crashes = 0, expires = NULL, result = NULL, error_type = NULL, error = NULL, output = NULL,
        meta = %(meta)s
    WHERE id = %(id)s AND state IN ('error', 'cancelled') AND NOT EXISTS (
        SELECT 1 FROM autocron_job AS other
        WHERE other.unique_key = autocron_job.unique_key AND other.state IN ('waiting', 'running'))"""
UNKNOWN_TASKS = f"""
    SELECT task, count(*) FROM autocron_job WHERE {UNKNOWN} GROUP BY task ORDER BY task LIMIT 100"""
SIZE = """
    SELECT sum(pg_total_relation_size(name::regclass))::bigint
    FROM unnest(ARRAY['autocron_job', 'autocron_cron', 'autocron_meta', 'autocron_setting']) AS name"""
# A parameter that may be NULL needs its type said.
_PAGE = f"""
    SELECT {COLUMNS} FROM autocron_job
    WHERE {{}} AND (%(task)s::text IS NULL OR task = %(task)s)
      AND (%(before)s::bigint IS NULL OR seq < %(before)s)
    ORDER BY seq DESC LIMIT %(limit)s"""
PAGE = _PAGE.format("true")
PAGE_OF_STATE = _PAGE.format("state = %(state)s")

# -- the monitor ------------------------------------------------------------------------------------

_LEVELS = f"""
    WITH RECURSIVE level (priority) AS (
        SELECT max(priority) FROM autocron_job WHERE {CLAIMABLE}
        UNION ALL
        SELECT (SELECT max(priority) FROM autocron_job WHERE {CLAIMABLE} AND priority < level.priority)
        FROM level WHERE level.priority IS NOT NULL)"""
# SKIP LOCKED: what another machine is claiming is its own. FOR SHARE: a claim and the beginning of a newer
# epoch of its owner wait for each other, so that no claim of an older one is committed after that.
CLAIM = f"""{_LEVELS},
    holder AS MATERIALIZED (
        SELECT 1 FROM autocron_meta
        WHERE key = 'epoch:' || %(owner)s::text AND value = %(epoch)s::bigint::text FOR SHARE),
    picked AS MATERIALIZED (
        SELECT job.seq FROM level CROSS JOIN LATERAL (
            SELECT seq, due FROM autocron_job
            WHERE {CLAIMABLE} AND priority = level.priority AND due <= %(now)s
              AND (expires IS NULL OR expires > %(now)s)
            ORDER BY due, seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS job
        WHERE EXISTS (SELECT 1 FROM holder)
        ORDER BY level.priority DESC, job.due, job.seq LIMIT %(limit)s)
    UPDATE autocron_job
    SET state = 'running', started = %(now)s, attempt = attempt + 1, epoch = %(epoch)s, owner = %(owner)s
    FROM picked WHERE autocron_job.seq = picked.seq
    RETURNING {", ".join("autocron_job." + column for column in COLUMNS.split(", "))}"""
NEXT_DUE = f"""{_LEVELS}
    SELECT min((
        SELECT due FROM autocron_job
        WHERE {CLAIMABLE} AND priority = level.priority AND (expires IS NULL OR expires > %s)
        ORDER BY due LIMIT 1))
    FROM level WHERE level.priority IS NOT NULL"""
SETTLE = """
    UPDATE autocron_job
    SET due = %s, queue = %s, priority = %s, state = %s, reason = %s, started = %s, finished = %s,
        attempt = %s, crashes = %s, epoch = %s, owner = %s, expires = %s, result = %s, error_type = %s,
        error = %s, output = %s, meta = %s
    WHERE id = %s AND epoch = %s AND state = 'running'"""
ANNOTATE = "UPDATE autocron_job SET meta = %s WHERE id = %s AND epoch = %s AND state = 'running'"
NEXT_EPOCH = """
    INSERT INTO autocron_meta (key, value) VALUES ('epoch', '1')
    ON CONFLICT (key) DO UPDATE SET value = (autocron_meta.value::bigint + 1)::text
    RETURNING value::bigint"""
RECOVER_OFTEN = f"""
    SELECT {COLUMNS} FROM autocron_job
    WHERE state = 'running' AND owner = %(owner)s AND epoch < %(epoch)s AND attempt >= %(most)s"""
RECOVER_WAITING = """
    UPDATE autocron_job SET state = 'waiting', epoch = NULL, owner = NULL
    WHERE state = 'running' AND owner = %(owner)s AND epoch < %(epoch)s"""
REVIVE = f"UPDATE autocron_job SET reason = NULL WHERE {UNKNOWN} AND task = %s"
# Two purges at once take different jobs.
PURGE_LATE = """
    UPDATE autocron_job
    SET state = 'cancelled', reason = 'expired', finished = %(now)s, expires = %(kept_until)s
    WHERE seq IN (
        SELECT seq FROM autocron_job
        WHERE state = 'waiting' AND expires IS NOT NULL AND expires <= %(now)s
        ORDER BY expires LIMIT %(limit)s FOR UPDATE SKIP LOCKED)"""
PURGE_FINISHED = f"""
    DELETE FROM autocron_job WHERE seq IN (
        SELECT seq FROM autocron_job
        WHERE {FINISHED} AND expires IS NOT NULL AND expires <= %(now)s
        ORDER BY expires LIMIT %(limit)s FOR UPDATE SKIP LOCKED)"""

# -- cron, meta, settings -----------------------------------------------------------------------------

SEE_CRON = """
    INSERT INTO autocron_cron (name, schedule, zone, created, last_slot)
    VALUES (%(name)s, %(schedule)s, %(zone)s, %(now)s, %(now)s)
    ON CONFLICT (name) DO UPDATE
    SET schedule = excluded.schedule, zone = excluded.zone, last_slot = excluded.last_slot
    WHERE autocron_cron.schedule <> excluded.schedule OR autocron_cron.zone <> excluded.zone"""
CRONS = "SELECT name, schedule, zone, created, last_slot FROM autocron_cron ORDER BY name"
RECALL_CRON = """
    UPDATE autocron_cron SET last_slot = %(now)s - 1 WHERE name = %(name)s AND last_slot > %(latest)s"""
CANCEL_RECALLED = """
    UPDATE autocron_job
    SET state = 'cancelled', reason = 'stored by a clock that was ahead', finished = %(now)s,
        expires = %(kept_until)s
    WHERE state = 'waiting' AND kind = 'cron' AND task = %(name)s AND due > %(latest)s"""
LAST_SLOT = "SELECT last_slot FROM autocron_cron WHERE name = %s"
TAKE_SLOT = "UPDATE autocron_cron SET last_slot = %(slot)s WHERE name = %(name)s AND last_slot < %(slot)s"

GET_META = "SELECT value FROM autocron_meta WHERE key = %s"
SET_META = """
    INSERT INTO autocron_meta (key, value) VALUES (%s, %s)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
SET_META_ONCE = "INSERT INTO autocron_meta (key, value) VALUES (%s, %s) ON CONFLICT DO NOTHING"

GET_SETTING = "SELECT value FROM autocron_setting WHERE key = %s"
SET_SETTING = """
    INSERT INTO autocron_setting (key, value) VALUES (%s, %s)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
DELETE_SETTING = "DELETE FROM autocron_setting WHERE key = %s"
ALL_SETTINGS = "SELECT key, value FROM autocron_setting ORDER BY key"
