"""Volumes with bounding boxes, and how well labels made of them agree with what is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sparseseg.annotation import BACKGROUND, UNLABELLED, ClassTable, OverlapCounter, choose_held_out
from napari_sparseseg.box_geometry import Box, Triple, box_overlap, surrounding_region
from napari_sparseseg.cases import Region
from napari_sparseseg.errors import InputError

_MARGIN_VOXELS = 16  # round all boxes: what the network learns background from


@dataclass(frozen=True, eq=False)
class BoxedCase:
    """A volume, its boxes, and what else is known of it.

    Attributes
    ----------
    image
        ``(C, Z, Y, X)`` intensities as read, finite.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    boxes
        One per object.
    strokes
        ``(Z, Y, X)`` the user's own labels: 0 unlabelled, 1 background, 2… classes; None for none.  Some are
        held out to measure the rounds by, the others win over all that boxes tell.
    truth
        ``(Z, Y, X)`` dense: 1 background, 2… classes (0: not known); only measured by.  None for none.
    name
        For messages.
    """

    image: NDArray[np.float32]
    spacing: tuple[float, float, float]
    boxes: Sequence[Box]
    strokes: NDArray[np.uint8] | None = None
    truth: NDArray[np.uint8] | None = None
    name: str = "volume"

    @property
    def shape(self) -> Triple:
        """Voxels ``(Z, Y, X)``."""
        depth, height, width = self.image.shape[1:]
        return depth, height, width


def check_boxed_cases(cases: Sequence[BoxedCase], table: ClassTable) -> None:
    """Raise `InputError` where `cases` do not belong together, or not with `table`."""
    if not cases:
        raise InputError("there is no volume; give at least one with boxes.")
    for case in cases:
        for what, labels in (("labels", case.strokes), ("truth", case.truth)):
            if labels is not None and labels.shape != case.shape:
                raise InputError(
                    f"the shape of the {what} of {case.name} is {labels.shape} and that of its image is "
                    f"{case.shape}; give them on the image's grid."
                )
        known = [int(array.max(initial=0)) for array in (case.strokes, case.truth) if array is not None]
        largest = max([0, *known, *(box.label for box in case.boxes)])
        if largest > len(table):
            raise InputError(
                f"{case.name} uses class {largest} of a table of {len(table)}; extend the class table."
            )
        if case.image.shape[0] != cases[0].image.shape[0]:
            raise InputError(
                f"{case.name} has {case.image.shape[0]} channels and {cases[0].name} has "
                f"{cases[0].image.shape[0]}; give the same channels for every volume."
            )


def find_box_region(boxes: Sequence[Box], shape: Triple) -> Region:
    """Return the box that holds all boxes and a margin: there the network learns and answers."""
    return surrounding_region(boxes, _MARGIN_VOXELS, shape)


def measure_quality(
    channels: NDArray[np.uint8], case: BoxedCase, held_out: NDArray[np.int64], table: ClassTable
) -> dict[str, float]:
    """Return Dice by class name of a dense answer against the truth, else against held-out strokes."""
    if case.truth is not None:
        judged = case.truth > 0
        if case.strokes is not None:  # they were copied into the answer
            judged &= case.strokes == UNLABELLED
        known = np.flatnonzero(judged)
        reference = case.truth.reshape(-1)[known]
    elif case.strokes is not None and len(held_out):
        known, reference = held_out, case.strokes.reshape(-1)[held_out]
    else:
        return {}
    counter = OverlapCounter(len(table))
    counter.add(reference.astype(np.int64) - 1, channels.reshape(-1)[known])
    per_class = zip(table.names[1:], counter.dice().tolist(), strict=True)
    return {name: dice for name, dice in per_class if dice == dice}


def measure_agreement(channels: NDArray[np.uint8], boxes: Sequence[Box]) -> float:
    """Return the mean IoU of each box with the bounding box of the object that was found in it.

    The object is all that hangs together and reaches into the box, so that what spills out of it counts.
    """
    overlaps = []
    for label in {box.label for box in boxes}:
        parts, _ = ndimage.label(channels == label - 1, np.ones((3, 3, 3)))
        places = ndimage.find_objects(parts)
        for box in (each for each in boxes if each.label == label):
            reaching = [places[part - 1] for part in np.unique(parts[box.region]) if part]
            start = [min((place[axis].start for place in reaching), default=0) for axis in range(3)]
            stop = [max((place[axis].stop for place in reaching), default=0) for axis in range(3)]
            found = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]), label)
            overlaps.append(box_overlap(found, box))
    return float(np.mean(overlaps))


def part_strokes(case: BoxedCase, seed: int) -> tuple[NDArray[np.uint8] | None, NDArray[np.int64]]:
    """Part strokes into those to learn from, and the flat indices of those to measure by."""
    nothing = np.zeros(0, np.int64)
    if case.strokes is None or not (case.strokes > BACKGROUND).any():
        return case.strokes, nothing
    if case.truth is not None:
        return case.strokes, nothing
    held_out = choose_held_out([case.strokes], 0.3, np.random.default_rng(seed))[0]
    learnt = case.strokes.copy()
    learnt.reshape(-1)[held_out] = UNLABELLED
    return learnt, held_out
