import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from phantoms import TABLE, label_slices, make_truth

from napari_sparseseg.annotation import (
    SOURCE_WEIGHTS,
    ClassTable,
    OverlapCounter,
    annotation_from_file,
    check_convention,
    choose_held_out,
    find_labelled_slices,
    find_strokes,
    mask_from_channels,
    merge_sources,
    painted_values,
    source_code,
    weigh_sources,
)
from napari_sparseseg.errors import InputError

annotations = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 3)
)


def write_file_labels(annotation, unlabelled):
    """Store an annotation of TABLE as a file of the given convention does."""
    background = 1 if unlabelled == 0 else 0
    return np.array([unlabelled, background, 1003, 2035])[annotation]


@given(annotation=annotations, unlabelled=st.sampled_from([0, 255, 4, -1]))
def test_file_conventions_round_trip(annotation, unlabelled):
    stored = write_file_labels(annotation, unlabelled)
    assert np.array_equal(annotation_from_file(stored, TABLE, unlabelled), annotation)
    present = [value for row, value in ((2, 1003), (3, 2035)) if (annotation == row).any()]
    assert painted_values(stored, unlabelled) == tuple(present)


@given(channels=annotations.map(lambda a: a.clip(0, 2)))
def test_a_mask_read_as_labels_without_unlabelled_voxels_gives_the_channels_back(channels):
    mask = mask_from_channels(channels, TABLE)
    assert set(np.unique(mask)) <= {0, 1003, 2035}
    assert np.array_equal(annotation_from_file(mask, TABLE, unlabelled=255), channels + 1)


def test_values_missing_in_the_table_are_named():
    with pytest.raises(InputError, match=r"\[7, 9\]"):
        annotation_from_file(np.array([[[0, 1, 1003, 7, 9]]]), TABLE)


@pytest.mark.parametrize("most", [255, 4])
def test_convention_is_refused_where_the_commonest_value_is_the_largest(most):
    labels = np.full((4, 4, 4), most)
    labels[0], labels[1, 0] = 0, 1
    with pytest.raises(InputError, match=f"--unlabelled {most}"):
        check_convention(labels, "labels.nii.gz")
    labels[labels == most] = 0
    labels[3, 3, 3] = most
    check_convention(labels, "labels.nii.gz")


def test_class_table_round_trips_through_json():
    assert ClassTable.from_json(TABLE.to_json()) == TABLE
    assert TABLE.names == ("background", "ball", "cube")
    assert TABLE.mask_values == (0, 1003, 2035)
    assert len(TABLE) == 3


@pytest.mark.parametrize("values", [[], [3, 3], [0], [-1]])
def test_class_table_refuses_impossible_values(values):
    with pytest.raises(InputError):
        ClassTable.from_values(values)


@pytest.mark.parametrize(
    "rows",
    [
        None,
        5,
        "abc",
        [],
        [{"value": 1}],
        [{"value": "x", "name": "a", "color": "b"}],
        [{"value": float("inf"), "name": "a", "color": "b"}] * 2,
        [["value"]],
    ],
)
def test_class_table_refuses_other_json(rows):
    with pytest.raises(InputError):
        ClassTable.from_json(rows)


@pytest.mark.parametrize("other", sorted(SOURCE_WEIGHTS.keys() - {"stroke"}))
def test_a_stroke_wins_over_every_other_source_in_any_order(other):
    stroke, rest = np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 3, np.uint8)
    stroke[..., 0], rest[..., 2] = 2, 0
    for sources in ({"stroke": stroke, other: rest}, {other: rest, "stroke": stroke}):
        annotation, weights = merge_sources(sources)
        assert annotation.tolist() == [[[2, 3, 0]]]
        assert weights.reshape(-1) == pytest.approx([1.0, SOURCE_WEIGHTS[other], 0.0])


def test_the_heavier_source_wins():
    box, accepted = np.full((1, 1, 2), 2, np.uint8), np.array([[[0, 3]]], np.uint8)
    annotation, weights = merge_sources({"accepted": accepted, "box": box})
    assert annotation.tolist() == [[[2, 3]]]
    assert weights.reshape(-1) == pytest.approx([0.3, 0.5])


def test_seeding_weighs_labels_from_class_maps_alone():
    codes = np.arange(len(SOURCE_WEIGHTS) + 1, dtype=np.uint8)
    usual, twice = weigh_sources(codes), weigh_sources(codes, 2.0)
    np.testing.assert_allclose(usual, [0, *SOURCE_WEIGHTS.values()])
    assert twice[source_code("cam")] == pytest.approx(2 * SOURCE_WEIGHTS["cam"])
    others = codes != source_code("cam")
    np.testing.assert_array_equal(twice[others], usual[others])
    assert weigh_sources(codes, 0.0)[source_code("cam")] == 0


def test_labelled_slices_of_several_orientations_are_recovered():
    truth = make_truth(12)
    annotation = label_slices(truth, axial=(3, 8), coronal=(6,))
    units = find_labelled_slices(annotation)
    assert {(unit.axis, unit.index) for unit in units} == {(0, 3), (0, 8), (1, 6)}
    assert sorted(len(unit.voxels) for unit in units) == [12 * 10, 144, 144]


@given(annotation=annotations)
def test_units_share_no_voxel_and_hold_all(annotation):
    for units in (find_labelled_slices(annotation), find_strokes(annotation)):
        voxels = np.concatenate([np.zeros(0, np.int64), *(unit.voxels for unit in units)])
        assert np.array_equal(np.sort(voxels), np.flatnonzero(annotation))
        for unit in units:
            place = np.unravel_index(unit.voxels, annotation.shape)
            assert (place[unit.axis] == unit.index).all()


def test_strokes_are_connected_parts_of_one_class():
    annotation = np.zeros((4, 8, 8), np.uint8)
    annotation[1, 0, :3], annotation[1, 0, 3:6] = 1, 2
    annotation[1, 2, 2], annotation[1, 3, 3] = 2, 2  # corner to corner: one stroke
    annotation[1, 6, 0:2] = 1
    strokes = find_strokes(annotation)
    assert sorted(len(stroke.voxels) for stroke in strokes) == [2, 2, 3, 3]
    values = annotation.reshape(-1)
    assert all(len(set(values[stroke.voxels].tolist())) == 1 for stroke in strokes)


@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.1, 0.3, 0.5]))
def test_whole_slices_are_held_out_and_every_class_stays(seed, share):
    annotation = label_slices(make_truth(14), axial=(4, 6, 7, 9), coronal=(8,))
    (held,) = choose_held_out([annotation], share, np.random.default_rng(seed))
    units = find_labelled_slices(annotation)
    inside = [np.isin(unit.voxels, held) for unit in units]
    assert all(part.all() or not part.any() for part in inside)
    assert 0 < len(held) < (annotation > 0).sum()
    kept = annotation.copy()
    kept.reshape(-1)[held] = 0
    assert set(np.unique(kept)) == {0, 1, 2, 3}
    assert (annotation.reshape(-1)[held] > 1).any()
    again = choose_held_out([annotation], share, np.random.default_rng(seed))
    assert np.array_equal(again[0], held)


def test_other_seeds_hold_out_other_slices():
    annotation = label_slices(make_truth(14), axial=(5, 6, 7, 8))
    chosen = {int(choose_held_out([annotation], 0.1, np.random.default_rng(s))[0][0]) for s in range(20)}
    assert len(chosen) > 1


def test_strokes_are_held_out_where_one_slice_is_labelled():
    annotation = np.zeros((5, 20, 20), np.uint8)
    for row, value in ((1, 1), (4, 2), (7, 1), (10, 2), (13, 2)):
        annotation[2, row, 2:16] = value
    (held,) = choose_held_out([annotation], 0.1, np.random.default_rng(0))
    assert len(held) == 14
    assert set(annotation.reshape(-1)[held].tolist()) == {2}


@pytest.mark.parametrize(
    "annotation",
    [
        np.zeros((3, 3, 3), np.uint8),
        np.array([[[1, 2, 0]]], np.uint8),
        label_slices(make_truth(10), axial=(5,)).clip(0, 1),
    ],
    ids=["unlabelled", "one voxel of each class", "background alone"],
)
def test_nothing_is_held_out_where_that_cannot_be(annotation):
    (held,) = choose_held_out([annotation], 0.5, np.random.default_rng(0))
    assert len(held) == 0


def test_share_zero_holds_out_nothing():
    annotation = label_slices(make_truth(12), axial=(4, 6, 7))
    assert len(choose_held_out([annotation], 0.0, np.random.default_rng(0))[0]) == 0


@given(
    pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=50),
    cut=st.integers(0, 50),
)
def test_overlap_counter_counts_what_brute_force_does(pairs, cut):
    truth, prediction = np.array(pairs).T
    counter = OverlapCounter(4)
    counter.add(truth[:cut], prediction[:cut])
    counter.add(truth[cut:], prediction[cut:])
    expected = []
    for channel in (1, 2, 3):
        a, b = truth == channel, prediction == channel
        expected.append(2 * (a & b).sum() / (a.sum() + b.sum()) if a.any() or b.any() else np.nan)
    assert counter.dice() == pytest.approx(expected, nan_ok=True)
    present = [value for value in expected if value == value]
    assert counter.mean_dice() == pytest.approx(np.mean(present) if present else 0.0)
