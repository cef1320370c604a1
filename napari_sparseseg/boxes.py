"""Box-to-mask: labels from bounding boxes, each object found in its box.

Methods: Khoreva et al. 2017, "Simple Does It: Weakly Supervised Instance and Semantic Segmentation", in 3D.
Each method gives one verdict per voxel of a box: the object, background, or *ignore*.  Where boxes overlap
the smaller one lies in front.  Outside of all boxes is background, but for what lies right before and after a
box drawn on one slice: that is ignored.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import BACKGROUND, UNLABELLED
from napari_sparseseg.box_geometry import Box, Triple, inner_box, with_margin
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Noted, WorkDone
from napari_sparseseg.grabcut import cut_out, vote
from napari_sparseseg.proposals import search_proposal
from napari_sparseseg.settings import BoxConfig
from napari_sparseseg.work_grid import Scene

Spacing = tuple[float, float, float]
Result = TypeVar("Result")
Verdicts = NDArray[np.uint8]
"""``(Z, Y, X)`` of a box: `UNLABELLED` to ignore, `BACKGROUND`, or `OBJECT`."""

OBJECT = 2

_LEAST_MARGIN = 2  # voxels
_HELD = 0.9  # of a box that lies in another one
_DEEPEST_SHADOW = 3  # slices on either side of a box that is one slice
_FEWEST_OUTSIDE = 2  # voxels that the background can be learnt from
_FLAT = 1e-6  # share of the largest intensity below which a spread is rounding


@dataclass(frozen=True, eq=False)
class BoxLabels:
    """What a method made of boxes.

    Attributes
    ----------
    annotation
        ``(Z, Y, X)``: 0 ignore, 1 background, 2… classes.
    fallen_back
        Positions of the boxes in which the method found too little, so that `box_inner` stands in for it.
    """

    annotation: NDArray[np.uint8]
    fallen_back: tuple[int, ...]


Segment = Callable[[Scene, BoxConfig, np.random.Generator], Generator[float, None, Verdicts]]
"""Gives the verdicts on one box; yields the share of the work done."""

BoxMethod = Callable[
    [NDArray[np.float32], Spacing, Sequence[Box], BoxConfig], Generator[Event, None, BoxLabels]
]
"""``method(image (C, Z, Y, X), spacing mm (Z, Y, X), boxes, config)``: a generator of events."""


def label_boxes(
    image: NDArray[np.float32], spacing: Spacing, boxes: Sequence[Box], config: BoxConfig
) -> Generator[Event, None, BoxLabels]:
    """Make labels of boxes by the method that `config` names.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` intensities as read.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    boxes
        One per object; parts outside the volume are cut off.
    config
        Method and its settings.

    Returns
    -------
    The `BoxLabels`; events on the way, among them a sentence for each box that fell back to `box_inner`.  The
    order of the boxes does not matter.

    Raises
    ------
    InputError
        If there is no box, one lies outside the volume or is empty, or the image is not finite.
    """
    return (yield from BOX_METHODS[config.method](image, spacing, boxes, config))


def check_boxes(boxes: Sequence[Box], shape: Triple) -> list[Box]:
    """Return the boxes cut at the volume's border.

    Raises
    ------
    InputError
        If there is none, or one holds no voxel of a volume of `shape`.
    """
    if not boxes:
        raise InputError("there is no box; draw one round each object.")
    for number, box in enumerate(boxes, start=1):
        if box.volume == 0:
            raise InputError(f"box {number} from {box.start} to {box.stop} (z, y, x) is empty; draw it anew.")
        if box.clipped(shape).volume == 0:
            raise InputError(
                f"box {number} from {box.start} to {box.stop} (z, y, x) lies outside the volume, whose "
                f"shape is {shape}; draw it on the object."
            )
        if box.label <= BACKGROUND:
            raise InputError(f"box {number} is not of a class; choose the class of its object.")
    return [box.clipped(shape) for box in boxes]


def _by_box(segment: Segment, *, falls_back: bool = True, needs_surroundings: bool = False) -> BoxMethod:
    """Make a method for whole volumes of one for single boxes.

    `falls_back`: whether finding little tells that it failed; not so where it takes a fixed share of the box.
    `needs_surroundings`: whether it learns the background from what lies round the box.
    """

    def method(
        image: NDArray[np.float32], spacing: Spacing, boxes: Sequence[Box], config: BoxConfig
    ) -> Generator[Event, None, BoxLabels]:
        shape = (image.shape[1], image.shape[2], image.shape[3])
        clipped = check_boxes(boxes, shape)
        annotation = np.full(shape, BACKGROUND, np.uint8)
        _cast_shadows(annotation, spacing, boxes)
        fallen_back: list[int] = []
        whole = sum(box.volume for box in clipped)
        done = 0
        for number in _draw_order(clipped):
            box = clipped[number]
            words = f"Box {number + 1} of {len(boxes)}"
            # Of the box alone, so that the order of the boxes does not matter.
            random = np.random.default_rng([config.seed, *box.start, *box.stop, box.label])
            scene = make_scene(image, spacing, box, clipped, config.margin)
            work = segment(scene, config, random)
            try:
                while True:
                    yield WorkDone((done + next(work) * box.volume) / whole, words)
            except StopIteration as end:
                verdicts: Verdicts = end.value
            done += box.volume
            found = np.count_nonzero(verdicts == OBJECT)
            if falls_back and found < config.least_share * box.volume:
                fallen_back.append(number)
                verdicts = _verdicts_of_inner(box, config.inner_share)
                reason = _why_nothing(scene, needs_surroundings) if not found else ""
                reason = reason or f"only {100 * found / box.volume:.1f} % of it was found to be the object"
                yield Noted(f"Box {number + 1}: {reason}, so its middle is taken instead.")
            _put(annotation[box.region], verdicts, box.label)
            yield WorkDone(done / whole, words)
        return BoxLabels(annotation, tuple(sorted(fallen_back)))

    return method


def _draw_order(boxes: Sequence[Box]) -> list[int]:
    """Return the positions of boxes from back to front; of like size, not by where they stand in the list."""
    ordered = sorted(range(len(boxes)), key=lambda n: (boxes[n].start, boxes[n].stop, boxes[n].label))
    return sorted(ordered, key=lambda n: -boxes[n].volume)


def _why_nothing(scene: Scene, needs_surroundings: bool) -> str:
    """Say why nothing can be found in a scene; nothing where it could."""
    spreads = [float(channel.std()) for channel in scene.image]
    sizes = [max(1.0, float(np.abs(channel).max())) for channel in scene.image]
    if all(spread <= _FLAT * size for spread, size in zip(spreads, sizes, strict=True)):
        return "the image has no contrast in it"
    outside = ~scene.others
    outside[scene.box.region] = False
    if needs_surroundings and np.count_nonzero(outside) < _FEWEST_OUTSIDE:
        return "there is nothing round it to learn the background from"
    return ""


def _cast_shadows(annotation: NDArray[np.uint8], spacing: Spacing, boxes: Sequence[Box]) -> None:
    """Ignore what lies right before and after boxes drawn on one slice, in place: it may well be the object.

    As far as the box is wide, at most three slices; in other boxes of the class these tell what is there.
    """
    shape = (annotation.shape[0], annotation.shape[1], annotation.shape[2])
    for box in boxes:
        thin = [axis for axis in range(3) if box.shape[axis] == 1]
        if len(thin) != 1:
            continue
        wide = min(box.shape[axis] * spacing[axis] for axis in range(3) if axis != thin[0])
        reach = [0, 0, 0]
        reach[thin[0]] = min(_DEEPEST_SHADOW, max(1, round(wide / spacing[thin[0]])))
        region = with_margin(box, (reach[0], reach[1], reach[2]), shape)
        depth, height, width = (edge.stop - edge.start for edge in region)
        known = np.zeros((depth, height, width), bool)
        for other in boxes:
            moved = other.within(region).clipped((depth, height, width))
            if other.label == box.label and moved.volume:
                known[moved.region] = True
        annotation[region][~known] = UNLABELLED


def make_scene(
    image: NDArray[np.float32], spacing: Spacing, box: Box, boxes: Sequence[Box], margin: float
) -> Scene:
    """Cut a box with a margin out of a volume.

    Raises
    ------
    InputError
        If it holds values that are not finite.
    """
    shape = (image.shape[1], image.shape[2], image.shape[3])
    # What lies above and below a rectangle on one slice may well be its object: that is cut as a picture.
    depth, height, width = (
        0 if length == 1 else max(_LEAST_MARGIN, round(margin * length)) for length in box.shape
    )
    z, y, x = region = with_margin(box, (depth, height, width), shape)
    part = np.ascontiguousarray(image[:, z, y, x], np.float32)
    if not np.isfinite(part).all():
        raise InputError(
            "the image holds values that are not numbers (NaN or infinite) in or round a box; load it with "
            "load_volume, which mends them, or give finite values."
        )
    others = np.zeros(part.shape[1:], bool)
    for other in boxes:
        # What lies round a box in a larger one, as a tumour in a liver, is its background like any other.
        held = box.within(other.region).clipped(other.shape).volume
        moved = other.within(region).clipped((part.shape[1], part.shape[2], part.shape[3]))
        if held < _HELD * box.volume and moved.volume:
            others[moved.region] = True
    return Scene(part, spacing, box.within(region), others)


def _put(target: NDArray[np.uint8], verdicts: Verdicts, label: int) -> None:
    """Lay the verdicts of a box over what larger boxes have left there.

    Background inside a box is known of its own object only: it takes nothing away from another one.
    """
    target[verdicts == OBJECT] = label
    target[verdicts == UNLABELLED] = UNLABELLED


def _segment_whole(
    scene: Scene, config: BoxConfig, random: np.random.Generator
) -> Generator[float, None, Verdicts]:
    """Take the whole box for the object (the paper's naive labels)."""
    yield 1.0
    return np.full(scene.box.shape, OBJECT, np.uint8)


def _segment_inner(
    scene: Scene, config: BoxConfig, random: np.random.Generator
) -> Generator[float, None, Verdicts]:
    """Take the inner 20 % for the object and ignore the rest of the box (Boxⁱ)."""
    yield 1.0
    return _verdicts_of_inner(scene.box, config.inner_share)


def _verdicts_of_inner(box: Box, share: float) -> Verdicts:
    verdicts: Verdicts = np.full(box.shape, UNLABELLED, np.uint8)
    inner = inner_box(Box((0, 0, 0), box.shape, box.label), share)
    verdicts[inner.region] = OBJECT
    return verdicts


def _segment_grabcut(
    scene: Scene, config: BoxConfig, random: np.random.Generator
) -> Generator[float, None, Verdicts]:
    inside = yield from cut_out(scene, config, random, edges=False)
    return _verdicts_of_mask(inside[scene.box.region])


def _segment_grabcut_plus(
    scene: Scene, config: BoxConfig, random: np.random.Generator
) -> Generator[float, None, Verdicts]:
    inside = yield from cut_out(scene, config, random, edges=True)
    return _verdicts_of_mask(inside[scene.box.region])


def _segment_by_vote(
    scene: Scene, config: BoxConfig, random: np.random.Generator
) -> Generator[float, None, Verdicts]:
    """Let perturbed runs vote: much agreement is object, little is background, between is ignored."""
    shares = (yield from vote(scene, config, random))[scene.box.region]
    verdicts = np.full(shares.shape, UNLABELLED, np.uint8)
    verdicts[shares < config.background_share] = BACKGROUND
    verdicts[shares >= config.object_share] = OBJECT
    return verdicts


def _segment_proposal(
    scene: Scene, config: BoxConfig, random: np.random.Generator
) -> Generator[float, None, Verdicts]:
    proposal = yield from search_proposal(scene.image, scene.spacing, scene.box)
    return _verdicts_of_mask(proposal.mask[scene.box.region])


def _segment_consensus(
    scene: Scene, config: BoxConfig, random: np.random.Generator
) -> Generator[float, None, Verdicts]:
    """Take what the best proposal and GrabCut+ agree on, and ignore the rest (M∩G+).

    The paper ignores all of the box that is not the object by both.  An object fills a good half of its box
    in a photograph, but about a quarter in 3D: what both call background is learnt as that here.
    """
    inside = yield from _halved(cut_out(scene, config, random, edges=True), 0.0)
    proposal = yield from _halved(search_proposal(scene.image, scene.spacing, scene.box), 0.5)
    first, second = inside[scene.box.region], proposal.mask[scene.box.region]
    verdicts = np.full(first.shape, UNLABELLED, np.uint8)
    verdicts[first & second] = OBJECT
    verdicts[~first & ~second] = BACKGROUND
    return verdicts


def _halved(work: Generator[float, None, Result], start: float) -> Generator[float, None, Result]:
    """Do work that is half of all, from the share `start` on."""
    try:
        while True:
            yield start + next(work) / 2
    except StopIteration as end:
        result: Result = end.value
        return result


def _verdicts_of_mask(mask: NDArray[np.bool_]) -> Verdicts:
    return np.where(mask, OBJECT, BACKGROUND).astype(np.uint8)


BOX_METHODS: Mapping[str, BoxMethod] = {
    "box": _by_box(_segment_whole, falls_back=False),
    "box_inner": _by_box(_segment_inner, falls_back=False),
    "grabcut": _by_box(_segment_grabcut, needs_surroundings=True),
    "grabcut_plus": _by_box(_segment_grabcut_plus, needs_surroundings=True),
    "grabcut_plus_i": _by_box(_segment_by_vote, needs_surroundings=True),
    "proposals": _by_box(_segment_proposal),
    "consensus": _by_box(_segment_consensus, needs_surroundings=True),
}
"""Ways from boxes to labels, by the names in `settings.BOX_METHODS`."""
