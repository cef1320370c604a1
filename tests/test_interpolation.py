"""Slices in between have the shapes in between, and nothing is labelled that nobody knows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_sparseseg.errors import InputError
from napari_sparseseg.interpolation import (
    find_interpolation_pair,
    interpolate_annotation,
    interpolate_slices,
)

PLANES = arrays(np.uint8, (9, 7), elements=st.integers(0, 4))


def disc(radius, center=(30, 30), size=61):
    y, x = np.indices((size, size))
    return np.where(np.hypot(y - center[0], x - center[1]) <= radius, 2, 1).astype(np.uint8)


@given(PLANES, PLANES, st.integers(1, 5))
def test_nothing_is_labelled_that_nobody_knows(first, second, between):
    planes = interpolate_slices(first, second, between)
    assert len(planes) == between
    for plane in planes:
        assert not plane[(first == 0) & (second == 0)].any()
        assert set(np.unique(plane)) <= set(np.unique([first, second])) | {0}
        both = (first > 0) & (second > 0)
        assert plane[both].all()
        assert both[plane == 1].all()
        for value in (2, 3, 4):
            if not ((first == value).any() and (second == value).any()):
                assert both[plane == value].all()


@given(PLANES, st.integers(1, 5))
def test_between_two_equal_slices_all_are_equal(plane, between):
    for made in interpolate_slices(plane, plane, between):
        assert np.array_equal(made, plane)


@given(PLANES, PLANES, st.sampled_from([1, 2, 4]))
def test_the_way_back_is_the_same(first, second, between):
    there = interpolate_slices(first, second, between)
    back = interpolate_slices(second, first, between)[::-1]
    for one, other in zip(there, back, strict=True):
        assert np.array_equal(one, other)


@given(PLANES, PLANES)
def test_orientation_makes_no_difference(first, second):
    (plane,) = interpolate_slices(first, second, 1, (2.0, 3.0))
    (turned,) = interpolate_slices(first.T, second.T, 1, (3.0, 2.0))
    assert np.array_equal(plane.T, turned)


def test_a_disc_grows_evenly():
    areas = [int((plane == 2).sum()) for plane in interpolate_slices(disc(8), disc(20), 3)]
    for area, radius in zip(areas, (11, 14, 17), strict=True):
        assert area == pytest.approx(np.pi * radius**2, rel=0.08)


def test_a_disc_moves_evenly():
    (plane,) = interpolate_slices(disc(10, (30, 26)), disc(10, (30, 34)), 1)
    rows, columns = np.nonzero(plane == 2)
    assert (rows.mean(), columns.mean()) == pytest.approx((30, 30), abs=0.1)


def test_a_class_of_one_slice_only_shrinks_to_nothing_half_way():
    planes = interpolate_slices(disc(20), np.ones((61, 61), np.uint8), 4)
    areas = [int((plane == 2).sum()) for plane in planes]
    assert np.pi * 20**2 > areas[0] > areas[1] > 0
    assert areas[2:] == [0, 0]
    assert all(plane.all() for plane in planes)


def test_neighbours_leave_no_gap():
    first, second = np.ones((2, 20, 20), np.uint8)
    first[5:15, :8], first[5:15, 8:] = 2, 3
    second[5:15, :13], second[5:15, 13:] = 2, 3
    for plane in interpolate_slices(first, second, 4):
        assert set(np.unique(plane[7:13])) == {2, 3}


def test_spacing_counts():
    first, second = np.ones((2, 40, 40), np.uint8)
    first[10:30, 18:22] = 2
    second[18:22, 10:30] = 2
    (square,) = interpolate_slices(first, second, 1)
    (long,) = interpolate_slices(first, second, 1, (4.0, 1.0))
    assert np.array_equal(square == 2, (square == 2).T)
    assert not np.array_equal(long, square)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_is_filled_in_each_orientation(axis):
    stack = np.zeros((8, 61, 61), np.uint8)
    stack[1], stack[6] = disc(8), disc(20)
    stack[3, 30, 30] = 3
    labels = np.ascontiguousarray(np.moveaxis(stack, 0, axis))
    before = labels.copy()
    voxels, values = interpolate_annotation(labels, axis, 6, 1)
    assert np.array_equal(labels, before)
    assert (voxels.dtype, values.dtype) == (np.int64, np.uint8)
    assert (np.diff(voxels) > 0).all()
    assert not labels.reshape(-1)[voxels].any()
    filled = labels.copy()
    filled.reshape(-1)[voxels] = values
    made = np.moveaxis(filled, axis, 0)
    expected = interpolate_slices(stack[1], stack[6], 4)
    expected[1][30, 30] = 3
    assert np.array_equal(made[2:6], expected)
    assert not made[[0, 7]].any()


def test_only_the_labelled_part_is_looked_at():
    labels = np.zeros((5, 200, 200), np.uint8)
    labels[0, 100:110, 50:60] = 2
    labels[4, 104:114, 54:64] = 2
    voxels, values = interpolate_annotation(labels, 0, 0, 4)
    expected = np.stack(interpolate_slices(labels[0], labels[4], 3))
    assert np.array_equal(voxels, np.flatnonzero(expected) + 200 * 200)
    assert np.array_equal(values, expected[expected > 0])


def test_what_cannot_be_interpolated_is_told():
    labels = np.zeros((6, 30, 30), np.uint8)
    labels[1, 2:5, 2:5] = labels[5, 20:25, 20:25] = 2
    with pytest.raises(InputError, match="do not overlap"):
        interpolate_annotation(labels, 0, 1, 5)
    for first, second in ((1, 2), (3, 3), (-1, 4), (2, 6)):
        with pytest.raises(InputError, match="no slice between"):
            interpolate_annotation(labels, 0, first, second)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    ("index", "pair"),
    [(0, None), (2, (2, 5)), (3, (2, 5)), (5, (2, 5)), (6, (6, 10)), (8, (6, 10)), (10, (6, 10)), (11, None)],
)
def test_the_pair_round_the_visible_slice_is_found(axis, index, pair):
    stack = np.zeros((12, 20, 20), np.uint8)
    for place in (2, 5, 6, 10):
        stack[place, 5:15, 5:15] = 2
    labels = np.moveaxis(stack, 0, axis)
    assert find_interpolation_pair(labels, axis, index) == pair
    assert find_interpolation_pair(labels, (axis + 1) % 3, index) is None


def test_of_two_gaps_the_narrower_one_is_meant():
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[[2, 8, 11], 5:15] = 2
    assert find_interpolation_pair(labels, 0, 8) == (8, 11)
