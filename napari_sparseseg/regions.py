"""The region of interest: the labelled foreground and a margin, enlarged where an object runs out of it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sparseseg.annotation import BACKGROUND
from napari_sparseseg.cases import Region

MARGIN_VOXELS = 24
_GROWTH = 1.5


def find_region(annotation: NDArray[np.integer[Any]], margin: int = MARGIN_VOXELS) -> Region:
    """Return the box of the labelled foreground of ``(Z, Y, X)`` with a margin in voxels, cut at the border.

    Where no background is labelled in it, the box of all labels.
    """
    region = _box_with_margin(annotation > BACKGROUND, margin)
    if not (annotation[region] == BACKGROUND).any():
        return _box_with_margin(annotation > 0, margin)
    return region


def _box_with_margin(mask: NDArray[np.bool_], margin: int) -> Region:
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    z, y, x = (
        slice(max(0, edge.start - margin), min(length, edge.stop + margin))
        for edge, length in zip(boxes[0], mask.shape, strict=True)
    )
    return z, y, x


def grow_region(channels: NDArray[np.uint8], annotation: NDArray[np.integer[Any]], region: Region) -> Region:
    """Enlarge `region` where an object that the user labelled touches its side inside the volume.

    `channels` ``(Z, Y, X)`` are class channels, 0 = background.
    """
    parts, _ = ndimage.label(channels[region] > 0)
    own = np.unique(parts[annotation[region] > 1])
    touching = np.isin(parts, own[own > 0])
    grown = []
    for axis, (edge, length) in enumerate(zip(region, annotation.shape, strict=True)):
        step = round((edge.stop - edge.start) * (_GROWTH - 1) / 2)
        low = edge.start - step if edge.start > 0 and touching.take(0, axis).any() else edge.start
        high = edge.stop + step if edge.stop < length and touching.take(-1, axis).any() else edge.stop
        grown.append(slice(max(0, low), min(length, high)))
    return grown[0], grown[1], grown[2]


def relative(box: Region, region: Region) -> Region:
    """Return `box` in the voxels of `region`, both given in the volume's."""
    z, y, x = (slice(b.start - r.start, b.stop - r.start) for b, r in zip(box, region, strict=True))
    return z, y, x


def contains(outer: Region, inner: Region) -> bool:
    """Tell whether `inner` lies in `outer`."""
    return all(a.start <= b.start and b.stop <= a.stop for a, b in zip(outer, inner, strict=True))


def thin_box(region: Region, axis: int, index: int) -> Region:
    """Return the slice `index` across `axis` of a region, as a box one voxel thick."""
    edges = list(region)
    edges[axis] = slice(index, index + 1)
    return edges[0], edges[1], edges[2]
