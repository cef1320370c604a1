"""The labels of a live session: what was painted, and what the class table makes of it."""

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import (
    BACKGROUND,
    DERIVED_SOURCES,
    ClassTable,
    source_code,
    without_weak_labels,
)
from napari_sparseseg.errors import InputError


class LiveLabels:
    """Painted values of one volume.

    Parameters
    ----------
    shape
        Voxels ``(Z, Y, X)``.
    table
        The classes.

    Attributes
    ----------
    painted
        ``(Z, Y, X)``: 0 unlabelled, 1 background, else `LabelClass.value`.
    sources
        ``(Z, Y, X)`` `annotation.source_code` of each label.
    annotation
        ``(Z, Y, X)``: 0 unlabelled, 1 background, 2… in the order of the table, as of the last `take_in`.
    numbers
        Of the changes since then.
    """

    def __init__(self, shape: tuple[int, int, int], table: ClassTable) -> None:
        self.painted = np.zeros(shape, np.uint8)
        self.sources = np.zeros(shape, np.uint8)
        self.annotation = np.zeros(shape, np.uint8)
        self.table = self._wanted = table
        self.numbers: list[int] = []
        self._changed: list[NDArray[np.int64]] = []
        self._derived = False
        self.stale = False

    def change(self, number: int, voxels: NDArray[np.int64], values: NDArray[np.uint8], source: str) -> None:
        """Paint `values` at flat indices `voxels`.

        Raises
        ------
        InputError
            If a voxel lies outside the volume.
        """
        if len(voxels) and not 0 <= voxels.min() <= voxels.max() < self.painted.size:
            raise InputError("a label lies outside the volume; choose the image again.")
        self.painted.reshape(-1)[voxels] = values
        self.sources.reshape(-1)[voxels] = np.where(values > 0, source_code(source), 0)
        self._derived |= source in DERIVED_SOURCES
        self._changed.append(voxels)
        self.numbers.append(number)
        self.stale = True

    def set_table(self, table: ClassTable) -> None:
        """Change the class table; labels of a value it lacks count as unlabelled.

        Other names or colors hold at once; other values only from the next `take_in` on, so that table and
        annotation always fit together.
        """
        self._wanted = table
        if table.mask_values == self.table.mask_values:
            self.table = table
        else:
            self.stale = True

    def take_in(self) -> tuple[list[int], NDArray[np.int64]]:
        """Bring `annotation` up to date; return the numbers and the flat indices of what has changed."""
        numbers, self.numbers = self.numbers, []
        changed = np.concatenate([np.zeros(0, np.int64), *self._changed])
        self._changed, self.stale = [], False
        if self._wanted.mask_values == self.table.mask_values:
            self.annotation.reshape(-1)[changed] = self.rows()[self.painted.reshape(-1)[changed]]
        else:
            self.table = self._wanted
            self.annotation = self.rows()[self.painted]
        return numbers, changed

    def own(self) -> NDArray[np.uint8]:
        """Return the annotation that can be measured by, as `without_weak_labels` says."""
        if not self._derived:  # looking through a large volume would make each stroke wait
            return self.annotation
        return without_weak_labels(self.annotation, self.sources)

    def count_classes(self) -> int:
        """Return how many classes, background included, have labels."""
        return len(np.unique(self.annotation[self.annotation > 0]))

    def rows(self) -> NDArray[np.uint8]:
        """Return the annotation value of each painted value."""
        return self.table.painted_rows()

    def values(self) -> NDArray[np.uint8]:
        """Return the painted value of each class channel."""
        return np.array([BACKGROUND, *(entry.value for entry in self.table.classes[1:])], np.uint8)
