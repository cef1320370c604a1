"""Image-level labels: in which volumes, and in which slices of them, a class occurs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sparseseg.errors import InputError

Triple = tuple[int, int, int]

PRESENT, ABSENT, UNKNOWN = 1, 0, -1
"""What is known of a class in a part of a volume."""

_FIRST_CLASS = 2  # annotation value of the first class after background


@dataclass(frozen=True)
class ImageLabel:
    """What is said of one class in a volume, or in slices of it.

    Attributes
    ----------
    label
        The class as the annotation has it: 2 for the first one after background.
    present
        Whether it occurs: in a range of slices, in each of them.
    axis, first, last
        Slices across `axis` from `first` to `last`, both included; all None for the whole volume.
    """

    label: int
    present: bool
    axis: int | None = None
    first: int | None = None
    last: int | None = None


class Presence:
    """What the image-level labels of one volume say of any part of it.

    Nothing that it says is wrong as long as the labels are true: where they do not settle a question, the
    answer is `UNKNOWN`.

    Parameters
    ----------
    labels
        The labels, the newest last.  Where two differ the newer one holds: slice by slice, and one that says
        that a class is absent from the whole volume is void once a newer one says that it is somewhere.
        Where ranges together leave no slice across one axis to a class that is present, they are void.
    shape
        Voxels ``(Z, Y, X)``.
    classes
        Rows of the class table, background included.
    outside_absent
        Whether a class is absent from all slices outside its ranges, across an axis on which it has any
        in which it is present.

    Raises
    ------
    InputError
        If a label is of a class that is not in the table, or of slices that are not in the volume.
    """

    def __init__(
        self, labels: Sequence[ImageLabel], shape: Triple, classes: int, *, outside_absent: bool = True
    ) -> None:
        for label in labels:
            _check(label, shape, classes)
        known = [
            _know([label for label in labels if label.label == value], shape, outside_absent)
            for value in range(_FIRST_CLASS, classes + 1)
        ]
        self._fill(
            shape,
            [
                np.array([slices[axis] for _, slices in known], np.int8).reshape(-1, shape[axis])
                for axis in range(3)
            ],
            np.array([whole for whole, _ in known], np.int8),
        )

    @property
    def shape(self) -> Triple:
        """Voxels ``(Z, Y, X)``."""
        return self._shape

    @property
    def classes(self) -> int:
        """Rows of the class table, background included."""
        return len(self._whole) + 1

    def slices(self, label: int, axis: int) -> NDArray[np.int8]:
        """Return ``(n,)`` what is known of each slice across `axis`: 1 present, 0 absent, -1 unknown."""
        known: NDArray[np.int8] = self._slices[axis][self._row(label)].copy()
        return known

    def is_present(self, label: int) -> bool | None:
        """Return whether a class occurs in the volume; None where that is not known."""
        whole = self._whole[self._row(label)]
        return None if whole == UNKNOWN else bool(whole)

    def is_mentioned(self, label: int) -> bool:
        """Return whether the labels say anything of a class."""
        row = self._row(label)
        return bool(self._whole[row] != UNKNOWN or any((s[row] != UNKNOWN).any() for s in self._slices))

    def hull(self, label: int) -> tuple[slice, slice, slice] | None:
        """Return the smallest box that holds all of a class for sure; None where it is nowhere."""
        row = self._row(label)
        if self._whole[row] == ABSENT:
            return None
        z, y, x = (slice(int(a), int(b)) for a, b in zip(self._start[row], self._stop[row], strict=True))
        return z, y, x

    def possible(self, label: int) -> NDArray[np.bool_]:
        """Return ``(Z, Y, X)`` where a class is not ruled out."""
        row = self._row(label)
        z, y, x = (slices[row] != ABSENT for slices in self._slices)
        possible: NDArray[np.bool_] = z[:, None, None] & y[:, None] & x
        return possible

    def judge(self, start: ArrayLike, stop: ArrayLike) -> NDArray[np.int8]:
        """Tell which classes occur in a box of voxels.

        Parameters
        ----------
        start, stop
            First voxel and the one after the last, ``(Z, Y, X)``; the part of it inside the volume counts.

        Returns
        -------
        ``(classes - 1,)``: 1 where a class occurs in the box, 0 where it does not, -1 where that is not
        known.
        """
        shape = np.array(self._shape)
        low = np.clip(np.asarray(start, np.int64), 0, shape)
        high = np.maximum(np.clip(np.asarray(stop, np.int64), 0, shape), low)
        inside = [
            counts[:, :, high[axis]] - counts[:, :, low[axis]] for axis, counts in enumerate(self._counts)
        ]
        present, absent = np.stack(inside, axis=-1)  # (classes - 1, axis): how many such slices it holds
        nowhere = (absent == high - low).any(axis=1)
        covers = (low <= self._start) & (self._stop <= high)
        # A slice that shows the class shows it inside the hull: the box must hold that part of the slice.
        shown = np.stack(
            [(present[:, axis] > 0) & np.delete(covers, axis, axis=1).all(axis=1) for axis in range(3)]
        ).any(axis=0)
        shown |= (self._whole == PRESENT) & covers.all(axis=1)
        return np.where(nowhere, ABSENT, np.where(shown, PRESENT, UNKNOWN)).astype(np.int8)

    def scaled(self, shape: Triple) -> "Presence":
        """Return the same on another grid over the same volume.

        Parameters
        ----------
        shape
            Its voxels ``(Z, Y, X)``, which fill the same space.

        Returns
        -------
        A slice there lacks a class that all slices here that it overlaps with lack.  It shows one that a
        slice here shows that is its own for sure: the one that holds its middle where slices get thinner,
        else one whose middle and first edge it holds, so that `resampling.resample_labels` puts it there.
        """
        if any(size < 1 for size in shape):
            raise InputError(f"the shape {shape} holds no voxels; choose another voxel size.")
        other = object.__new__(Presence)
        other._fill(
            shape,
            [_scale(slices, size) for slices, size in zip(self._slices, shape, strict=True)],
            self._whole,
        )
        return other

    def _fill(self, shape: Triple, slices: list[NDArray[np.int8]], whole: NDArray[np.int8]) -> None:
        """Keep what is known of slices, ``(classes - 1, n)`` per axis, and of the volume."""
        self._shape = shape
        self._slices = slices
        self._whole = whole
        self._counts = [
            np.stack([np.pad(np.cumsum(s == known, axis=1), ((0, 0), (1, 0))) for known in (PRESENT, ABSENT)])
            for s in slices
        ]
        maybe = [s != ABSENT for s in slices]
        self._start = np.stack([m.argmax(axis=1) for m in maybe], axis=1)
        self._stop = np.stack([m.shape[1] - m[:, ::-1].argmax(axis=1) for m in maybe], axis=1)

    def _row(self, label: int) -> int:
        if not _FIRST_CLASS <= label <= self.classes:
            raise InputError(f"there is no class with the label {label}; give one from 2 to {self.classes}.")
        return label - _FIRST_CLASS


def _know(
    labels: Sequence[ImageLabel], shape: Triple, outside_absent: bool
) -> tuple[int, list[NDArray[np.int8]]]:
    """Return what the labels of one class say of the volume, and of the slices across each axis."""
    whole, slices = _apply(labels, shape)
    for known in slices:
        if outside_absent and (known == PRESENT).any():
            known[known == UNKNOWN] = ABSENT
    if any((known == PRESENT).any() for known in slices):
        whole = PRESENT
    empty = [bool((known == ABSENT).all()) for known in slices]
    if whole == PRESENT:
        slices = [np.full_like(s, UNKNOWN) if e else s for s, e in zip(slices, empty, strict=True)]
    elif whole == ABSENT or any(empty):
        whole, slices = ABSENT, [np.full_like(known, ABSENT) for known in slices]
    return whole, slices


def _apply(labels: Sequence[ImageLabel], shape: Triple) -> tuple[int, list[NDArray[np.int8]]]:
    """Write the labels of one class over each other, the oldest first."""
    whole, slices = UNKNOWN, [np.full(size, UNKNOWN, np.int8) for size in shape]
    for label in labels:
        axis, first, last = _range(label, shape)
        if axis is not None:
            slices[axis][first : last + 1] = PRESENT if label.present else ABSENT
            whole = UNKNOWN if label.present and whole == ABSENT else whole
        elif label.present:
            whole = PRESENT
        else:
            whole, slices = ABSENT, [np.full(size, UNKNOWN, np.int8) for size in shape]
    return whole, slices


def _range(label: ImageLabel, shape: Triple) -> tuple[int | None, int, int]:
    """Return axis, first and last slice; None as the axis also where a class is in no slice across one."""
    if label.axis is None or label.first is None or label.last is None:
        return None, 0, 0
    if not label.present and (label.first, label.last) == (0, shape[label.axis] - 1):
        return None, 0, 0
    return label.axis, label.first, label.last


def _scale(slices: NDArray[np.int8], size: int) -> NDArray[np.int8]:
    """Return ``(classes - 1, size)`` for ``(classes - 1, n)`` slices that fill the same length."""
    count = slices.shape[1]
    scaled = np.full((len(slices), size), UNKNOWN, np.int8)
    for index, (first, after) in enumerate(
        (i * count // size, -(-(i + 1) * count // size)) for i in range(size)
    ):
        overlapping = slices[:, first:after]
        scaled[(overlapping == ABSENT).all(axis=1), index] = ABSENT
    if size > count:
        scaled_from = [((2 * index + 1) * count // (2 * size), index) for index in range(size)]
    else:
        # Both of the middle of a slice and of its first edge: labels are carried over by the latter.
        middles = [(2 * index + 1) * size // (2 * count) for index in range(count)]
        scaled_from = [(index, new) for index, new in enumerate(middles) if new == index * size // count]
    for old, new in scaled_from:
        scaled[slices[:, old] == PRESENT, new] = PRESENT
    return scaled


def _check(label: ImageLabel, shape: Triple, classes: int) -> None:
    if not _FIRST_CLASS <= label.label <= classes:
        raise InputError(
            f"an image-level label is of the class {label.label}, but the table has the classes "
            f"{_FIRST_CLASS} to {classes}; correct the label or the table."
        )
    axis, first, last = label.axis, label.first, label.last
    if axis is None and first is None and last is None:
        return
    if axis not in (0, 1, 2) or first is None or last is None or not 0 <= first <= last < shape[axis]:
        raise InputError(
            f"slices {first} to {last} across axis {axis} are not in the volume, whose shape is {shape}; "
            "choose slices of the volume."
        )
