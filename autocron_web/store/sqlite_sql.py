"""Every SQL statement of the SQLite store, named; the comment above each says why it is there.

Statements are constants, so that sqlite3 finds each in its cache of prepared ones.
"""

from __future__ import annotations

from ..jobs import UNKNOWN_TASK
from .migrations import Step
from .rows import COLUMNS

# -- the connection -----------------------------------------------------------------------------

# Readers and the one writer do not wait for each other. Written into the file: needed once per file.
WAL = "PRAGMA journal_mode = WAL"
# FULL syncs the WAL at each commit, so that a call that returned is on disk; NORMAL at checkpoints only.
SYNCHRONOUS = {"full": "PRAGMA synchronous = FULL", "normal": "PRAGMA synchronous = NORMAL"}
# A long read lets the WAL grow; without a limit it keeps that size for ever.
WAL_LIMIT = "PRAGMA journal_size_limit = 16777216"
# A claim uses several small temporary tables; in files, SQLite prepares room for more pages of each
# than they ever have, which takes longer than the rest of the claim.
TEMPORARY_IN_MEMORY = "PRAGMA temp_store = MEMORY"
# The writer polls for the lock itself, to tell a busy file from a stuck one.
NO_BUSY_HANDLER = "PRAGMA busy_timeout = 0"
# Copies the WAL into the database and cuts it off, unless somebody reads from it or writes to it just now.
CUT_WAL = "PRAGMA wal_checkpoint(TRUNCATE)"
# A statement that writes over the connection for reading would be a bug of ours.
QUERY_ONLY = "PRAGMA query_only = ON"
# IMMEDIATE takes the write lock first: a transaction that began by reading can fail when it writes.
BEGIN = "BEGIN IMMEDIATE"
COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"
# Changes when another connection has committed.
DATA_VERSION = "PRAGMA data_version"

# -- the schema -----------------------------------------------------------------------------------

# Reads a page of the file, so that a file that is no database is noticed before anything is written.
HAS_META = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'autocron_meta'"
# The table of jobs of autocron 1.x, known by its columns: an application may have a table `task` too.
IS_AUTOCRON_1 = """
    SELECT count(*) = 4 FROM pragma_table_info('task')
    WHERE name IN ('uuid', 'crontab', 'function_module', 'function_arguments')"""

STEPS: tuple[Step, ...] = (
    (  # 1
        # Columns in the order of `Job`. `seq` is the rowid: the order of arrival for free.
        """
        CREATE TABLE autocron_job (
            id TEXT NOT NULL UNIQUE,
            task TEXT NOT NULL,
            due INTEGER NOT NULL,
            created INTEGER NOT NULL,
            kind TEXT NOT NULL,
            queue TEXT NOT NULL,
            priority INTEGER NOT NULL,
            state TEXT NOT NULL,
            reason TEXT,
            started INTEGER,
            finished INTEGER,
            attempt INTEGER NOT NULL,
            crashes INTEGER NOT NULL,
            epoch INTEGER,
            owner TEXT,
            unique_key TEXT,
            expires INTEGER,
            codec TEXT NOT NULL,
            payload BLOB NOT NULL,
            result BLOB,
            error_type TEXT,
            error TEXT,
            output TEXT,
            parent TEXT,
            meta TEXT NOT NULL,
            seq INTEGER PRIMARY KEY
        )""",
        """
        CREATE TABLE autocron_cron (
            name TEXT PRIMARY KEY,
            schedule TEXT NOT NULL,
            zone TEXT NOT NULL,
            created INTEGER NOT NULL,
            last_slot INTEGER NOT NULL
        ) WITHOUT ROWID""",
        "CREATE TABLE autocron_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE autocron_setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        # What can be claimed, in the order of a claim; an index ends with the rowid, that is `seq`.
        """
        CREATE INDEX autocron_job_claim ON autocron_job (priority, due)
        WHERE state = 'waiting' AND reason IS NOT 'unknown task'""",
        # At most one unfinished job for each key.
        """
        CREATE UNIQUE INDEX autocron_job_unique ON autocron_job (unique_key)
        WHERE unique_key IS NOT NULL AND state IN ('waiting', 'running')""",
        # What is counted, listed and recovered: the jobs of a state, in the order of arrival.
        "CREATE INDEX autocron_job_state ON autocron_job (state)",
        # What newer code may be able to run.
        """
        CREATE INDEX autocron_job_unknown ON autocron_job (task)
        WHERE state = 'waiting' AND reason = 'unknown task'""",
        # What a purge cancels.
        """
        CREATE INDEX autocron_job_late ON autocron_job (expires)
        WHERE state = 'waiting' AND expires IS NOT NULL""",
        # What a purge deletes.
        """
        CREATE INDEX autocron_job_finished ON autocron_job (expires)
        WHERE state IN ('done', 'error', 'cancelled') AND expires IS NOT NULL""",
    ),
)

# -- jobs -----------------------------------------------------------------------------------------

# The conditions of the partial indexes: a query uses such an index only if it has the same words.
CLAIMABLE = f"state = 'waiting' AND reason IS NOT '{UNKNOWN_TASK}'"
UNKNOWN = f"state = 'waiting' AND reason = '{UNKNOWN_TASK}'"
FINISHED = "state IN ('done', 'error', 'cancelled')"

# Adds nothing where the id, or the key of an unfinished job, is there already.
INSERT = f"""
    INSERT INTO autocron_job ({COLUMNS.removesuffix(", seq")})
    VALUES ({", ".join("?" * COLUMNS.count(","))}) ON CONFLICT DO NOTHING"""
# Which job stands in the way of one that was not added: itself, else the one with its key.
FIND_EXISTING = """
    SELECT id FROM autocron_job
    WHERE id = :id OR (unique_key = :key AND unique_key IS NOT NULL AND state IN ('waiting', 'running'))
    ORDER BY id <> :id LIMIT 1"""
# The job in the way has not begun in time, and never will: what a purge would do a little later.
_EXPIRE = """
    UPDATE autocron_job SET state = 'cancelled', reason = 'expired', finished = :now, expires = :kept_until
    WHERE %s AND +state = 'waiting' AND expires <= :now"""
EXPIRE = _EXPIRE % "id = :id"
# The same where a job that is to begin anew is kept from it.
EXPIRE_RIVAL = (
    _EXPIRE
    % """
    unique_key IS NOT NULL AND state IN ('waiting', 'running') AND unique_key = (
        SELECT unique_key FROM autocron_job WHERE id = :id AND state IN ('error', 'cancelled'))"""
)
# A result asks for its job.
GET = f"SELECT {COLUMNS} FROM autocron_job WHERE id = ?"
# For the status: counted in an index, never in the table.
COUNTS = "SELECT state, count(*) FROM autocron_job GROUP BY state"
# Only what nobody has begun can be cancelled here; a running job is its monitor's to end.
CANCEL = """
    UPDATE autocron_job SET state = 'cancelled', reason = ?, finished = ?, expires = ?
    WHERE id = ? AND state = 'waiting'"""

# Begins anew. Not where an unfinished job has its key: there may be one of each.
RETRY = """
    UPDATE autocron_job
    SET state = 'waiting', reason = NULL, due = :now, started = NULL, finished = NULL,
        attempt = 0, crashes = 0, expires = NULL, result = NULL, error_type = NULL, error = NULL,
        output = NULL, meta = :meta
    WHERE id = :id AND state IN ('error', 'cancelled') AND NOT EXISTS (
        SELECT 1 FROM autocron_job AS other
        WHERE other.unique_key = autocron_job.unique_key AND other.state IN ('waiting', 'running'))"""
# For the status: what waits for newer code.
UNKNOWN_TASKS = f"""
    SELECT task, count(*) FROM autocron_job INDEXED BY autocron_job_unknown WHERE {UNKNOWN}
    GROUP BY task ORDER BY task LIMIT 100"""
# What else is in the file: an application may keep the store in its own database.
OTHER_TABLES = """
    SELECT name FROM sqlite_master
    WHERE type = 'table' AND substr(name, 1, 9) <> 'autocron_' AND substr(name, 1, 7) <> 'sqlite_'
    ORDER BY name"""
# For the status: pages that are free again count too.
SIZE = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"

# A page of jobs, newest first. The state has a statement of its own so that its index is read backwards.
# Both begin at `before`, with one comparison: with "… IS NULL OR" SQLite would read all that is newer, too.
_PAGE = f"""
    SELECT {COLUMNS} FROM autocron_job
    WHERE %s AND (:task IS NULL OR task = :task) AND seq < coalesce(:before, 9223372036854775807)
    ORDER BY seq DESC LIMIT :limit"""
PAGE = _PAGE % "true"
PAGE_OF_STATE = _PAGE % "state = :state"

# -- the monitor ----------------------------------------------------------------------------------

# Named, here and below: left to itself, SQLite may prefer the index of states and read all jobs of one.
_BY_CLAIM = "autocron_job INDEXED BY autocron_job_claim"
# The priorities of claimable jobs, highest first, with one look into the index for each: SQLite has no skip
# scan without statistics, and would read every waiting job for a DISTINCT. Statements as small as these take
# less time together than a recursive one, whose temporary tables cost more than all the rest of a claim.
TOP_LEVEL = f"SELECT max(priority) FROM {_BY_CLAIM} WHERE {CLAIMABLE}"
NEXT_LEVEL = f"{TOP_LEVEL} AND priority < ?"
# The jobs of a level that are due, in the order in which they are claimed.
DUE = f"""
    SELECT seq FROM {_BY_CLAIM}
    WHERE {CLAIMABLE} AND priority = :priority AND due <= :now AND (expires IS NULL OR expires > :now)
    ORDER BY due, seq LIMIT :limit"""
# Theirs is whoever has the newest epoch.
CLAIM = f"""
    UPDATE autocron_job
    SET state = 'running', started = :now, attempt = attempt + 1, epoch = :epoch, owner = :owner
    WHERE seq IN (SELECT value FROM json_each(:seqs))
      AND EXISTS (SELECT 1 FROM autocron_meta WHERE key = 'epoch:' || :owner AND value = CAST(:epoch AS TEXT))
    RETURNING {COLUMNS}"""
# When the monitor has to look again: the first job of a level.
NEXT_DUE = f"""
    SELECT due FROM {_BY_CLAIM}
    WHERE {CLAIMABLE} AND priority = ? AND (expires IS NULL OR expires > ?)
    ORDER BY due LIMIT 1"""
# A result that comes too late, after a recovery, changes nothing.
SETTLE = """
    UPDATE autocron_job
    SET due = ?, queue = ?, priority = ?, state = ?, reason = ?, started = ?, finished = ?, attempt = ?,
        crashes = ?, epoch = ?, owner = ?, expires = ?, result = ?, error_type = ?, error = ?, output = ?,
        meta = ?
    WHERE id = ? AND epoch = ? AND state = 'running'"""
# The same for jobs that are done, which most are: all in one statement, of a JSON list in the order of
# `done_rows` and the results in one blob. A statement for each takes three times as long, and the lock of
# the interpreter twice for each. The `+` keeps SQLite from looking for each among all that run.
SETTLE_DONE = """
    UPDATE autocron_job
    SET state = 'done', epoch = NULL, owner = NULL, finished = end.finished, expires = end.expires,
        reason = end.reason, output = end.output, meta = end.meta, error_type = end.error_type,
        error = end.error, result = substr(:results, end.start, end.size)
    FROM (
        SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS finished,
               json_extract(value, '$[2]') AS expires, json_extract(value, '$[3]') AS reason,
               json_extract(value, '$[4]') AS output, json_extract(value, '$[5]') AS meta,
               json_extract(value, '$[6]') AS error_type, json_extract(value, '$[7]') AS error,
               json_extract(value, '$[8]') AS start, json_extract(value, '$[9]') AS size
        FROM json_each(:ends)) AS end
    WHERE autocron_job.id = end.id AND autocron_job.epoch = :epoch AND +autocron_job.state = 'running'"""
# Progress of a job that is still this epoch's.
ANNOTATE = "UPDATE autocron_job SET meta = ? WHERE id = ? AND epoch = ? AND state = 'running'"
# One counter for the whole store, so that an epoch names one owner.
NEXT_EPOCH = """
    INSERT INTO autocron_meta (key, value) VALUES ('epoch', '1')
    ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING CAST(value AS INTEGER)"""
# Of jobs that were handed out again and again it is looked whether they are given up (`jobs.interrupted`) …
RECOVER_OFTEN = f"""
    SELECT {COLUMNS} FROM autocron_job
    WHERE state = 'running' AND owner = :owner AND epoch < :epoch AND attempt >= :most"""
# … and any other one waits again, due as it was.
RECOVER_WAITING = """
    UPDATE autocron_job SET state = 'waiting', epoch = NULL, owner = NULL
    WHERE state = 'running' AND owner = :owner AND epoch < :epoch"""
# The code that knows these tasks has come.
REVIVE = f"""
    UPDATE autocron_job INDEXED BY autocron_job_unknown SET reason = NULL WHERE {UNKNOWN} AND task = ?"""
# What nobody began in time.
PURGE_LATE = """
    UPDATE autocron_job SET state = 'cancelled', reason = 'expired', finished = :now, expires = :kept_until
    WHERE seq IN (
        SELECT seq FROM autocron_job INDEXED BY autocron_job_late
        WHERE state = 'waiting' AND expires IS NOT NULL AND expires <= :now ORDER BY expires LIMIT :limit)"""
# What was kept for long enough.
PURGE_FINISHED = f"""
    DELETE FROM autocron_job WHERE seq IN (
        SELECT seq FROM autocron_job INDEXED BY autocron_job_finished
        WHERE {FINISHED} AND expires IS NOT NULL AND expires <= :now ORDER BY expires LIMIT :limit)"""

# -- cron, meta, settings ---------------------------------------------------------------------------

# A schedule that is new, or means something else than before, has no missed slots.
SEE_CRON = """
    INSERT INTO autocron_cron (name, schedule, zone, created, last_slot)
    VALUES (:name, :schedule, :zone, :now, :now)
    ON CONFLICT (name) DO UPDATE
    SET schedule = excluded.schedule, zone = excluded.zone, last_slot = excluded.last_slot
    WHERE schedule <> excluded.schedule OR zone <> excluded.zone"""
# A slot was taken while the clock was ahead: the cron goes on from now.
RECALL_CRON = "UPDATE autocron_cron SET last_slot = :now - 1 WHERE name = :name AND last_slot > :latest"
# What was stored then and did not run; with its key it would keep the cron from running until that time.
CANCEL_RECALLED = """
    UPDATE autocron_job
    SET state = 'cancelled', reason = 'stored by a clock that was ahead', finished = :now,
        expires = :kept_until
    WHERE state = 'waiting' AND kind = 'cron' AND task = :name AND due > :latest"""
# Where the next slot is looked for from.
LAST_SLOT = "SELECT last_slot FROM autocron_cron WHERE name = ?"
# For the status: what has run, and when.
CRONS = "SELECT name, schedule, zone, created, last_slot FROM autocron_cron ORDER BY name"
# Whoever moves it forward has the slot: the row decides, not who is alive.
TAKE_SLOT = "UPDATE autocron_cron SET last_slot = :slot WHERE name = :name AND last_slot < :slot"

# What the store knows about itself: its schema, its application, its epochs.
GET_META = "SELECT value FROM autocron_meta WHERE key = ?"
SET_META = """
    INSERT INTO autocron_meta (key, value) VALUES (?, ?)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
# The first application wins, whoever else asks at the same time.
SET_META_ONCE = "INSERT INTO autocron_meta (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING"

# What the user has set, for every process.
GET_SETTING = "SELECT value FROM autocron_setting WHERE key = ?"
SET_SETTING = """
    INSERT INTO autocron_setting (key, value) VALUES (?, ?)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
DELETE_SETTING = "DELETE FROM autocron_setting WHERE key = ?"
ALL_SETTINGS = "SELECT key, value FROM autocron_setting ORDER BY key"
