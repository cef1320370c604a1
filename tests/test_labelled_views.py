from collections import Counter

import numpy as np
import pytest
from phantoms_ssl import make_sources

from napari_sparseseg import labelled_views
from napari_sparseseg.labelled_views import LabelledVoxels, draw_labelled_views
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.volume_pool import ReadVolume, VolumePool, VolumeSource

SIZE = (8, 10, 12)


def make_pool(sources):
    pool = VolumePool(sources, [1] * len(sources), Normalisation((None,)), (1.0, 1.0, 1.0), SIZE, 1024, 0)
    pool.turn(0)
    return pool


def make_sparse_source(values=(1, 2, 3), shape=(16, 18, 20), seed=0):
    """Return a volume whose image tells its voxels apart, of which one slice has some labels."""
    random = np.random.default_rng(seed)
    annotation = np.zeros(shape, np.uint8)
    annotation[5, 3:12, 4:16] = random.choice(values, (9, 12))
    image = random.permutation(np.prod(shape)).reshape(1, *shape).astype(np.float32)
    return VolumeSource("sparse", lambda: ReadVolume(image, (1.0, 1.0, 1.0), annotation))


@pytest.fixture
def undistorted(monkeypatch):
    monkeypatch.setattr(labelled_views, "distort", lambda piece, random: piece)


@pytest.mark.usefixtures("undistorted")
@pytest.mark.parametrize("seed", range(5))
def test_spots_show_one_voxel_in_both_views_and_its_label(seed):
    pool = make_pool([make_sparse_source()])
    drawn = draw_labelled_views(pool, np.random.default_rng(seed), SIZE, 6, LabelledVoxels())
    where = {float(value): at for at, value in np.ndenumerate(pool.image(0)[0].numpy())}
    annotation = pool.annotation(0).numpy()
    labels = drawn.labels.numpy()
    for number, spot in np.argwhere(labels != 0):
        first, second = (
            float(view[number, 0][tuple(spots[number, spot])])
            for view, spots in ((drawn.first, drawn.spots_first), (drawn.second, drawn.spots_second))
        )
        assert first == second
        if labels[number, spot] > 0:
            assert annotation[where[first]] == labels[number, spot]


def test_half_of_the_pieces_have_labels_and_the_others_a_number_of_their_own():
    pool = make_pool([make_sparse_source(), *make_sources(2, shape=(16, 18, 20))])
    labels = draw_labelled_views(pool, np.random.default_rng(0), SIZE, 8, LabelledVoxels()).labels.numpy()
    assert (labels[:4] > 0).all()
    assert labels[4:, 0].tolist() == [-5, -6, -7, -8]
    assert not labels[4:, 1:].any()


def test_classes_are_in_balance_however_rare_one_is():
    def read():
        annotation = np.ones((16, 18, 20), np.uint8)
        annotation[8, 9, 10:12] = 2
        return ReadVolume(
            np.random.default_rng(0).random((1, 16, 18, 20), np.float32), (1.0,) * 3, annotation
        )

    pool = make_pool([VolumeSource("rare", read)])
    known, counts = LabelledVoxels(), Counter()
    for seed in range(30):
        drawn = draw_labelled_views(pool, np.random.default_rng(seed), SIZE, 4, known)
        counts.update(drawn.labels[:2, 0].tolist())
    assert min(counts[1], counts[2]) > 15


def test_where_a_labelled_voxel_lies_in_the_views_varies():
    pool = make_pool([make_sparse_source()])
    known = LabelledVoxels()
    spots = [
        draw_labelled_views(pool, np.random.default_rng(seed), SIZE, 4, known).spots_second[:2]
        for seed in range(20)
    ]
    places = np.concatenate([s.reshape(-1, 3).numpy() for s in spots])
    assert (np.ptp(places, axis=0) >= np.array(SIZE) // 2).all()


def test_volumes_without_labels_give_pieces_of_their_own():
    pool = make_pool(make_sources(2))
    labels = draw_labelled_views(pool, np.random.default_rng(0), SIZE, 3, LabelledVoxels()).labels
    assert labels[:, 0].tolist() == [-1, -2, -3]


def test_the_same_generator_draws_the_same_and_what_was_looked_up_before_does_not_matter():
    pool, other = make_pool([make_sparse_source()]), make_pool([make_sparse_source(seed=1)])
    used = LabelledVoxels()
    draw_labelled_views(other, np.random.default_rng(3), SIZE, 4, used)
    first, again = (
        vars(draw_labelled_views(pool, np.random.default_rng(0), SIZE, 4, known))
        for known in (used, LabelledVoxels())
    )
    assert all(bool((first[name] == again[name]).all()) for name in first)


def test_large_batches_have_fewer_spots_in_each_piece():
    pool = make_pool([make_sparse_source()])
    labels = draw_labelled_views(pool, np.random.default_rng(0), SIZE, 128, LabelledVoxels()).labels
    assert labels.shape == (128, 4)


def test_labels_that_left_memory_are_forgotten():
    sources = [make_sparse_source(values=(1, 2)), make_sparse_source(values=(1, 3))]
    sizes = [16 * 18 * 20] * 2
    pool = VolumePool(sources, sizes, Normalisation((None,)), (1.0, 1.0, 1.0), SIZE, 1, 0)
    pool._budget = sizes[0]
    known, seen = LabelledVoxels(), set()
    for turn in range(6):
        pool.turn(turn)
        found = known.find(pool)
        assert tuple(found) == pool.resident
        assert len(found) == 1
        seen |= set(next(iter(found.values())))
    assert seen == {1, 2, 3}
