"""The labels of a live session: what was painted, and what the class table makes of it."""

from collections.abc import Sequence
from dataclasses import replace

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
from napari_sparseseg.image_labels import ImageLabel, Presence


class LiveLabels:
    """Painted values of one volume, and its image-level labels.

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
    presence
        What the image-level labels say of the classes of `table`; None for nothing.
    """

    def __init__(self, shape: tuple[int, int, int], table: ClassTable) -> None:
        self._shape = shape
        self.painted = np.zeros(shape, np.uint8)
        self.sources = np.zeros(shape, np.uint8)
        self.annotation = np.zeros(shape, np.uint8)
        self.table = self._wanted = table
        self.numbers: list[int] = []
        self._changed: list[NDArray[np.int64]] = []
        self._derived = False
        self._seeded, self._anew = True, False
        self._image_labels: list[tuple[ImageLabel, int | None]] = []  # and the painted value of each
        self._outside_absent = True
        self.presence: Presence | None = None
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
        self._image_labels = [
            (label, self._value_of(label) if value is None else value) for label, value in self._image_labels
        ]
        if table.mask_values == self.table.mask_values:
            self.table = table
        else:
            self.stale = True

    def label_image(self, labels: Sequence[ImageLabel], *, outside_absent: bool) -> None:
        """Change the image-level labels; each stays with its class when the rows of the table move.

        They are of rows of the table set last; those of a row that it lacks wait for it.

        Raises
        ------
        InputError
            If slices lie outside the volume; then nothing has changed.
        """
        largest = max((label.label for label in labels), default=0)
        Presence(labels, self._shape, max(largest, len(self.table)))
        self._image_labels = [(label, self._value_of(label)) for label in labels]
        self._outside_absent = outside_absent
        self._judge_image()

    def _value_of(self, label: ImageLabel) -> int | None:
        values = self._wanted.mask_values
        return values[label.label - 1] if label.label <= len(values) else None

    def _judge_image(self) -> None:
        values = self.table.mask_values
        known = [
            replace(label, label=values.index(value) + 1)
            for label, value in self._image_labels
            if value is not None and value in values
        ]
        self.presence = None
        if known:
            self.presence = Presence(known, self._shape, len(self.table), outside_absent=self._outside_absent)

    def use_seeds(self, used: bool) -> None:
        """Let labels from class maps count, or be as good as unlabelled, from the next `take_in` on."""
        self.stale |= used != self._seeded
        self._anew |= used != self._seeded
        self._seeded = used

    def take_in(self) -> tuple[list[int], NDArray[np.int64]]:
        """Bring `annotation` up to date; return the numbers and the flat indices of what has changed."""
        numbers, self.numbers = self.numbers, []
        changed = np.concatenate([np.zeros(0, np.int64), *self._changed])
        self._changed, self.stale = [], False
        anew, self._anew = self._anew, False
        if self._wanted.mask_values != self.table.mask_values:
            self.table, anew = self._wanted, True
            self._judge_image()
        if anew:
            self.annotation = self._counting(self.painted, self.sources)
        else:
            painted, sources = (values.reshape(-1)[changed] for values in (self.painted, self.sources))
            self.annotation.reshape(-1)[changed] = self._counting(painted, sources)
        return numbers, changed

    def _counting(self, painted: NDArray[np.uint8], sources: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the annotation of painted values; 0 for those that are not learnt from."""
        annotation = self.rows()[painted]
        if not self._seeded:
            annotation[sources == source_code("cam")] = 0
        return annotation

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
