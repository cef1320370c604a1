import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sparseseg.errors import InputError
from napari_sparseseg.sample_data import generate_case
from napari_sparseseg.sparsification import sparsify_labels
from napari_sparseseg.strokes import draw_slice_strokes

SHAPE = (20, 36, 40)


@pytest.fixture(scope="module")
def truth():
    return generate_case(1, shape=SHAPE, spacing=(2.0, 1.0, 1.0), classes=3)[1]


def labelled_planes(sparse, axis):
    others = tuple(other for other in range(3) if other != axis)
    return np.flatnonzero((sparse != 255).all(axis=others)).tolist()


def blobs(seed, shape):
    random = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    grid = np.indices(shape)
    for value in range(1, random.integers(2, 5)):
        centre = [random.integers(0, size) for size in shape]
        radius = random.uniform(0.5, 6)
        labels[sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2] = value
    return labels


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    number=st.integers(1, 6),
    orientations=st.sampled_from(["z", "yx", "zyx", "xxz"]),
)
def test_every_label_is_the_truth(seed, number, orientations):
    truth = blobs(seed, (9, 12, 14))
    for style in ("slices", "scribbles"):
        sparse = sparsify_labels(truth, number, orientations=orientations, style=style, seed=seed)
        labelled = sparse != 255
        assert labelled.any()
        np.testing.assert_array_equal(sparse[labelled], truth[labelled])
        again = sparsify_labels(truth, number, orientations=orientations, style=style, seed=seed)
        np.testing.assert_array_equal(sparse, again)


@pytest.mark.parametrize(
    ("number", "orientations", "expected"),
    [
        (1, "zyx", (1, 0, 0)),
        (3, "zyx", (1, 1, 1)),
        (5, "zyx", (2, 2, 1)),
        (4, "xz", (2, 0, 2)),
        (3, "y", (0, 3, 0)),
    ],
)
def test_slices_are_dealt_out_in_turn(truth, number, orientations, expected):
    sparse = sparsify_labels(truth, number, orientations=orientations)
    assert tuple(len(labelled_planes(sparse, axis)) for axis in range(3)) == expected


@pytest.mark.parametrize("seed", range(5))
def test_three_slices_show_every_class(truth, seed):
    for orientations in ("zyx", "z", "x"):
        sparse = sparsify_labels(truth, 3, orientations=orientations, seed=seed)
        assert set(np.unique(sparse)) == {0, 1, 2, 3, 255}


def test_slices_are_spread_over_the_object():
    truth = np.zeros((40, 10, 10), np.int32)
    truth[5:35, 2:8, 2:8] = 1
    planes = labelled_planes(sparsify_labels(truth, 3, orientations="z"), 0)
    assert min(np.diff(planes)) >= 6
    assert all(5 <= plane < 35 for plane in planes)


def test_a_class_not_shown_yet_is_favoured():
    truth = np.zeros((20, 30, 30), np.int32)
    truth[2:10, 2:28, 2:28] = 1
    truth[15:17, 14:16, 14:16] = 2
    planes = labelled_planes(sparsify_labels(truth, 2, orientations="z"), 0)
    assert any(15 <= plane < 17 for plane in planes)
    assert any(2 <= plane < 10 for plane in planes)


def test_seeds_vary_the_choice(truth):
    chosen = {
        tuple(labelled_planes(sparsify_labels(truth, 3, orientations="z", seed=s), 0)) for s in range(8)
    }
    assert len(chosen) > 1


def test_all_slices_label_everything(truth):
    np.testing.assert_array_equal(sparsify_labels(truth, SHAPE[0], orientations="z"), truth)


def test_other_unlabelled_value_and_types():
    truth = np.zeros((4, 6, 6), np.uint8)
    truth[1:3, 2:4, 2:4] = 255
    sparse = sparsify_labels(truth, 1, orientations="z", unlabelled=4)
    assert set(np.unique(sparse)) == {0, 4, 255}
    assert sparse.dtype == np.int32


@pytest.mark.parametrize("seed", range(4))
def test_scribbles_are_sparse_thin_and_show_each_class(truth, seed):
    sparse = sparsify_labels(truth, 3, orientations="z", style="scribbles", seed=seed)
    planes = [plane for plane in range(SHAPE[0]) if (sparse[plane] != 255).any()]
    assert len(planes) == 3
    for plane in planes:
        shown = set(np.unique(sparse[plane])) - {255}
        assert shown == set(np.unique(truth[plane]))
        assert (sparse[plane] != 255).mean() < 0.4


def test_strokes_on_a_disc_run_across_and_along_its_border():
    rows, columns = np.indices((80, 80)) - 40
    distance = np.hypot(rows, columns)
    disc = (distance <= 20).astype(np.int32)
    for seed in range(6):
        strokes = draw_slice_strokes(disc, np.random.default_rng(seed))
        inside = strokes & (disc == 1)
        assert distance[inside].min() < 4, "the interior stroke passes the middle"
        assert np.count_nonzero(inside & (distance > 16)) > 8, "the border stroke follows the contour"
        assert np.count_nonzero(inside) < 0.3 * disc.sum()
        near = strokes & (disc == 0) & (distance < 27)
        far = strokes & (disc == 0) & (distance > 31)
        assert near.any()
        assert far.any()


@pytest.mark.parametrize("labels", [np.zeros((5, 7)), np.ones((5, 7)), np.ones((1, 1)), np.eye(6)])
def test_strokes_exist_on_degenerate_slices(labels):
    strokes = draw_slice_strokes(labels.astype(np.int32), np.random.default_rng(0))
    assert set(np.unique(labels[strokes])) == set(np.unique(labels))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slices": 21, "orientations": "z"}, "only 20"),
        ({"slices": 0}, "at least one"),
        ({"orientations": "zq"}, "letters"),
        ({"orientations": ""}, "letters"),
        ({"unlabelled": 2}, "unlabelled"),
        ({"unlabelled": 0}, "unlabelled"),
        ({"style": "dots"}, "style"),
    ],
)
def test_mistakes_are_told(truth, options, words):
    with pytest.raises(InputError, match=words):
        sparsify_labels(truth, **{"slices": 3, **options})


def test_truth_without_foreground_is_refused():
    with pytest.raises(InputError, match="nothing to learn"):
        sparsify_labels(np.zeros((3, 4, 5), int), 1)
    with pytest.raises(InputError, match="three axes"):
        sparsify_labels(np.ones((4, 5), int), 1)
