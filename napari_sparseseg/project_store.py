"""The SQLite file of a project: opening, locking, transactions, and errors told in a sentence.

A project folder holds ``project.sqlite`` (write-ahead log, synchronous FULL: what is committed survives
a crash of the process and of the machine) and ``lock.sqlite``, an empty database on which whoever has
the project open holds an exclusive lock.  The operating system lets go of it when the process ends, in
whatever way.  Nothing in the folder refers to where the folder is, so that it may be moved and copied
while it is closed.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from napari_sparseseg.annotation import SOURCES
from napari_sparseseg.errors import InputError

DATABASE_NAME = "project.sqlite"
LOCK_NAME = "lock.sqlite"
SCHEMA_VERSION = 2
APPLICATION_ID = 0x53505347  # tells our files from other SQLite files

_LOCK_TIMEOUT = 0.25  # seconds; somebody may just be looking whether the project is in use
_WRITE_TIMEOUT = 5.0  # seconds

_DAMAGE = (
    sqlite3.SQLITE_ERROR,  # a table that is not there, or text that is none
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
)

_POINTS = """CREATE TABLE points (number INTEGER PRIMARY KEY AUTOINCREMENT,
    case_number INTEGER NOT NULL REFERENCES cases, value INTEGER NOT NULL, voxel TEXT NOT NULL)"""

# Text that comes from outside is kept as JSON: file names on Linux may hold what UTF-8 cannot.
_SCHEMA = (
    "CREATE TABLE properties (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # Every class that there ever was, and every value ever painted ('null' when it was in no table).
    "CREATE TABLE classes (value INTEGER PRIMARY KEY, entry TEXT NOT NULL)",
    # last_change: the newest change that is not undone; those after it can be redone.
    """CREATE TABLE cases (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, shape TEXT NOT NULL,
        spacing TEXT NOT NULL, affine TEXT NOT NULL, source TEXT NOT NULL, fingerprint TEXT NOT NULL,
        last_change INTEGER NOT NULL DEFAULT 0)""",
    """CREATE TABLE changes (number INTEGER PRIMARY KEY AUTOINCREMENT,
        case_number INTEGER NOT NULL REFERENCES cases, source TEXT NOT NULL, time REAL NOT NULL,
        count INTEGER NOT NULL, voxels BLOB NOT NULL, after BLOB NOT NULL, before BLOB NOT NULL,
        before_sources BLOB NOT NULL)""",
    "CREATE INDEX changes_by_case ON changes (case_number, number)",
    """CREATE TABLE rounds (number INTEGER PRIMARY KEY AUTOINCREMENT,
        case_number INTEGER NOT NULL REFERENCES cases, time REAL NOT NULL, figures TEXT NOT NULL)""",
    "CREATE TABLE views (case_number INTEGER PRIMARY KEY REFERENCES cases, value TEXT NOT NULL)",
    """CREATE TABLE boxes (number INTEGER PRIMARY KEY AUTOINCREMENT,
        case_number INTEGER NOT NULL REFERENCES cases, value INTEGER NOT NULL,
        start TEXT NOT NULL, stop TEXT NOT NULL)""",
    """CREATE TABLE image_labels (number INTEGER PRIMARY KEY AUTOINCREMENT,
        case_number INTEGER NOT NULL REFERENCES cases, value INTEGER NOT NULL, present INTEGER NOT NULL,
        axis INTEGER, first INTEGER, last INTEGER)""",
    _POINTS,
)

_UPGRADES = {1: (_POINTS,)}
"""What makes a project of each earlier version one of the next."""


class ProjectInUse(InputError):
    """The project is open elsewhere: in another window, another program, or another part of this one."""


class ProjectStore:
    """The open database of one project folder, and the lock on it.

    It is used from the thread that opened it only.

    Attributes
    ----------
    folder
        The project's folder, absolute.
    """

    def __init__(self, folder: Path, lock: sqlite3.Connection, database: sqlite3.Connection) -> None:
        self.folder = folder
        self._lock = lock
        self._database = database
        self._place = _place(folder)
        self._is_open = True

    @classmethod
    def create(cls, folder: Path, properties: dict[str, Any]) -> Self:
        """Make a project in `folder`, which may exist but holds none yet; `properties` are plain JSON.

        Raises
        ------
        InputError
            If the folder holds a project already or cannot be written.
        """
        folder = Path(folder).absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be made ({error.strerror}); choose another place.") from error
        with _locked(folder) as lock:
            with _explained(folder):
                if _count_tables(folder):
                    raise InputError(f"{folder} holds a project already; open it, or choose another folder.")
            store = cls(folder, lock, _connect(folder / DATABASE_NAME, "rwc"))
            store._make({"created": time.time(), "sources": SOURCES, "clean": False, **properties})
        return store

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the project in `folder` and note that it was not closed cleanly yet.

        Raises
        ------
        ProjectInUse
            If it is open elsewhere.
        InputError
            If the folder holds no project, or a damaged or newer one, or cannot be written.
        """
        folder = Path(folder).absolute()
        with _explained(folder):
            check_format(folder)
        with _locked(folder) as lock:
            store = cls(folder, lock, _connect(folder / DATABASE_NAME, "rw"))
            store._begin()
        return store

    def close(self, *, clean: bool = True) -> None:
        """Let go of the project, noting that it was closed on purpose; closing twice does nothing."""
        try:
            if clean and self._is_open:
                with self.transaction():
                    self.set_property("clean", True)
        finally:
            self._is_open = False
            self._database.close()
            self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block as one transaction: all of it is on disk when the block has ended, or nothing.

        Raises
        ------
        InputError
            If the disk is full, the folder read-only or gone, or the file damaged.
        """
        with _explained(self.folder):
            if _place(self.folder) != self._place:
                raise InputError(
                    f"the project folder {self.folder} was moved or deleted while it was open, so nothing "
                    "can be saved in it; put it back, or open it where it is now."
                )
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # the first error says more
                    self._database.execute("ROLLBACK")
                raise

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement that writes, within a `transaction`; return the number of the row inserted last."""
        return self._database.execute(statement, values).lastrowid or 0

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows that a statement finds; raise `InputError` where the file is damaged."""
        with _explained(self.folder):
            return self._database.execute(statement, values).fetchall()

    def row(self, statement: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Return the first row that a statement finds, None when there is none."""
        found = self.rows(statement, values)
        return found[0] if found else None

    def property(self, key: str) -> Any:
        """Return what the project itself keeps under `key`, as plain JSON; None when there is nothing."""
        return self.read_json("SELECT value FROM properties WHERE key = ?", key)

    def set_property(self, key: str, value: Any) -> None:
        """Keep plain JSON under `key`, within a `transaction`."""
        self.execute("INSERT OR REPLACE INTO properties VALUES (?, ?)", (key, json.dumps(value)))

    def read_json(self, statement: str, key: str | int, default: Any = None) -> Any:
        """Return the JSON that a statement finds by `key`, else `default`."""
        row = self.row(statement, (key,))
        return default if row is None else self.parse(row[0], f"the entry {key}")

    def parse(self, text: Any, what: str) -> Any:
        """Return JSON read from the file; raise `InputError` where that is none."""
        try:
            return json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise self.damaged(what) from error

    def damaged(self, what: str) -> InputError:
        """Return the error to raise where `what` in the file is not as it was written."""
        return InputError(
            f"{self.folder / DATABASE_NAME} is damaged ({what} cannot be read); restore it from a backup."
        )

    def _make(self, properties: dict[str, Any]) -> None:
        """Write the empty tables and the properties; let go of everything if that fails."""
        try:
            with self.transaction():
                for statement in _SCHEMA:
                    self.execute(statement)
                self.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                for key, value in properties.items():
                    self.set_property(key, value)
        except BaseException:
            self._database.close()
            raise

    def _begin(self) -> None:
        """Note that the project is in use, and what this version has added: sources, and tables."""
        try:
            sources = self.property("sources")
            if not isinstance(sources, list) or list(SOURCES[: len(sources)]) != sources:
                raise self.damaged("the list of label sources")
            with self.transaction():
                self._upgrade()
                for key, value in (("sources", SOURCES), ("clean", False), ("dismissed", False)):
                    self.set_property(key, value)
        except BaseException:
            self._database.close()
            raise

    def _upgrade(self) -> None:
        """Make a project of an earlier version one of this version, within a transaction."""
        ((version,),) = self.rows("PRAGMA user_version")
        if version < 1:
            raise self.damaged("the version of its format")
        for earlier in range(version, SCHEMA_VERSION):
            for statement in _UPGRADES[earlier]:
                self.execute(statement)
        self.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def check_format(folder: Path) -> None:
    """Raise `InputError` unless `folder` holds a project of this version or an earlier one; change nothing.

    Raises
    ------
    InputError
        If it holds none, a newer one, or another program's file.
    sqlite3.Error
        If the file cannot be read.
    """
    if not (folder / DATABASE_NAME).is_file():
        raise InputError(
            f"{folder} is not a project: it holds no {DATABASE_NAME}; choose a project's folder."
        )
    with reading(folder) as database:
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise InputError(
            f"{folder / DATABASE_NAME} was not written by napari-sparseseg; choose another folder."
        )
    if version > SCHEMA_VERSION:
        raise InputError(
            f"the project {folder} was made by a newer napari-sparseseg (format {version}, this one knows "
            f"{SCHEMA_VERSION}); update napari-sparseseg."
        )


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that only reads, also while the project is in use elsewhere."""
    database = sqlite3.connect(
        _uri(folder / DATABASE_NAME, "ro"), uri=True, timeout=0.2, isolation_level=None
    )
    try:
        yield database
    finally:
        database.close()


def is_in_use(folder: Path) -> bool:
    """Return whether somebody has the project open; raise sqlite3.Error if that cannot be told."""
    path = folder / LOCK_NAME
    if not path.exists():
        return False
    # Never looked at but through SQLite: on POSIX closing the file otherwise would end the lock on it.
    probe = sqlite3.connect(_uri(path, "ro"), uri=True, timeout=0, isolation_level=None)
    try:
        probe.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if _code(error) != sqlite3.SQLITE_BUSY:
            raise
        return True
    finally:
        probe.close()
    return False


def _count_tables(folder: Path) -> int:
    """Return how many tables the database in `folder` holds; 0 where there is none."""
    if not (folder / DATABASE_NAME).exists():
        return 0
    with reading(folder) as database:
        (count,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return int(count)


@contextmanager
def _locked(folder: Path) -> Iterator[sqlite3.Connection]:
    """Lock the project in `folder`, and unlock it again only if the block fails."""
    with _explained(folder):
        path = _uri(folder / LOCK_NAME, "rwc")
        lock = sqlite3.connect(path, uri=True, timeout=_LOCK_TIMEOUT, isolation_level=None)
        try:
            lock.execute("PRAGMA journal_mode = OFF")  # nothing is ever written to it
            lock.execute("BEGIN EXCLUSIVE")
            yield lock
        except BaseException:
            lock.close()
            raise


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    with _explained(path.parent):
        database = sqlite3.connect(_uri(path, mode), uri=True, timeout=_WRITE_TIMEOUT, isolation_level=None)
        try:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                database.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException:
            database.close()
            raise
    return database


def _uri(path: Path, mode: str) -> str:
    quoted = quote(os.fsencode(path.absolute().as_posix()), safe="/:")
    return f"file://{'' if quoted.startswith('/') else '/'}{quoted}?mode={mode}"


def _place(folder: Path) -> tuple[int, int] | None:
    """Return what tells the database file from another one at the same place; None where there is none."""
    try:
        status = (folder / DATABASE_NAME).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn SQLite's errors into `InputError`; misuse by our own code stays what it is."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except UnicodeDecodeError as error:  # names of tables, or text, in the file
        raise InputError(
            f"{folder / DATABASE_NAME} is damaged (its text cannot be read); restore it from a backup."
        ) from error
    except sqlite3.Error as error:
        code = _code(error)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise ProjectInUse(
                f"the project {folder} is open elsewhere; go on there, or close it there first."
            ) from error
        if code == sqlite3.SQLITE_FULL:
            text = f"the disk of the project {folder} is full; free some space and do the last step again."
        elif code in _DAMAGE:
            text = f"{folder / DATABASE_NAME} is damaged ({error}); restore it from a backup."
        else:
            text = (
                f"the project {folder} cannot be read or written ({error}); check the disk and your rights."
            )
        raise InputError(text) from error
