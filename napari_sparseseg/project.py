"""A project: the images of one piece of work, their labels and everything else that must not be lost.

It is the single source of truth: whatever the user made is in its SQLite file before the method that
recorded it returns, and comes back when the project is opened again, whether it was closed, killed, or
the machine lost its power.  Whoever shows or uses that data listens to the project's signals.

Labels are *painted values* here, in the napari Labels layer, in `requests.Paint` and in the prediction
alike: **0 unlabelled or erased, 1 background, 2 to 255 the `LabelClass.value` of a class**.  The first row
of the class table is background: its `value` is 0, as a mask file has it, but it is painted as 1.  (The
annotation arrays of the training core hold channel + 1 instead; `annotation` has the conversions.)
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from psygnal import Signal

from napari_sparseseg.annotation import BACKGROUND, ClassTable
from napari_sparseseg.errors import InputError
from napari_sparseseg.journal import Journal
from napari_sparseseg.label_change import LabelChange
from napari_sparseseg.project_cases import (
    find_round,
    insert_case,
    insert_round,
    read_cases,
    read_rounds,
    update_round,
)
from napari_sparseseg.project_classes import ProjectClasses, check_table
from napari_sparseseg.project_hints import ProjectHints
from napari_sparseseg.project_images import check_image, load_image, save_image
from napari_sparseseg.project_list import (
    ProjectSummary,
    default_root,
    dismiss,
    find_unfinished,
    new_folder,
    recent_projects,
)
from napari_sparseseg.project_records import BoxRecord, CaseRecord, ImageLabelRecord, RoundRecord
from napari_sparseseg.project_store import ProjectInUse, ProjectStore

__all__ = [
    "BoxRecord",
    "CaseRecord",
    "ImageLabelRecord",
    "LabelChange",
    "Project",
    "ProjectInUse",
    "ProjectSummary",
    "RoundRecord",
    "default_root",
    "dismiss",
    "find_unfinished",
    "recent_projects",
]


class Project:
    """One open project; made by `create` or `open`, used from one thread, and closed by `close`.

    Every method that records something returns only when it is on disk, and raises `InputError` when it
    cannot be (disk full, folder read-only or moved away); then nothing has changed.

    Attributes
    ----------
    table_changed
        Signal: the new `ClassTable`.
    case_added
        Signal: number of the case.
    labels_changed
        Signal: number of the case and the `LabelChange`; undone ones too, then `LabelChange.undone` is set.
    rounds_changed
        Signal: number of the case.
    hints
        Boxes and image-level labels.
    """

    table_changed = Signal(ClassTable)
    case_added = Signal(int)
    labels_changed = Signal(int, LabelChange)
    rounds_changed = Signal(int)

    def __init__(self, store: ProjectStore) -> None:
        self._store = store
        self.hints = ProjectHints(store, self.case)
        self._journals: dict[int, Journal] = {}
        self._classes = ProjectClasses(store)
        self._cases = {case.number: case for case in read_cases(store)}

    @classmethod
    def create(cls, folder: Path | str | None = None) -> Self:
        """Make a project in `folder`, or in a new folder of `default_root` named by date and time.

        Its table has background and one class.  The folder may exist, and hold other files.

        Raises
        ------
        InputError
            If the folder holds a project already, or cannot be written.
        """
        table = ClassTable.from_values([BACKGROUND + 1])
        place = new_folder() if folder is None else Path(folder)
        return cls._opened(ProjectStore.create(place, {"table": table.to_json()}))

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open the project in `folder`, wherever it was moved to.

        Raises
        ------
        ProjectInUse
            If it is open elsewhere, in this process or another.
        InputError
            If the folder holds no project, or a damaged or newer one, or cannot be written.
        """
        return cls._opened(ProjectStore.open(Path(folder)))

    @classmethod
    def _opened(cls, store: ProjectStore) -> Self:
        try:
            return cls(store)
        except BaseException:
            store.close(clean=False)
            raise

    def close(self) -> None:
        """Note that the project was closed on purpose and let go of it; closing twice does nothing."""
        self._journals.clear()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """Where the project is, absolute."""
        return self._store.folder

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    def checkpoint_folder(self, case: int) -> Path:
        """Return the folder for what training keeps of a case; it need not exist yet."""
        return self.folder / "checkpoints" / f"case-{self.case(case).number}"

    # -- classes --

    @property
    def table(self) -> ClassTable:
        """The classes; `LabelClass.value` is what is painted, background is painted as 1."""
        return self._classes.table

    def set_table(self, table: ClassTable) -> None:
        """Replace the class table.

        Before a class is taken out of it, its labels are erased (`erase_value`).  Undoing that brings the
        class back.

        Raises
        ------
        InputError
            If a class has a value that cannot be painted (0, 1 or above 255).
        """
        check_table(table)
        if table != self.table:
            with self._store.transaction():
                self._classes.write(table)
            self._classes.adopt(table)
            self.table_changed.emit(table)

    def free_value(self) -> int:
        """Return a value for a new class that nothing in this project ever had, undone labels included."""
        return self._classes.free_value()

    # -- cases --

    def add_case(
        self,
        name: str,
        shape: tuple[int, ...],
        spacing: tuple[float, ...],
        affine: ArrayLike,
        *,
        source: str = "",
        fingerprint: str = "",
        image: NDArray[Any] | None = None,
    ) -> int:
        """Add a volume; return its number.

        Parameters
        ----------
        name
            For people.
        shape
            Voxels ``(Z, Y, X)``.
        spacing
            Voxel size in mm ``(Z, Y, X)``.
        affine
            ``(4, 4)``: index ``(z, y, x)`` to patient mm ``(z, y, x)``, as `volume.Volume` has it.
        source
            The file that the image can be loaded from again; empty when there is none.
        fingerprint
            What `find_case` knows the image by.
        image
            ``(C, Z, Y, X)`` or ``(Z, Y, X)`` numbers, to be kept in the project.

        Raises
        ------
        InputError
            If the geometry makes no sense, the image has another shape, or there is no room for it.
        """
        voxels: Any = tuple(int(size) for size in shape)
        millimetres: Any = tuple(float(size) for size in spacing)
        rows = tuple(tuple(row) for row in np.atleast_2d(np.asarray(affine, np.float64)).tolist())
        case = CaseRecord(0, name, voxels, millimetres, rows, source, fingerprint)
        if image is not None:
            check_image(image, case)
        with self._store.transaction():
            number = insert_case(self._store, case)
            if image is not None:
                save_image(self._image_path(number), image)
        self._cases[number] = dataclasses.replace(case, number=number)
        self.case_added.emit(number)
        return number

    def cases(self) -> tuple[CaseRecord, ...]:
        """Return all cases in the order in which they were added."""
        return tuple(self._cases.values())

    def case(self, number: int) -> CaseRecord:
        """Return one case; raise `InputError` where there is none of that number."""
        if number not in self._cases:
            raise InputError(f"the project {self.name} has no case {number}; open its image first.")
        return self._cases[number]

    def find_case(self, fingerprint: str) -> CaseRecord | None:
        """Return the case with this fingerprint, None where there is none; an empty one finds nothing."""
        return next((case for case in self.cases() if fingerprint and case.fingerprint == fingerprint), None)

    def load_image(self, case: int) -> NDArray[Any]:
        """Load the image that `add_case` kept: ``(C, Z, Y, X)`` or ``(Z, Y, X)`` as it was given.

        Raises
        ------
        InputError
            If the project holds no image of this case, or it is damaged.
        """
        return load_image(self._image_path(case), self.case(case))

    # -- labels --

    def labels(self, case: int) -> NDArray[np.uint8]:
        """Return the painted values ``(Z, Y, X)`` of a case: a read-only view that changes with the labels.

        The first call replays the case's journal.

        Raises
        ------
        InputError
            If the journal is damaged.
        """
        return self._journal(case).labels

    def sources(self, case: int) -> NDArray[np.uint8]:
        """Return where each label comes from ``(Z, Y, X)``, by `annotation.source_code`; a live view."""
        return self._journal(case).sources

    def voxel_counts(self, case: int) -> dict[int, int]:
        """Return the number of voxels per painted value other than 0; takes no time."""
        return self._journal(case).voxel_counts()

    def add_change(
        self, case: int, voxels: ArrayLike, after: ArrayLike, source: str = "stroke"
    ) -> LabelChange | None:
        """Record labels; when this returns they are on disk.

        A user's own stroke wins over everything.  Any other source leaves voxels alone whose label comes
        from a stronger one (`annotation.SOURCE_WEIGHTS`) or from a stroke.  What was undone before can no
        longer be redone.

        Parameters
        ----------
        case
            Number of the case.
        voxels
            ``(N,)`` flat indices ``(Z, Y, X)``; of a voxel given twice the last value counts.
        after
            ``(N,)`` painted values, or one for all: 0 erases, 1 is background, else a class.
        source
            Key of `annotation.SOURCE_WEIGHTS`.

        Returns
        -------
        What changed; None when nothing did, and nothing was recorded.

        Raises
        ------
        InputError
            If voxels or values make no sense, or nothing can be written; the labels are as before.
        """
        return self._record([self._journal(case).plan(voxels, after, source)])[0]

    def undo(self, case: int) -> LabelChange | None:
        """Take back the newest change of a case and return it; None when there is none."""
        return self._record([self._journal(case).plan_undo()])[0]

    def redo(self, case: int) -> LabelChange | None:
        """Bring back the change that was undone last and return it; None when there is none."""
        return self._record([self._journal(case).plan_redo()])[0]

    def erase_value(self, value: int, case: int | None = None) -> tuple[LabelChange, ...]:
        """Erase a painted value in one case or in all, in one step; return a change per case that had it."""
        numbers = self._cases if case is None else [case]
        plans = [self._journal(number).plan_erasure(value) for number in numbers]
        return tuple(change for change in self._record(plans) if change is not None)

    def changes(self, case: int) -> Iterator[LabelChange]:
        """Yield the changes of a case that are not undone, oldest first; do not change labels meanwhile."""
        return self._journal(case).changes()

    def label_count(self) -> int:
        """Return how many changes of all cases are in force."""
        row = self._store.row(
            "SELECT count(*) FROM cases JOIN changes ON changes.case_number = cases.number "
            "AND changes.number <= cases.last_change"
        )
        return int(row[0]) if row else 0

    def forget_labels(self, case: int) -> None:
        """Free the memory of a case's labels; they are read again when they are asked for."""
        self._journals.pop(case, None)

    # -- training rounds, view and settings --

    def add_round(self, case: int, figures: Mapping[str, Any]) -> int:
        """Keep the figures (plain JSON) of a round of training that begins; return its number."""
        with self._store.transaction():
            number = insert_round(self._store, self.case(case).number, figures)
        self.rounds_changed.emit(case)
        return number

    def update_round(self, number: int, figures: Mapping[str, Any]) -> None:
        """Add or replace figures of a round; raise `InputError` where there is none of that number."""
        before = find_round(self._store, number)
        if before is None:
            raise InputError(f"the project {self.name} has no training round {number}.")
        with self._store.transaction():
            update_round(self._store, number, {**before.figures, **figures})
        self.rounds_changed.emit(before.case)

    def rounds(self, case: int) -> tuple[RoundRecord, ...]:
        """Return the training rounds of a case, oldest first."""
        return read_rounds(self._store, case)

    def save_view(self, case: int, view: Mapping[str, Any]) -> None:
        """Keep how a case is looked at (position, order, zoom, tool, …) as plain JSON."""
        self._save_json("views", self.case(case).number, dict(view))

    def view(self, case: int) -> dict[str, Any]:
        """Return what `save_view` kept, empty when there is nothing."""
        view = self._store.read_json("SELECT value FROM views WHERE case_number = ?", case, {})
        if not isinstance(view, dict):
            raise self._store.damaged(f"the view of case {case}")
        return view

    def save_setting(self, key: str, value: Any) -> None:
        """Keep a setting of the whole project as plain JSON."""
        self._save_json("settings", key, value)

    def setting(self, key: str, default: Any = None) -> Any:
        """Return what `save_setting` kept, else `default`."""
        return self._store.read_json("SELECT value FROM settings WHERE key = ?", key, default)

    # -- inside --

    def _image_path(self, case: int) -> Path:
        return self.folder / "images" / f"case-{case}.npy"

    def _journal(self, case: int) -> Journal:
        if case not in self._journals:
            self._journals[case] = Journal(self._store, case, self.case(case).shape)
        return self._journals[case]

    def _record(self, plans: list[LabelChange | None]) -> list[LabelChange | None]:
        """Write planned changes in one transaction, then show and announce them."""
        wanted = [plan for plan in plans if plan is not None]
        if not wanted:
            return plans
        values = {int(value) for plan in wanted for value in np.unique(plan.values)} - {0, BACKGROUND}
        returning = any(plan.number for plan in wanted)  # undone or redone: classes come back with labels
        table = self._classes.with_values(values) if returning else self.table
        with self._store.transaction():
            written = [plan and self._journal(plan.case).write(plan) for plan in plans]
            self._classes.write(table, values)
        changes = [change for change in written if change is not None]
        for change in changes:
            self._journal(change.case).show(change)
        if self._classes.adopt(table, values):
            self.table_changed.emit(table)
        for change in changes:
            self.labels_changed.emit(change.case, change)
        return written

    def _save_json(self, table: str, key: str | int, value: Any) -> None:
        with self._store.transaction():
            self._store.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key, json.dumps(value)))
