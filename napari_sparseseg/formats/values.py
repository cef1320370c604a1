"""Turning what a file stores into values that can be computed with: finite intensities and whole labels."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.formats.grid import SourceGrid
from napari_sparseseg.formats.stored import StoredImage

_LABEL_TYPES = (np.uint8, np.int16, np.uint16, np.int32)


def check_labels(
    labels: NDArray[np.integer[Any]], shape: tuple[int, ...], name: str
) -> NDArray[np.integer[Any]]:
    """Return labels as an array, after checking that they fit the volume `name` of that shape."""
    labels = np.asarray(labels)
    if labels.shape != shape:
        raise InputError(f"the labels have the shape {labels.shape}, but {name} has {shape}.")
    if labels.dtype.kind not in "biu":
        raise InputError(f"labels are whole numbers, not {labels.dtype}; convert them first.")
    return labels


def narrow_labels(labels: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """Return labels in the smallest sufficient type that every format can hold."""
    low, high = int(labels.min()), int(labels.max())
    for dtype in _LABEL_TYPES:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return labels.astype(dtype)
    raise InputError(f"the labels run from {low} to {high}, which does not fit in 32 bits; renumber them.")


def read_values(
    path: Path, stored: StoredImage, grid: SourceGrid
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return finite ``(C, Z, Y, X)`` and the notes on what was replaced."""
    if stored.data.dtype.kind == "c":
        raise InputError(f"{path} holds complex numbers; save their magnitude or phase instead.")
    shape = (grid.shape[grid.axes[0]], grid.shape[grid.axes[1]], grid.shape[grid.axes[2]])
    data = np.empty((len(stored.data), *shape), np.float32)
    target = grid.to_file(data)
    scaled = (stored.slope, stored.intercept) != (1.0, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):  # too large for float32 is infinite, and counted below
        for k in range(grid.shape[2]):  # slice by slice, so that scaling needs no second volume
            values = stored.data[..., k]
            target[..., k] = values * np.float64(stored.slope) + stored.intercept if scaled else values
    notes = [note for channel in data if (note := _make_finite(path, channel))]
    return data, tuple(notes)


def _make_finite(path: Path, channel: NDArray[np.float32]) -> str:
    """Replace what is not finite, in place; return a note, empty when nothing was."""
    bad = ~np.isfinite(channel)
    if not bad.any():
        return ""
    if bad.all():
        raise InputError(f"{path} holds no finite value at all; export it again.")
    finite = channel[~bad]
    low, high = finite.min(), finite.max()
    missing = int(np.isnan(channel).sum())
    channel[channel == np.inf] = high
    channel[~np.isfinite(channel)] = low
    return (
        f"{path.name} holds {missing} NaN and {int(bad.sum()) - missing} infinite voxels; they were replaced "
        f"by the smallest finite value, {low:g}, and +infinity by the largest, {high:g}."
    )


def read_whole_numbers(path: Path, stored: StoredImage) -> NDArray[np.int32]:
    """Return the first channel ``(I, J, K)`` as labels; refuse what is not whole, or too large."""
    values = stored.data[0]
    if values.dtype.kind not in "biuf":
        raise InputError(f"{path} holds {values.dtype} values; labels are whole numbers.")
    if (stored.slope, stored.intercept) != (1.0, 0.0):
        values = values * np.float64(stored.slope) + stored.intercept
    if values.dtype.kind == "f" and not (
        np.isfinite(values).all() and np.array_equal(values, np.rint(values))
    ):
        raise InputError(f"{path} holds values that are not whole numbers, so it is not a label file.")
    limits = np.iinfo(np.int32)
    if values.min() < limits.min or values.max() > limits.max:
        raise InputError(f"{path} holds labels that do not fit in 32 bits; renumber them.")
    whole: NDArray[np.int32] = values.astype(np.int32)
    return whole
