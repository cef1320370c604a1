"""The cheaper hints of a project: bounding boxes, points and image-level labels, on the project's file."""

import json
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from psygnal import Signal

from napari_sparseseg.errors import InputError
from napari_sparseseg.label_change import LARGEST_VALUE
from napari_sparseseg.project_records import BoxRecord, CaseRecord, ImageLabelRecord, PointRecord
from napari_sparseseg.project_store import ProjectStore

Triple = tuple[int, int, int]


class ProjectHints:
    """Boxes, points and image-level labels of all cases of a project file.

    Parameters
    ----------
    store
        The project file.
    find_case
        Returns the case of a number; raises `InputError` where there is none.

    Attributes
    ----------
    changed
        Signal: number of the case whose boxes, points or image-level labels changed.
    """

    changed = Signal(int)

    def __init__(self, store: ProjectStore, find_case: Callable[[int], CaseRecord]) -> None:
        self._store = store
        self._find_case = find_case

    def add_box(self, case: int, value: int, start: Triple, stop: Triple) -> int:
        """Keep a box; return its number.

        Parameters
        ----------
        case
            Number of the case.
        value
            Painted value of the class.
        start, stop
            First voxel and the one after the last, ``(Z, Y, X)``.

        Raises
        ------
        InputError
            If the box is empty or reaches out of the image.
        """
        columns = _box_columns(self._find_case(case), value, start, stop)
        with self._store.transaction():
            number = self._store.execute(
                "INSERT INTO boxes (case_number, value, start, stop) VALUES (?, ?, ?, ?)", (case, *columns)
            )
        self.changed.emit(case)
        return number

    def change_box(
        self,
        case: int,
        number: int,
        *,
        value: int | None = None,
        start: Triple | None = None,
        stop: Triple | None = None,
    ) -> None:
        """Give a box another class or other corners; what is None stays as it is.

        Parameters
        ----------
        case, number
            Numbers of the case and of its box.
        value, start, stop
            As in `add_box`.

        Raises
        ------
        InputError
            If the case has no such box, or the box would be empty or reach out of the image.
        """
        record = self._find_case(case)
        with self._store.transaction():
            query = "SELECT number, value, start, stop FROM boxes WHERE number = ? AND case_number = ?"
            row = self._store.row(query, (number, case))
            if row is None:
                raise InputError(f"there is no box {number} in {record.name}; choose another.")
            old = self._read_box(record, row)
            columns = _box_columns(
                record,
                old.value if value is None else value,
                old.start if start is None else start,
                old.stop if stop is None else stop,
            )
            self._store.execute(
                "UPDATE boxes SET value = ?, start = ?, stop = ? WHERE number = ?", (*columns, number)
            )
        self.changed.emit(case)

    def remove_box(self, case: int, number: int) -> None:
        """Forget a box; one that is not there stays so."""
        self._remove("boxes", case, number)

    def boxes(self, case: int) -> tuple[BoxRecord, ...]:
        """Return the boxes of a case in the order in which they were drawn."""
        record = self._find_case(case)
        query = "SELECT number, value, start, stop FROM boxes WHERE case_number = ? ORDER BY number"
        return tuple(self._read_box(record, row) for row in self._store.rows(query, (case,)))

    def add_point(self, case: int, value: int, voxel: Triple) -> int:
        """Keep a point inside an object; return its number.

        Parameters
        ----------
        case
            Number of the case.
        value
            Painted value of the class; 1 is background.
        voxel
            ``(Z, Y, X)``.

        Raises
        ------
        InputError
            If the point is not in the image.
        """
        record = self._find_case(case)
        place = _as_voxel(record, voxel)
        if place is None:
            raise InputError(
                f"the point {voxel} is not in the image {record.name}, whose shape is {record.shape}; place "
                "it inside the image."
            )
        columns = (case, _class_value(value), json.dumps(place))
        with self._store.transaction():
            number = self._store.execute(
                "INSERT INTO points (case_number, value, voxel) VALUES (?, ?, ?)", columns
            )
        self.changed.emit(case)
        return number

    def remove_point(self, case: int, number: int) -> None:
        """Forget a point; one that is not there stays so."""
        self._remove("points", case, number)

    def points(self, case: int) -> tuple[PointRecord, ...]:
        """Return the points of a case in the order in which they were set."""
        record = self._find_case(case)
        query = "SELECT number, value, voxel FROM points WHERE case_number = ? ORDER BY number"
        return tuple(self._read_point(record, row) for row in self._store.rows(query, (case,)))

    def set_image_label(
        self,
        case: int,
        value: int,
        present: bool,
        axis: int | None = None,
        first: int | None = None,
        last: int | None = None,
    ) -> int:
        """Keep whether a class occurs in the image, or in slices of it; return the label's number.

        An answer to the same question takes the place of the one before.

        Parameters
        ----------
        case
            Number of the case.
        value
            Painted value of the class.
        present
            Whether it occurs.
        axis, first, last
            Slices across `axis` from `first` to `last`, both included; all None for the whole image.

        Raises
        ------
        InputError
            If there are no such slices.
        """
        record = self._find_case(case)
        if (axis, first, last) != (None, None, None) and not _is_range(record, axis, first, last):
            raise InputError(
                f"slices {first} to {last} across axis {axis} are not in the image {record.name}, whose "
                f"shape is {record.shape}; choose slices of the image."
            )
        question = (case, _class_value(value), axis, first, last)
        with self._store.transaction():
            self._store.execute(
                "DELETE FROM image_labels WHERE case_number = ? AND value = ? AND axis IS ? AND first IS ? "
                "AND last IS ?",
                question,
            )
            number = self._store.execute(
                "INSERT INTO image_labels (case_number, value, axis, first, last, present) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (*question, bool(present)),
            )
        self.changed.emit(case)
        return number

    def remove_image_label(self, case: int, number: int) -> None:
        """Forget an image-level label; one that is not there stays so."""
        self._remove("image_labels", case, number)

    def image_labels(self, case: int) -> tuple[ImageLabelRecord, ...]:
        """Return the image-level labels of a case, the newest last."""
        record = self._find_case(case)
        query = (
            "SELECT number, value, present, axis, first, last FROM image_labels "
            "WHERE case_number = ? ORDER BY number"
        )
        return tuple(self._read_image_label(record, row) for row in self._store.rows(query, (case,)))

    def _remove(self, table: str, case: int, number: int) -> None:
        self._find_case(case)
        with self._store.transaction():
            self._store.execute(f"DELETE FROM {table} WHERE number = ? AND case_number = ?", (number, case))
        self.changed.emit(case)

    def _read_box(self, case: CaseRecord, row: tuple[Any, ...]) -> BoxRecord:
        number, value, start, stop = row
        box = _as_box(case, *(self._store.parse(text, f"box {number}") for text in (start, stop)))
        if box is None or not isinstance(value, int):
            raise self._store.damaged(f"box {number}")
        return BoxRecord(number, case.number, value, *box)

    def _read_point(self, case: CaseRecord, row: tuple[Any, ...]) -> PointRecord:
        number, value, text = row
        voxel = _as_voxel(case, self._store.parse(text, f"point {number}"))
        if voxel is None or not isinstance(value, int):
            raise self._store.damaged(f"point {number}")
        return PointRecord(number, case.number, value, voxel)

    def _read_image_label(self, case: CaseRecord, row: tuple[Any, ...]) -> ImageLabelRecord:
        number, value, present, axis, first, last = row
        whole = (axis, first, last) == (None, None, None)
        if not (
            isinstance(value, int) and present in (0, 1) and (whole or _is_range(case, axis, first, last))
        ):
            raise self._store.damaged(f"image-level label {number}")
        return ImageLabelRecord(number, case.number, value, bool(present), axis, first, last)


def _box_columns(case: CaseRecord, value: Any, start: Any, stop: Any) -> tuple[int, str, str]:
    """Return what the table holds of a box; refuse one that makes no sense."""
    box = _as_box(case, start, stop)
    if box is None:
        raise InputError(
            f"the box from {start} to {stop} must hold voxels of the image {case.name}, whose shape is "
            f"{case.shape}; draw it inside the image."
        )
    return _class_value(value), json.dumps(box[0]), json.dumps(box[1])


def _as_box(case: CaseRecord, start: Any, stop: Any) -> tuple[Triple, Triple] | None:
    """Return the corners as whole numbers, None unless they make a box inside the image."""
    first, after_last = _triple(start), _triple(stop)
    if first is None or after_last is None:
        return None
    inside = all(0 <= a < b <= size for a, b, size in zip(first, after_last, case.shape, strict=True))
    return (first, after_last) if inside else None


def _as_voxel(case: CaseRecord, voxel: Any) -> Triple | None:
    """Return the voxel as whole numbers, None unless it is in the image."""
    place = _triple(voxel)
    if place is None or not all(0 <= n < size for n, size in zip(place, case.shape, strict=True)):
        return None
    return place


def _is_range(case: CaseRecord, axis: Any, first: Any, last: Any) -> bool:
    if not all(isinstance(n, int) for n in (axis, first, last)):
        return False
    return axis in (0, 1, 2) and bool(0 <= first <= last < case.shape[axis])


def _class_value(value: Any) -> int:
    if not isinstance(value, int | np.integer) or not 1 <= value <= LARGEST_VALUE:
        raise InputError(
            f"the class value must be between 1 and {LARGEST_VALUE}, not {value!r}; choose a class."
        )
    return int(value)


def _triple(values: Any) -> Triple | None:
    """Return three whole numbers, None for anything else."""
    try:
        z, y, x = (operator.index(number) for number in values)
    except (TypeError, ValueError):
        return None
    return z, y, x
