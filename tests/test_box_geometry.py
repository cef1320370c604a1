import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.box_geometry import (
    Box,
    back_to_front,
    bounding_box,
    box_overlap,
    boxes_of_labels,
    inner_box,
    surrounding_region,
    with_margin,
)

SHAPE = (7, 9, 5)
COORDINATES = st.tuples(*[st.integers(-4, 13)] * 3)
LENGTHS = st.tuples(*[st.integers(1, 40)] * 3)
ANY_BOX = st.builds(Box, COORDINATES, COORDINATES, st.integers(2, 9))


def box_of_size(start, lengths, label=2):
    return Box(start, tuple(a + n for a, n in zip(start, lengths, strict=True)), label)


PROPER_BOX = st.builds(box_of_size, COORDINATES, LENGTHS)


def voxels_of(box, low=-4, high=54):
    """Return the box drawn voxel by voxel into a large volume."""
    canvas = np.zeros((high - low,) * 3, bool)
    canvas[tuple(slice(a - low, max(a, b) - low) for a, b in zip(box.start, box.stop, strict=True))] = True
    return canvas


@given(ANY_BOX)
def test_shape_and_volume_count_voxels(box):
    assert box.volume == voxels_of(box).sum()
    assert box.shape == tuple(np.subtract(box.stop, box.start))
    assert (box.volume > 0) == (min(box.shape) > 0)


@given(ANY_BOX)
def test_a_clipped_box_holds_the_voxels_in_the_volume(box):
    clipped = box.clipped(SHAPE)
    inside = voxels_of(box)[4 : 4 + SHAPE[0], 4 : 4 + SHAPE[1], 4 : 4 + SHAPE[2]]
    assert clipped.volume == inside.sum()
    assert clipped.label == box.label
    assert clipped.clipped(SHAPE) == clipped
    assert min(clipped.start) >= 0
    if clipped.volume:
        assert np.array_equal(np.argwhere(inside).min(0), clipped.start)
        assert inside[clipped.region].all()


@given(PROPER_BOX, st.floats(0.01, 1))
def test_the_inner_box_is_in_the_middle(box, share):
    inner = inner_box(box, share)
    before = np.subtract(inner.start, box.start)
    after = np.subtract(box.stop, inner.stop)
    assert before.min() >= 0
    assert set((after - before).tolist()) <= {0, 1}
    assert min(inner.shape) >= 1
    assert np.abs(np.array(inner.shape) - np.maximum(1, np.array(box.shape) * share ** (1 / 3))).max() <= 0.5
    assert inner.label == box.label
    assert inner_box(box, 1.0) == box


def test_the_inner_box_of_a_large_box_holds_its_share():
    box = Box((5, 0, 10), (205, 150, 130), 2)
    assert inner_box(box, 0.2).volume / box.volume == pytest.approx(0.2, rel=0.02)


@given(PROPER_BOX, st.tuples(*[st.integers(0, 5)] * 3))
def test_a_margin_ends_at_the_volume(box, margin):
    box = box.clipped(SHAPE)
    if not box.volume:
        return
    region = with_margin(box, margin, SHAPE)
    canvas = np.zeros(SHAPE, bool)
    canvas[region] = True
    expected = np.ones(SHAPE, bool)
    for axis, index in enumerate(np.indices(SHAPE)):
        low, high = box.start[axis] - margin[axis], box.stop[axis] + margin[axis]
        expected &= (index >= low) & (index < high)
    assert np.array_equal(canvas, expected)


@given(st.lists(PROPER_BOX, min_size=1, max_size=4), st.integers(0, 5))
def test_the_surrounding_region_holds_each_box_and_its_margin(boxes, margin):
    boxes = [box for box in (box.clipped(SHAPE) for box in boxes) if box.volume]
    if not boxes:
        return
    canvas, expected = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    canvas[surrounding_region(boxes, margin, SHAPE)] = True
    for box in boxes:
        expected[with_margin(box, (margin, margin, margin), SHAPE)] = True
    assert bounding_box(canvas, 2) == bounding_box(expected, 2)
    assert canvas.sum() == bounding_box(canvas, 2).volume


@given(st.lists(PROPER_BOX, max_size=6))
def test_smaller_boxes_lie_in_front_and_of_equal_ones_the_later(boxes):
    order = back_to_front(boxes)
    volumes = [box.volume for box in order]
    assert volumes == sorted(volumes, reverse=True)
    for volume in set(volumes):
        assert [b for b in order if b.volume == volume] == [b for b in boxes if b.volume == volume]


@given(st.sets(st.tuples(*[st.integers(0, n - 1) for n in SHAPE]), max_size=5))
def test_a_bounding_box_is_the_smallest_that_holds_all(voxels):
    mask = np.zeros(SHAPE, bool)
    for voxel in voxels:
        mask[voxel] = True
    box = bounding_box(mask, 7)
    if not voxels:
        assert box is None
        return
    assert box.label == 7
    assert mask[box.region].sum() == mask.sum()
    inside = mask[box.region]
    assert all(inside.take(end, axis).any() for axis in range(3) for end in (0, -1))


@given(PROPER_BOX, PROPER_BOX)
def test_overlap_counts_voxels(first, second):
    a, b = voxels_of(first), voxels_of(second)
    assert box_overlap(first, second) == pytest.approx((a & b).sum() / (a | b).sum())
    assert box_overlap(first, second) == box_overlap(second, first)
    assert box_overlap(first, first) == 1


@given(ANY_BOX)
def test_nothing_overlaps_an_empty_box(box):
    empty = Box((1, 1, 1), (1, 4, 4), 2)
    assert box_overlap(box, empty) == 0
    assert box_overlap(empty, empty) == 0


def test_each_class_or_each_part_gets_a_box():
    annotation = np.ones((6, 8, 10), np.uint8)
    annotation[0:2, 1:3, 2:5] = 2
    annotation[2:4, 3:5, 5:6] = 2  # touches by a corner only
    annotation[5, 7, 9] = 2
    annotation[4, 0:2, 0:3] = 5
    annotation[3, 3, 0] = 0
    assert boxes_of_labels(annotation) == [Box((0, 1, 2), (6, 8, 10), 2), Box((4, 0, 0), (5, 2, 3), 5)]
    assert boxes_of_labels(annotation, parts=True) == [
        Box((0, 1, 2), (4, 5, 6), 2),
        Box((5, 7, 9), (6, 8, 10), 2),
        Box((4, 0, 0), (5, 2, 3), 5),
    ]
    assert boxes_of_labels(np.ones((3, 3, 3), np.uint8)) == []


@given(st.integers(0, 10_000))
def test_the_boxes_of_labels_are_their_bounding_boxes(seed):
    annotation = np.random.default_rng(seed).choice([0, 1, 1, 1, 1, 2, 3, 6], (4, 5, 6)).astype(np.uint8)
    assert boxes_of_labels(annotation) == [
        bounding_box(annotation == value, int(value)) for value in np.unique(annotation) if value > 1
    ]
    for box in boxes_of_labels(annotation, parts=True):
        edge_values = [(annotation[box.region] == box.label).any((*{0, 1, 2} - {axis},)) for axis in range(3)]
        assert all(edge[0] and edge[-1] for edge in edge_values)
