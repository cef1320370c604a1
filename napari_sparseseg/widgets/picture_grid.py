"""Where pictures lie that are shown beside an image."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sparseseg.widgets.placement import Placement

_GAP = 0.04  # between pictures, as a share of the image's longer side in the view


def lay_beside(
    placement: Placement,
    shape: Sequence[int],
    pictures: Sequence[tuple[Sequence[int], ArrayLike]],
    shown: tuple[int, int],
    point: NDArray[np.float64],
    middle: Sequence[int],
    *,
    upright: bool,
) -> list[Placement]:
    """Return where pictures lie: right of an image and aligned at its top, below each other, then in columns.

    They are turned as the image is, none covers it or another one, and a slice in the middle of each is on
    the slice that is visible.

    Parameters
    ----------
    placement, shape
        Of the image, in its last N axes, 2 or 3.
    pictures
        Size in voxels ``(N,)`` and voxel size in mm ``(N,)`` of each.
    shown
        The image's axes that run down and to the right in the view.
    point
        ``(N,)`` world position that the view shows.
    middle
        ``(N,)``: along each axis, the slice of each picture that is to be seen.
    upright
        Whether the world's first shown axis runs up in the view, not down.
    """
    count = placement.ndim
    directions = placement.affine[:count, :count] / placement.spacing
    picked = np.ix_(shown, shown)
    sizes = np.array(shape[-count:], float)
    center = placement.affine[picked] @ ((sizes[list(shown)] - 1) / 2) + placement.affine[shown, count]
    half = np.abs(placement.affine[picked]) @ (sizes[list(shown)] / 2)
    down = -1.0 if upright else 1.0
    gap = 2 * _GAP * float(half.max())
    left, used, widest = float(center[1] + half[1]) + gap, 0.0, 0.0
    places = []
    for voxels, spacing in pictures:
        affine = np.eye(count + 1)
        affine[:count, :count] = directions * np.asarray(spacing, float)
        size = np.array(voxels, float)
        height, width = 2 * np.abs(affine[picked]) @ (size[list(shown)] / 2)
        if used and used + height > 2 * half[0]:
            left, used, widest = left + widest + gap, 0.0, 0.0
        place = (center[0] + down * (used + height / 2 - half[0]), left + width / 2)
        affine[shown, count] = place - affine[picked] @ ((size[list(shown)] - 1) / 2)
        for axis in set(range(count)) - set(shown):
            affine[axis, count] = _find_offset(affine, axis, float(point[axis]), middle[axis])
        places.append(Placement(affine))
        used, widest = used + float(height) + gap, max(widest, float(width))
    return places


def _find_offset(affine: NDArray[np.float64], axis: int, place: float, index: int) -> float:
    """Return the offset along `axis` with which `Placement.slice_at` says `index` at world `place`."""
    inverse = np.linalg.inv(affine[:-1, :-1])
    others = [other for other in range(len(inverse)) if other != axis]
    aside = float(inverse[axis, others] @ affine[others, -1])
    return float((inverse[axis, axis] * place - index - aside) / inverse[axis, axis])
