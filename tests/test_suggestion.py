"""The next slice to label is where the prediction is least sure, and not where labels are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_sparseseg.annotation import find_labelled_slices
from napari_sparseseg.suggestion import labelled_slices, most_uncertain_slice, suggest_slice

SHAPE = (20, 24, 28)
WHOLE = tuple((0, length) for length in SHAPE)
NONE = ((), (), ())


@given(arrays(np.uint8, (5, 6, 4), elements=st.sampled_from([0, 0, 0, 0, 1, 2])))
def test_labelled_slices_are_those_of_the_annotation(labels):
    expected = [[], [], []]
    for unit in find_labelled_slices(labels):
        expected[unit.axis].append(unit.index)
    assert labelled_slices(labels) == tuple(tuple(sorted(indices)) for indices in expected)


def test_slices_that_only_cross_a_labelled_one_are_not_labelled():
    labels = np.zeros(SHAPE, np.uint8)
    labels[7], labels[:, 3], labels[:, :, 20] = 1, 2, 3
    assert labelled_slices(labels) == ((7,), (3,), (20,))
    assert labelled_slices(labels.transpose(2, 0, 1)) == ((20,), (7,), (3,))
    assert labelled_slices(np.zeros(SHAPE, np.uint8)) == NONE


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_least_sure_slice_that_is_not_labelled_is_found(axis):
    uncertainty = np.zeros(SHAPE, np.uint8)
    stack = np.moveaxis(uncertainty, axis, 0)
    stack[3], stack[9], stack[15] = 50, 100, 200
    assert most_uncertain_slice(uncertainty, axis, WHOLE, ()).index == 15
    found = most_uncertain_slice(uncertainty, axis, WHOLE, (0, 15))
    assert (found.axis, found.index, found.score) == (axis, 9, pytest.approx(100 / 255))
    assert f"{('axial', 'coronal', 'sagittal')[axis]} slice 9" in found.reason
    region = tuple((2, 8) for _ in range(3))
    assert most_uncertain_slice(uncertainty, axis, region, (9, 15)).index == 3
    assert most_uncertain_slice(uncertainty, axis, region, (3,)) is None
    assert most_uncertain_slice(np.zeros_like(uncertainty), axis, WHOLE, ()) is None


def test_only_the_region_counts():
    uncertainty = np.zeros(SHAPE, np.uint8)
    uncertainty[5, :4], uncertainty[12, 10:14, 10:14] = 255, 20
    region = ((0, 20), (8, 16), (8, 16))
    assert most_uncertain_slice(uncertainty, 0, region, ()).index == 12
    found = suggest_slice(uncertainty, np.full(SHAPE, 2, np.uint8), region, NONE, (1, 1, 1))
    assert found.axis != 0 or found.index == 12
    assert region[found.axis][0] <= found.index < region[found.axis][1]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_best_orientation_wins_and_the_reason_is_said(axis):
    uncertainty = np.full(SHAPE, 10, np.uint8)
    np.moveaxis(uncertainty, axis, 0)[11] = 250
    prediction = np.full(SHAPE, 2, np.uint8)
    labelled = tuple((2,) if other == axis else () for other in range(3))
    found = suggest_slice(uncertainty, prediction, WHOLE, labelled, (2, 2, 2), {2: "liver"})
    name = ("axial", "coronal", "sagittal")[axis]
    assert (found.axis, found.index) == (axis, 11)
    assert found.reason == (
        f"{name} slice 11: the prediction is least sure there about liver, and the nearest labelled "
        f"{name} slice is 18 mm away."
    )
    found = suggest_slice(uncertainty, prediction, WHOLE, NONE, (2, 2, 2))
    assert "about class 2" in found.reason
    assert f"no {name} slice is labelled yet" in found.reason


def test_what_may_be_missed_is_said():
    uncertainty = np.zeros(SHAPE, np.uint8)
    uncertainty[4] = 200
    found = suggest_slice(uncertainty, np.ones(SHAPE, np.uint8), WHOLE, NONE, (1, 1, 1))
    assert "takes for background" in found.reason


def test_a_rare_class_counts_as_much_as_a_common_one():
    prediction, uncertainty = np.full(SHAPE, 1, np.uint8), np.zeros(SHAPE, np.uint8)
    prediction[4, 2:22, 2:26] = 2  # large
    uncertainty[prediction == 2] = 100
    prediction[14, 10:13, 10:13] = 3  # small, and a little less alone
    uncertainty[14, 10:13, 10:13] = 200
    uncertainty[14, 14:16, 14:16] = 100
    found = suggest_slice(uncertainty, prediction, WHOLE, NONE, (1, 5, 5), {3: "duct"})
    assert (found.axis, found.index) == (0, 14)
    assert most_uncertain_slice(uncertainty, 0, WHOLE, ()).index == 4  # which does not know classes


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 19), max_size=5),
    st.sampled_from([(1.0, 1.0, 1.0), (4.0, 0.8, 0.8), (0.5, 3.0, 0.5)]),
)
def test_a_suggestion_is_never_labelled_and_always_the_same(seed, labelled, spacing):
    random = np.random.default_rng(seed)
    uncertainty = random.integers(0, 256, SHAPE, np.uint8)
    prediction = random.integers(1, 4, SHAPE, np.uint8)
    known = (tuple(labelled), (), tuple(labelled))
    found = suggest_slice(uncertainty, prediction, WHOLE, known, spacing)
    assert found == suggest_slice(uncertainty, prediction, WHOLE, known, spacing)
    assert found.index not in known[found.axis]
    assert 0 < found.score <= 1
    near = min((abs(found.index - index) for index in known[found.axis]), default=np.inf)
    far = [
        i for i in range(SHAPE[found.axis]) if all(abs(i - k) * spacing[found.axis] >= 5 for k in labelled)
    ]
    assert near * spacing[found.axis] >= 5 or not known[found.axis] or not far


def test_swapping_two_classes_changes_nothing():
    random = np.random.default_rng(1)
    uncertainty = random.integers(0, 256, SHAPE, np.uint8)
    prediction = random.integers(1, 4, SHAPE, np.uint8)
    swapped = np.array([0, 1, 3, 2], np.uint8)[prediction]
    one = suggest_slice(uncertainty, prediction, WHOLE, NONE, (1, 1, 1), {2: "a", 3: "b"})
    other = suggest_slice(uncertainty, swapped, WHOLE, NONE, (1, 1, 1), {3: "a", 2: "b"})
    assert one == other


def test_slices_of_long_voxels_are_not_suggested():
    uncertainty = np.full(SHAPE, 10, np.uint8)
    uncertainty[:, 12], uncertainty[6] = 255, 90
    prediction = np.full(SHAPE, 2, np.uint8)
    assert suggest_slice(uncertainty, prediction, WHOLE, NONE, (1, 1, 1)).axis == 1
    assert suggest_slice(uncertainty, prediction, WHOLE, NONE, (5, 1, 1)).axis == 0


def test_there_is_not_always_a_suggestion():
    prediction = np.full(SHAPE, 2, np.uint8)
    assert suggest_slice(np.zeros(SHAPE, np.uint8), prediction, WHOLE, NONE, (1, 1, 1)) is None
    flat = np.full((1, 24, 28), 9, np.uint8)
    edges = ((0, 1), (0, 24), (0, 28))
    assert suggest_slice(flat, flat, edges, ((0,), (), ()), (1, 1, 1)) is None
    assert suggest_slice(flat, flat, edges, NONE, (1, 1, 1)).axis == 0
    dense = tuple(tuple(range(0, length, 2)) for length in SHAPE)
    found = suggest_slice(np.full(SHAPE, 9, np.uint8), prediction, WHOLE, dense, (1, 1, 1))
    assert found.index % 2 == 1  # too near to a labelled one, but better than none


def test_a_large_volume_is_thinned_out_and_each_slice_still_seen(monkeypatch):
    monkeypatch.setattr("napari_sparseseg.suggestion._MOST_VOXELS", 1000)
    uncertainty = np.full(SHAPE, 10, np.uint8)
    prediction = np.full(SHAPE, 2, np.uint8)
    for axis in range(3):
        changed = uncertainty.copy()
        np.moveaxis(changed, axis, 0)[13] = 250
        found = suggest_slice(changed, prediction, WHOLE, NONE, (1, 1, 1))
        assert (found.axis, found.index) == (axis, 13)
        assert most_uncertain_slice(changed, axis, WHOLE, ()).index == 13
