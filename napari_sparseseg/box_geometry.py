"""Bounding boxes on the voxel grid: inside a volume, inside each other, and in front of each other."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Triple = tuple[int, int, int]
Region = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Box:
    """A box round one object.

    Attributes
    ----------
    start, stop
        First voxel and the one after the last, ``(Z, Y, X)``.
    label
        Annotation value of the object's class: 2 for the first class of a table, 3 for the second….
    """

    start: Triple
    stop: Triple
    label: int

    @property
    def shape(self) -> Triple:
        """Voxels along ``(Z, Y, X)``; 0 or less where the box is empty."""
        depth, height, width = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return depth, height, width

    @property
    def volume(self) -> int:
        """Number of voxels."""
        return math.prod(max(0, length) for length in self.shape)

    @property
    def region(self) -> Region:
        """The box as slices of a ``(Z, Y, X)`` array."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def within(self, region: Region) -> "Box":
        """Return the box in the voxels of a region of the volume."""
        z, y, x = (edge.start for edge in region)
        start = (self.start[0] - z, self.start[1] - y, self.start[2] - x)
        return Box(start, (self.stop[0] - z, self.stop[1] - y, self.stop[2] - x), self.label)

    def clipped(self, shape: Triple) -> "Box":
        """Return the part of the box that lies in a volume of `shape`; its `volume` is 0 where none does."""
        z, y, x = (
            (min(max(0, a), length), max(0, min(b, length)))
            for a, b, length in zip(self.start, self.stop, shape, strict=True)
        )
        return Box((z[0], y[0], x[0]), (z[1], y[1], x[1]), self.label)


def inner_box(box: Box, share: float) -> Box:
    """Return the middle of a box that holds `share` of its volume, at least one voxel along each axis.

    The paper's Boxⁱ (Khoreva et al. 2017) in 3D: each side shrinks to ∛share of its length.
    """
    start, stop = [], []
    for first, length in zip(box.start, box.shape, strict=True):
        kept = min(length, max(1, round(length * share ** (1 / 3))))
        begin = first + (length - kept) // 2
        start.append(begin)
        stop.append(begin + kept)
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]), box.label)


def with_margin(box: Box, margin: Triple, shape: Triple) -> Region:
    """Return the box enlarged by `margin` voxels on each side, cut at the border of the volume."""
    z, y, x = (
        slice(max(0, a - m), min(length, b + m))
        for a, b, m, length in zip(box.start, box.stop, margin, shape, strict=True)
    )
    return z, y, x


def surrounding_region(boxes: Sequence[Box], margin: int, shape: Triple) -> Region:
    """Return the region of a volume that holds all of some boxes and `margin` voxels round them."""
    start = tuple(min(box.start[axis] for box in boxes) for axis in range(3))
    stop = tuple(max(box.stop[axis] for box in boxes) for axis in range(3))
    around = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]), boxes[0].label)
    return with_margin(around, (margin, margin, margin), shape)


def back_to_front(boxes: Iterable[Box]) -> list[Box]:
    """Order boxes so that the smaller one comes later and thus lies in front, as in the paper."""
    return sorted(boxes, key=lambda box: -box.volume)


def bounding_box(mask: NDArray[np.bool_], label: int) -> Box | None:
    """Return the smallest box that holds all of a ``(Z, Y, X)`` mask; None where it is empty."""
    edges = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(mask.any(others))
        if not len(inside):
            return None
        edges.append((int(inside[0]), int(inside[-1]) + 1))
    (z0, z1), (y0, y1), (x0, x1) = edges
    return Box((z0, y0, x0), (z1, y1, x1), label)


def box_overlap(first: Box, second: Box) -> float:
    """Return the intersection over union of two boxes, 0 to 1."""
    common = math.prod(
        max(0, min(b, d) - max(a, c))
        for a, b, c, d in zip(first.start, first.stop, second.start, second.stop, strict=True)
    )
    union = first.volume + second.volume - common
    return common / union if union else 0.0


def boxes_of_labels(annotation: NDArray[np.integer[Any]], parts: bool = False) -> list[Box]:
    """Return the bounding box of each class of a dense annotation, or of each 26-connected part of it.

    Parameters
    ----------
    annotation
        ``(Z, Y, X)``: values from 2 on are classes.
    parts
        A box for each connected part, as an annotator draws one for each object.
    """
    from scipy import ndimage

    boxes = []
    for value in np.unique(annotation[annotation > 1]).tolist():
        mask = annotation == value
        labelled = ndimage.label(mask, np.ones((3, 3, 3)))[0] if parts else mask.astype(np.int32)
        for region in ndimage.find_objects(labelled):
            z, y, x = ((edge.start, edge.stop) for edge in region)
            boxes.append(Box((z[0], y[0], x[0]), (z[1], y[1], x[1]), value))
    return boxes
