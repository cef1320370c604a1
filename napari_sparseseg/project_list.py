"""Which projects there are, in the folder for them, and what to offer to a user who comes back.

A project folder that is broken, or not readable, is passed over: looking around never fails.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

import platformdirs

from napari_sparseseg.errors import InputError
from napari_sparseseg.project_store import (
    DATABASE_NAME,
    ProjectInUse,
    ProjectStore,
    check_format,
    is_in_use,
    reading,
)


@dataclass(frozen=True)
class ProjectSummary:
    """A project as a list shows it, read without opening it.

    Attributes
    ----------
    folder, name
        Where it is, and the name of that folder.
    changed
        When its labels changed last, in local time; when it was made if there are none.
    cases
        Names of its images.
    labels
        Number of label changes in force (strokes, accepted slices, …).
    clean
        Whether it was closed on purpose.
    in_use
        Whether somebody has it open now.
    dismissed
        Whether the user does not want to be asked about it again.
    """

    folder: Path
    name: str
    changed: datetime
    cases: tuple[str, ...]
    labels: int
    clean: bool
    in_use: bool
    dismissed: bool = False

    @property
    def unfinished(self) -> bool:
        """Whether to offer going on: there are labels, and whatever made them ended without closing it."""
        return self.labels > 0 and not (self.clean or self.in_use or self.dismissed)


def default_root() -> Path:
    """Return the folder for projects whose place the user did not choose: ``SPARSESEG_PROJECTS`` if set."""
    chosen = os.environ.get("SPARSESEG_PROJECTS")
    return Path(chosen) if chosen else Path(platformdirs.user_data_dir("napari-sparseseg")) / "projects"


def new_folder() -> Path:
    """Make a folder in `default_root`, named by date and time; raise `InputError` where that fails."""
    root, moment = default_root(), datetime.now().strftime("%Y-%m-%d %H.%M.%S")
    for attempt in count(1):
        folder = root / (moment if attempt == 1 else f"{moment} ({attempt})")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.is_dir():  # the root itself, or a folder above it, is a file
                raise InputError(f"{root} is not a folder; choose another place for the project.") from None
        except OSError as error:
            raise InputError(
                f"{folder} cannot be made ({error.strerror}); choose another place for the project."
            ) from error
        else:
            break
    return folder


def recent_projects(root: Path | None = None) -> list[ProjectSummary]:
    """Return the projects in `root` (default: `default_root`), the one changed last first."""
    found = [summary for folder in _project_folders(root) if (summary := summarise(folder)) is not None]
    return sorted(found, key=lambda summary: summary.changed, reverse=True)


def find_unfinished(root: Path | None = None) -> ProjectSummary | None:
    """Return the project used last among those that were not closed, have labels and are not in use.

    None when there is none; one that was dismissed counts again after it was opened again.
    """
    summaries = (summarise(folder) for folder in _project_folders(root))  # only as many as it takes
    return next((summary for summary in summaries if summary is not None and summary.unfinished), None)


def summarise(folder: Path) -> ProjectSummary | None:
    """Return the summary of one project folder, None where it cannot be read."""
    try:
        check_format(folder)
        with reading(folder) as database:
            return _summarise(folder, database)
    except (sqlite3.Error, OSError, OverflowError, RecursionError, TypeError, ValueError):
        return None


def dismiss(folder: Path) -> None:
    """Do not offer this unfinished project again; nothing in it is lost.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    try:
        store = ProjectStore.open(folder)
    except ProjectInUse:
        return  # then it is not offered anyway, and whoever has it decides
    try:
        with store.transaction():
            store.set_property("dismissed", True)
    finally:
        store.close(clean=False)


def _project_folders(root: Path | None) -> Iterator[Path]:
    """Yield the project folders in `root`, the one written to last first."""
    root = default_root() if root is None else Path(root)
    found = []
    try:
        folders = list(root.iterdir())
    except OSError:
        return
    for folder in folders:
        times = []
        for name in (DATABASE_NAME, f"{DATABASE_NAME}-wal"):
            try:
                times.append((folder / name).stat().st_mtime_ns)
            except OSError:
                continue
        if times:
            found.append((max(times), folder))
    for _, folder in sorted(found, reverse=True):
        yield folder


def _summarise(folder: Path, database: sqlite3.Connection) -> ProjectSummary:
    properties = {
        key: json.loads(value) for key, value in database.execute("SELECT key, value FROM properties")
    }
    cases = tuple(
        str(json.loads(name)) for (name,) in database.execute("SELECT name FROM cases ORDER BY number")
    )
    (labels,) = database.execute(
        "SELECT count(*) FROM cases JOIN changes ON changes.case_number = cases.number "
        "AND changes.number <= cases.last_change"
    ).fetchone()
    latest = database.execute("SELECT time FROM changes ORDER BY number DESC LIMIT 1").fetchone()
    changed = float(properties["created"] if latest is None else latest[0])
    return ProjectSummary(
        folder=folder,
        name=folder.name,
        changed=datetime.fromtimestamp(changed).astimezone(),
        cases=cases,
        labels=int(labels),
        clean=properties["clean"] is True,
        in_use=is_in_use(folder),
        dismissed=properties.get("dismissed") is True,
    )
