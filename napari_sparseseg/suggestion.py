"""Which slices are labelled, and which to label next."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import BACKGROUND

LabelledSlices = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Per axis, the indices of labelled slices, ascending."""

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""``(first, last + 1)`` per axis."""

_ORIENTATIONS = ("axial", "coronal", "sagittal")
_CLOSE_MM = 5.0  # a slice so near to a labelled one shows little that is new
_CLOSE_SHARE = 0.25  # of the region, where that is less
_LARGEST_ANISOTROPY = 3.0  # against the best orientation; beyond it a slice is hard to read
_MOST_VOXELS = 8_000_000  # looked at per orientation: enough for a mean, and done at once


@dataclass(frozen=True)
class Suggestion:
    """A slice to look at.

    Attributes
    ----------
    axis, index
        The slice `index` across `axis` of the volume ``(Z, Y, X)``.
    score
        The higher, the more there is to learn from it.
    reason
        Why, in plain words.
    """

    axis: int
    index: int
    score: float
    reason: str


def labelled_slices(labels: NDArray[np.uint8]) -> LabelledSlices:
    """Return per axis the slices that the user has labelled on purpose.

    Those of `annotation.find_labelled_slices`: the labelled voxels are explained by as few slices as
    possible, the fullest first.  Where an axial slice is labelled, each of the coronal slices that cross it
    holds labels too, but none was meant.  Only whole planes are looked at, so that it is fast enough to
    follow each stroke.

    Parameters
    ----------
    labels
        ``(Z, Y, X)``, 0 = unlabelled.
    """
    counts = _count_per_slice(labels)
    chosen: tuple[list[int], list[int], list[int]] = ([], [], [])
    while True:
        axis = max(range(3), key=lambda a: counts[a].max())
        index = int(counts[axis].argmax())
        if counts[axis][index] == 0:
            return tuple(sorted(chosen[0])), tuple(sorted(chosen[1])), tuple(sorted(chosen[2]))
        rows, columns = (other for other in range(3) if other != axis)
        left = labels.take(index, axis) != 0
        left[chosen[rows], :] = False
        left[:, chosen[columns]] = False
        counts[axis][index] = 0
        counts[rows] -= left.sum(1)
        counts[columns] -= left.sum(0)
        chosen[axis].append(index)


def most_uncertain_slice(
    uncertainty: NDArray[np.uint8], axis: int, region: Box, labelled: Sequence[int]
) -> Suggestion | None:
    """Return the slice of one orientation where the prediction is least sure.

    Parameters
    ----------
    uncertainty
        ``(Z, Y, X)``, 0 sure to 255.
    axis
        Axis that the slices lie across.
    region
        Of interest; the mean is taken in it.
    labelled
        Indices of slices across `axis` that are labelled, which are not suggested again.

    Returns
    -------
    None where the prediction is sure on every other slice.
    """
    first, stop = region[axis]
    stack = np.moveaxis(uncertainty[_slices(region)], axis, 0)
    stride = _stride(stack)
    means = stack[:, ::stride, ::stride].mean((1, 2), dtype=np.float64) / 255
    means[[index - first for index in labelled if first <= index < stop]] = 0
    if not len(means) or not means.any():
        return None
    best = int(means.argmax())
    return Suggestion(
        axis,
        first + best,
        float(means[best]),
        f"{_ORIENTATIONS[axis]} slice {first + best}: of all {_ORIENTATIONS[axis]} slices not yet labelled, "
        "the prediction is least sure on this one.",
    )


def suggest_slice(
    uncertainty: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    region: Box,
    labelled: LabelledSlices,
    spacing: Sequence[float],
    names: Mapping[int, str] | None = None,
) -> Suggestion | None:
    """Return the slice, of any orientation, that is best labelled next.

    The mean uncertainty of a slice within the region is taken apart by the class that is predicted; each
    class counts the same, so that a small structure is not outweighed by a large one: the stratification of
    ClaSP PE (2026), without its random noise.  Slices near a labelled one of the same orientation are left
    out, and so are orientations in which the voxels are much longer than wide.

    Parameters
    ----------
    uncertainty
        ``(Z, Y, X)``, 0 sure to 255.
    prediction
        ``(Z, Y, X)`` painted values.
    region
        Of interest.
    labelled
        Per axis, the indices of labelled slices.
    spacing
        Millimetres between voxels ``(Z, Y, X)``.
    names
        Names of the painted values, to be used in the reason.

    Returns
    -------
    None where the prediction is sure everywhere else.
    """
    axes = _readable_axes(uncertainty.shape, spacing)
    box = _slices(region)
    values = [
        value for value in np.flatnonzero(np.bincount(_thin(prediction[box]), minlength=2)) if value > 0
    ]
    by_class = {axis: _uncertainty_by_class(uncertainty[box], prediction[box], values, axis) for axis in axes}
    distances = {axis: _distances_mm(region[axis], labelled[axis], spacing[axis]) for axis in axes}
    for is_allowed in _RULES:
        allowed = {axis: is_allowed(distances[axis], spacing[axis]) for axis in axes}
        found = _best_slice(by_class, allowed)
        if found is not None:
            axis, row, score, strongest = found
            index = region[axis][0] + row
            reason = _explain(axis, index, int(values[strongest]), float(distances[axis][row]), names or {})
            return Suggestion(axis, index, score, reason)
    return None


def _is_far(distances: NDArray[np.float64], spacing: float) -> NDArray[np.bool_]:
    far: NDArray[np.bool_] = distances >= min(_CLOSE_MM, _CLOSE_SHARE * len(distances) * spacing)
    far &= distances > 0
    return far


def _is_other(distances: NDArray[np.float64], spacing: float) -> NDArray[np.bool_]:
    other: NDArray[np.bool_] = distances > 0
    return other


# The second holds where labelled slices lie so densely that no other is left.
_RULES: tuple[Callable[[NDArray[np.float64], float], NDArray[np.bool_]], ...] = (_is_far, _is_other)


def _best_slice(
    by_class: Mapping[int, NDArray[np.float64]], allowed: Mapping[int, NDArray[np.bool_]]
) -> tuple[int, int, float, int] | None:
    """Return axis, row in the region, score and the row of the class that contributes most."""
    masked = {axis: np.where(allowed[axis], sums, 0) for axis, sums in by_class.items()}
    highest = np.max([sums.max(1, initial=0) for sums in masked.values()], axis=0, initial=0)
    present = highest > 0
    if not present.any():
        return None
    best: tuple[int, int, float, int] | None = None
    for axis, sums in masked.items():
        shares = sums / np.where(present, highest, 1)[:, None]
        scores = shares.sum(0) / present.sum()
        row = int(scores.argmax())
        if best is None or scores[row] > best[2]:
            best = axis, row, float(scores[row]), int(shares[:, row].argmax())
    return best


def _uncertainty_by_class(
    uncertainty: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    values: Sequence[np.intp],
    axis: int,
) -> NDArray[np.float64]:
    """Return ``(values, slices)``: the mean over each slice of the uncertainty where a value is predicted."""
    stacks = [np.moveaxis(array, axis, 0) for array in (uncertainty, prediction)]
    stride = _stride(stacks[0])
    unsure, predicted = (stack[:, ::stride, ::stride] for stack in stacks)
    return np.array(
        [np.where(predicted == v, unsure, 0).mean((1, 2), dtype=np.float64) / 255 for v in values]
    ).reshape(len(values), len(unsure))


def _readable_axes(shape: Sequence[int], spacing: Sequence[float]) -> list[int]:
    """Return the axes across which slices are pictures that can be labelled."""
    elongation = {}
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        if min(shape[other] for other in others) > 1:
            lengths = [spacing[other] for other in others]
            elongation[axis] = max(lengths) / min(lengths)
    least = min(elongation.values(), default=1.0)
    return [axis for axis, length in elongation.items() if length <= _LARGEST_ANISOTROPY * least]


def _distances_mm(edge: tuple[int, int], labelled: Sequence[int], spacing: float) -> NDArray[np.float64]:
    """Return for each slice of the region how far the nearest labelled one is; infinite where none is."""
    positions = np.arange(*edge)
    if not len(labelled):
        return np.full(len(positions), np.inf)
    apart: NDArray[np.float64] = np.abs(positions[:, None] - np.asarray(labelled)).min(1) * float(spacing)
    return apart


def _explain(axis: int, index: int, value: int, distance: float, names: Mapping[int, str]) -> str:
    orientation = _ORIENTATIONS[axis]
    what = "what it takes for background" if value == BACKGROUND else names.get(value, f"class {value}")
    where = (
        f"the nearest labelled {orientation} slice is {distance:.{0 if distance >= 10 else 1}f} mm away"
        if np.isfinite(distance)
        else f"no {orientation} slice is labelled yet"
    )
    return f"{orientation} slice {index}: the prediction is least sure there about {what}, and {where}."


def _count_per_slice(labels: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Return per axis the number of labelled voxels in each slice."""
    counts = [np.zeros(length, np.int64) for length in labels.shape]
    for index, plane in enumerate(labels):
        # Most planes are empty, and `any` is much faster than a sum.
        if plane.any():
            here = plane != 0
            counts[0][index] = np.count_nonzero(here)
            counts[1] += here.sum(1)
            counts[2] += here.sum(0)
    return counts


def _slices(region: Box) -> tuple[slice, slice, slice]:
    z, y, x = (slice(*edge) for edge in region)
    return z, y, x


def _stride(stack: NDArray[np.uint8]) -> int:
    """Return which voxels of each slice to look at, so that they are not too many."""
    return max(1, int(np.ceil(np.sqrt(stack.size / _MOST_VOXELS))))


def _thin(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return enough of the values ``(Z, Y, X)``, flat, to know which occur."""
    stride = _stride(values)
    return values[:, ::stride, ::stride].reshape(-1)
