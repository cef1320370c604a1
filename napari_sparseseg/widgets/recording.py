"""What the user paints, written to the project as each stroke ends; napari's undo moves its journal."""

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import source_code
from napari_sparseseg.project import LabelChange, Project

APART = ("interpolated", "box", "cam", "point")
"""Sources whose labels are shown in layers of their own."""

_APART_CODES = np.array([source_code(source) for source in APART], np.uint8)

_MOST_REMEMBERED = 200  # napari remembers 100


class LabelRecorder:
    """Records changes of the annotation layer of one case.

    Parameters
    ----------
    project, case
        Where.
    """

    def __init__(self, project: Project, case: int) -> None:
        self._project = project
        self._case = case
        self._done: list[LabelChange] = []
        self._undone: list[LabelChange] = []
        self._outside: set[int] = set()

    def record(
        self, voxels: NDArray[np.int64], values: NDArray[np.uint8], how: str, source: str
    ) -> LabelChange | None:
        """Record what `AnnotationWatch.changed` told; return the change as the project has it.

        An undo in napari that takes back the newest change of the journal is an undo there too; any other
        is a change like a stroke.  The same holds for redo.

        Raises
        ------
        InputError
            If it cannot be written; nothing has changed then.
        """
        if how == "undone" and self._done and _is_back(self._done[-1], voxels, values):
            return self._move(self._project.undo(self._case), self._done, self._undone)
        if how == "redone" and self._undone and _is_again(self._undone[-1], voxels, values):
            return self._move(self._project.redo(self._case), self._undone, self._done)
        return self.add(voxels, values, source)

    def add(self, voxels: NDArray[np.int64], values: NDArray[np.uint8], source: str) -> LabelChange | None:
        """Record a change; None where a stronger label stands everywhere."""
        change = self._project.add_change(self._case, voxels, values, source)
        if change is not None:
            self._undone.clear()
            self._done.append(change)
            del self._done[:-_MOST_REMEMBERED]
        return change

    def add_outside(
        self, voxels: NDArray[np.int64], values: NDArray[np.uint8], source: str
    ) -> LabelChange | None:
        """Record a change that napari's history does not know of."""
        change = self.add(voxels, values, source)
        if change is not None:
            self._outside.add(change.number)
        return change

    def undo_outside(self) -> LabelChange | None:
        """Take back the newest change if napari's history does not know of it; else return None."""
        if self._done and self._done[-1].number in self._outside:
            return self._move(self._project.undo(self._case), self._done, self._undone)
        return None

    def redo_outside(self) -> LabelChange | None:
        """Make again what `undo_outside` took back, if that is next; else return None."""
        if self._undone and self._undone[-1].number in self._outside:
            return self._move(self._project.redo(self._case), self._undone, self._done)
        return None

    def forget(self) -> None:
        """Forget what could be taken back, when napari has forgotten it too."""
        self._done.clear()
        self._undone.clear()

    def _move(
        self, change: LabelChange | None, source: list[LabelChange], target: list[LabelChange]
    ) -> LabelChange | None:
        moved = source.pop()
        if change is not None:
            target.append(moved)
        return change


def is_apart(sources: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell which source codes are of labels that are shown in layers of their own."""
    return np.isin(sources, _APART_CODES)


def _is_back(change: LabelChange, voxels: NDArray[np.int64], values: NDArray[np.uint8]) -> bool:
    before = np.where(is_apart(change.before_sources), 0, change.before)
    return _is_same(change.voxels, before, voxels, values)


def _is_again(change: LabelChange, voxels: NDArray[np.int64], values: NDArray[np.uint8]) -> bool:
    return _is_same(change.voxels, change.after, voxels, values)


def _is_same(
    voxels: NDArray[np.int64],
    values: NDArray[np.uint8],
    other_voxels: NDArray[np.int64],
    other_values: NDArray[np.uint8],
) -> bool:
    order = np.argsort(other_voxels)
    return np.array_equal(voxels, other_voxels[order]) and np.array_equal(values, other_values[order])
