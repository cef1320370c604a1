"""The labels of one case, and the journal of changes that made them.

Labels hold *painted values*: 0 unlabelled or erased, 1 background, 2 to 255 the `LabelClass.value` of a
class.  The journal on disk is the truth; the arrays in memory are what replaying it gives.  A change is
first written (`Journal.write`, within a transaction) and then shown (`Journal.show`), so that memory
never holds what the disk does not.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sparseseg.annotation import SOURCES, source_code
from napari_sparseseg.errors import InputError
from napari_sparseseg.label_change import (
    LARGEST_VALUE,
    LabelChange,
    check_source,
    order_voxels,
    pack_bytes,
    pack_voxels,
    source_codes,
    source_ranks,
    unpack_bytes,
    unpack_voxels,
)
from napari_sparseseg.project_store import ProjectStore

_NEEDED_FOR_REPLAY = "source, time, count, voxels, after"


class Journal:
    """The changes of one case, read from the project file, and the labels they amount to.

    Parameters
    ----------
    store
        The project file.
    case
        Number of the case.
    shape
        Of its volume, ``(Z, Y, X)``.

    Attributes
    ----------
    labels, sources
        ``(Z, Y, X)`` painted values and source codes as they are now; read-only views of the live arrays.
    """

    def __init__(self, store: ProjectStore, case: int, shape: tuple[int, int, int]) -> None:
        self._store = store
        self._case = case
        try:
            self._labels, self._sources = np.zeros((2, *shape), np.uint8)
        except (MemoryError, ValueError) as error:
            raise InputError(
                f"labels of {shape} voxels do not fit into memory; use a smaller image."
            ) from error
        self._counts = np.zeros(LARGEST_VALUE + 1, np.int64)
        self._counts[0] = self._labels.size
        self._ranks = source_ranks()
        self._done: list[int] = []  # numbers of the changes in force, oldest first
        self._undone: list[int] = []  # numbers of those to redo, the next one last
        self.labels, self.sources = self._labels.view(), self._sources.view()
        self.labels.flags.writeable = self.sources.flags.writeable = False
        self._replay()

    def changes(self) -> Iterator[LabelChange]:
        """Yield the changes in force, oldest first; labels must not change meanwhile."""
        for number in tuple(self._done):
            yield self._read(number)

    def voxel_counts(self) -> dict[int, int]:
        """Return the number of voxels per painted value other than 0."""
        present = np.flatnonzero(self._counts[1:]) + 1
        return {int(value): int(self._counts[value]) for value in present}

    def plan(self, voxels: ArrayLike, after: ArrayLike, source: str) -> LabelChange | None:
        """Return what painting would change, not yet numbered; None when that is nothing.

        Voxels whose label comes from a stronger source stay as they are, as do those that already have
        the value by the source.
        """
        check_source(source)
        indices, values = order_voxels(voxels, after, self._labels.size)
        before, sources = self._labels.reshape(-1)[indices], self._sources.reshape(-1)[indices]
        allowed = self._ranks[source_code(source)] >= self._ranks[sources]
        new = (values != before) | (source_codes(values, source) != sources)
        keep = allowed & new
        if not keep.any():
            return None
        return LabelChange(
            number=0,
            case=self._case,
            source=source,
            voxels=indices[keep],
            before=before[keep],
            after=values[keep],
            before_sources=sources[keep],
            time=time.time(),
            undone=False,
        )

    def plan_erasure(self, value: int) -> LabelChange | None:
        """Return the change that erases a painted value everywhere; None where it does not occur."""
        if not 0 < value <= LARGEST_VALUE or not self._counts[value]:
            return None
        return self.plan(np.flatnonzero(self._labels == value), 0, "stroke")

    def plan_undo(self) -> LabelChange | None:
        """Return the newest change in force as undone; None when there is none."""
        return dataclasses.replace(self._read(self._done[-1]), undone=True) if self._done else None

    def plan_redo(self) -> LabelChange | None:
        """Return the change that was undone last as in force; None when there is none."""
        return dataclasses.replace(self._read(self._undone[-1]), undone=False) if self._undone else None

    def write(self, change: LabelChange) -> LabelChange:
        """Write a planned change, within a transaction, and return it with its number.

        A new change drops those that were undone; an undone or redone one moves the journal's pointer.
        """
        if change.number == 0:
            self._store.execute(
                "DELETE FROM changes WHERE case_number = ? AND number > ?", (self._case, self._last())
            )
            change = dataclasses.replace(change, number=self._insert(change))
            pointer = change.number
        elif change.undone:
            pointer = self._done[-2] if len(self._done) > 1 else 0
        else:
            pointer = change.number
        self._store.execute("UPDATE cases SET last_change = ? WHERE number = ?", (pointer, self._case))
        return change

    def show(self, change: LabelChange) -> None:
        """Bring the labels in memory up to date with a change that was written."""
        if change.undone:
            self._undone.append(self._done.pop())
        else:
            if self._undone and self._undone[-1] == change.number:
                self._undone.pop()
            else:
                self._undone.clear()
            self._done.append(change.number)
        self._set(change.voxels, change.values, change.sources)

    def _last(self) -> int:
        return self._done[-1] if self._done else 0

    def _set(self, voxels: NDArray[np.int64], values: NDArray[np.uint8], sources: NDArray[np.uint8]) -> None:
        labels = self._labels.reshape(-1)
        self._counts -= np.bincount(labels[voxels], minlength=len(self._counts))
        self._counts += np.bincount(values, minlength=len(self._counts))
        labels[voxels] = values
        self._sources.reshape(-1)[voxels] = sources

    def _insert(self, change: LabelChange) -> int:
        return self._store.execute(
            "INSERT INTO changes (case_number, source, time, count, voxels, after, before, before_sources) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._case,
                change.source,
                change.time,
                len(change.voxels),
                pack_voxels(change.voxels, self._labels.size),
                pack_bytes(change.after),
                pack_bytes(change.before),
                pack_bytes(change.before_sources),
            ),
        )

    def _replay(self) -> None:
        row = self._store.row("SELECT last_change FROM cases WHERE number = ?", (self._case,))
        last = row[0] if row else None
        if not isinstance(last, int):
            raise self._damaged(last)
        query = "SELECT number FROM changes WHERE case_number = ? ORDER BY number"
        numbers = [number for (number,) in self._store.rows(query, (self._case,))]
        self._done = [number for number in numbers if number <= last]
        self._undone = [number for number in reversed(numbers) if number > last]
        if self._last() != last:
            raise self._damaged(last)
        for number in self._done:  # one after the other: all of them at once may be large
            source, _, voxels, after = self._unpack(number, self._row(number, _NEEDED_FOR_REPLAY))
            self._set(voxels, after, source_codes(after, source))

    def _read(self, number: int) -> LabelChange:
        *row, before, before_sources = self._row(number, f"{_NEEDED_FOR_REPLAY}, before, before_sources")
        source, made, voxels, after = self._unpack(number, row)
        try:
            former = unpack_bytes(before, len(voxels))
            former_sources = unpack_bytes(before_sources, len(voxels), len(SOURCES))
        except ValueError as error:
            raise self._damaged(number) from error
        undone = number > self._last()
        return LabelChange(number, self._case, source, voxels, former, after, former_sources, made, undone)

    def _row(self, number: int, columns: str) -> Sequence[Any]:
        row = self._store.row(
            f"SELECT {columns} FROM changes WHERE number = ? AND case_number = ?", (number, self._case)
        )
        if row is None:
            raise self._damaged(number)
        return row

    def _unpack(
        self, number: int, row: Sequence[Any]
    ) -> tuple[str, float, NDArray[np.int64], NDArray[np.uint8]]:
        source, made, count, packed, after = row
        if source not in SOURCES or not isinstance(made, float):
            raise self._damaged(number)
        try:
            voxels = unpack_voxels(packed, count, self._labels.size)
            return source, made, voxels, unpack_bytes(after, count)
        except ValueError as error:
            raise self._damaged(number) from error

    def _damaged(self, number: Any) -> Exception:
        return self._store.damaged(f"label change {number} of case {self._case}")
