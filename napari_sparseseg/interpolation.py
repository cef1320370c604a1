"""Labels of the slices between two labelled ones, by interpolated signed distances.

Raya & Udupa, "Shape-based interpolation of multidimensional objects" (1990); Herman, Zheng & Bucholtz,
"Shape-based interpolation" (1992).
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sparseseg.annotation import BACKGROUND, UNLABELLED
from napari_sparseseg.errors import InputError
from napari_sparseseg.suggestion import labelled_slices

_Labels = NDArray[np.uint8]
_Floats = NDArray[np.float32]


def interpolate_slices(
    first: _Labels, second: _Labels, between: int, spacing: Sequence[float] = (1.0, 1.0)
) -> list[_Labels]:
    """Label the planes between two labelled ones.

    Each value has a signed distance to its border in both planes, positive inside.  In between the two are
    mixed linearly, and the value that is most inside wins.  A class that only one plane holds shrinks to
    nothing half-way.

    Parameters
    ----------
    first, second
        ``(H, W)`` painted values of the two planes: 0 unlabelled, 1 background, 2… classes.
    between
        How many planes lie between them, equally far from each other.
    spacing
        Millimetres between the voxels of a plane, per axis.

    Returns
    -------
    One ``(H, W)`` plane of painted values per plane in between, from `first` to `second`.  A voxel that is
    unlabelled in both is so in all.  Background, and whatever only one plane holds, is labelled only where
    both planes are labelled.
    """
    values = [int(value) for value in np.union1d(first, second) if value != UNLABELLED]
    planes = [np.zeros(first.shape, np.uint8) for _ in range(between)]
    best = [np.full(first.shape, -np.inf, np.float32) for _ in range(between)]
    both = (first != UNLABELLED) & (second != UNLABELLED)
    # Classes come before background, so that of equals the class wins.
    for value in sorted(values, key=lambda v: (v == BACKGROUND, v)):
        start, end = _signed_distances(first == value, second == value, spacing)
        is_sure = value != BACKGROUND and bool((first == value).any() and (second == value).any())
        for number, (plane, highest) in enumerate(zip(planes, best, strict=True), start=1):
            # Whole-numbered weights make both directions equal to the last bit.
            inside = np.float32(between + 1 - number) * start + np.float32(number) * end
            wins = (inside > highest) & (both | (inside > 0) if is_sure else both)
            plane[wins] = value
            highest[wins] = inside[wins]
    return planes


def interpolate_annotation(
    labels: _Labels, axis: int, first: int, second: int, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> tuple[NDArray[np.int64], _Labels]:
    """Label the slices between two labelled slices of a volume.

    Parameters
    ----------
    labels
        ``(Z, Y, X)`` painted values.
    axis
        Axis that the slices lie across.
    first, second
        Indices of the two labelled slices, in either order.
    spacing
        Millimetres between voxels ``(Z, Y, X)``.

    Returns
    -------
    voxels
        ``(N,)`` flat indices into `labels`, ascending, of voxels that were unlabelled.
    values
        ``(N,)`` painted values for them.

    Raises
    ------
    InputError
        If there is no slice between the two, or nothing to be labelled in them.
    """
    low, high = min(first, second), max(first, second)
    if not 0 <= low < high - 1 < labels.shape[axis] - 1:
        raise InputError(
            f"There is no slice between slices {low} and {high}; choose two that are further apart."
        )
    # A view with the slices first: writing to it would write to the volume, reading copies nothing.
    stack = np.moveaxis(labels, axis, 0)
    in_plane = [length for number, length in enumerate(spacing) if number != axis]
    rows, columns = _box(stack[low] | stack[high])
    planes = interpolate_slices(
        stack[low, rows, columns], stack[high, rows, columns], high - low - 1, in_plane
    )
    made = np.stack(planes)
    made[stack[low + 1 : high, rows, columns] != UNLABELLED] = UNLABELLED
    places = np.nonzero(made)
    if not len(places[0]):
        raise InputError(
            f"The labels of slices {low} and {high} do not overlap, so that nothing can be interpolated; "
            "label the same structures on both, or a slice between them."
        )
    positions = [places[0] + low + 1, places[1] + rows.start, places[2] + columns.start]
    positions.insert(axis, positions.pop(0))
    voxels = np.ravel_multi_index(positions, labels.shape).astype(np.int64)
    order = np.argsort(voxels)
    return voxels[order], made[places][order]


def find_interpolation_pair(labels: _Labels, axis: int, index: int) -> tuple[int, int] | None:
    """Return the nearest labelled slices on each side of slice `index`, if slices lie between them.

    A labelled slice is an end of the gaps on both its sides: of two, the narrower one is meant.

    Parameters
    ----------
    labels
        ``(Z, Y, X)`` painted values.
    axis, index
        The slice in view.
    """
    across = labelled_slices(labels)[axis]
    gaps = [
        (first, second)
        for first, second in itertools.pairwise(across)
        if first <= index <= second and second - first > 1
    ]
    return min(gaps, key=lambda gap: gap[1] - gap[0], default=None)


def _signed_distances(
    first: NDArray[np.bool_], second: NDArray[np.bool_], spacing: Sequence[float]
) -> tuple[_Floats, _Floats]:
    """Return the distance to the border of two masks ``(H, W)``, positive inside.

    An empty or full mask has no border: its distance is that of the deepest point of the other one, so
    that the shape shrinks to that point, or grows from it, by half-way.
    """
    distances = [_signed_distance(mask, spacing) for mask in (first, second)]
    widest = np.float32(np.hypot(first.shape[0] * spacing[0], first.shape[1] * spacing[1]))
    filled = []
    for own, other, mask in zip(distances, distances[::-1], (first, second), strict=True):
        if own is None:
            sign = 1 if mask.any() else -1
            depth = widest if other is None else (-sign * other).max()
            own = np.full(mask.shape, sign * depth, np.float32)
        filled.append(own)
    return filled[0], filled[1]


def _signed_distance(mask: NDArray[np.bool_], spacing: Sequence[float]) -> _Floats | None:
    if mask.all() or not mask.any():
        return None
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    signed: _Floats = (inside - outside).astype(np.float32)
    return signed


def _box(plane: _Labels) -> tuple[slice, slice]:
    """Return the box of what is labelled and one voxel round it, so that no border is lost."""
    found = ndimage.find_objects((plane != UNLABELLED).astype(np.uint8))
    if not found:
        return slice(0, plane.shape[0]), slice(0, plane.shape[1])
    rows, columns = (
        slice(max(0, edge.start - 1), min(length, edge.stop + 1))
        for edge, length in zip(found[0], plane.shape, strict=True)
    )
    return rows, columns
