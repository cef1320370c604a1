import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms_ssl import make_sources

from napari_sparseseg import views
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.views import LEAST_OVERLAP, distort, draw_places, draw_views, move, overlap
from napari_sparseseg.volume_pool import Place, ReadVolume, VolumePool, VolumeSource

SIZE = (16, 16, 16)


def make_pool(sources, channels=1, extent=SIZE):
    pool = VolumePool(
        sources, [1] * len(sources), Normalisation((None,) * channels), (1.0, 1.0, 1.0), extent, 1024, 0
    )
    pool.turn(0)
    return pool


def make_noise_pool(shape, count=1):
    def read():
        return ReadVolume(np.random.default_rng(0).random((1, *shape), np.float32), (1.0, 1.0, 1.0))

    return make_pool([VolumeSource("noise", read)] * count, extent=(1, 1, 1))


@pytest.mark.parametrize("channels", [1, 2])
def test_the_same_generator_draws_the_same_views(channels):
    pool = make_pool(make_sources(3, channels=channels), channels)
    draws = [draw_views(pool, np.random.default_rng(seed), SIZE, 5) for seed in (1, 1, 2)]
    for first, again, other in zip(*draws, strict=True):
        assert first.shape == (5, channels, *SIZE)
        assert first.dtype == torch.float32
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_drawing_views_leaves_the_volumes_as_they_are():
    pool = make_pool(make_sources(2))
    before = [pool.image(volume).clone() for volume in pool.resident]
    draw_views(pool, np.random.default_rng(0), SIZE, 8)
    assert all(torch.equal(pool.image(v), image) for v, image in zip(pool.resident, before, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(1, 20)] * 3),
    st.tuples(*[st.integers(0, 12)] * 3),
    st.integers(0, 2**32),
)
def test_the_second_view_lies_in_the_volume_and_shares_enough(size, room, seed):
    pool = make_noise_pool(tuple(np.add(size, room)))
    random = np.random.default_rng(seed)
    place = Place(0, tuple(int(n) for n in random.integers(0, np.add(room, 1))))
    moved = move(pool, random, place, size)
    assert moved.volume == place.volume
    assert (np.array(moved.start) >= 0).all()
    assert (np.array(moved.start) <= room).all()
    assert overlap(place, moved, size) >= LEAST_OVERLAP - 1e-9


def test_views_move_in_every_axis_and_as_far_as_stated():
    pool = make_noise_pool((60, 60, 60))
    place, random = Place(0, (20, 20, 20)), np.random.default_rng(0)
    moved = [move(pool, random, place, (20, 20, 20)) for _ in range(300)]
    ways = np.array([one.start for one in moved]) - 20
    assert (ways.min(0) < -8).all()
    assert (ways.max(0) > 8).all()
    shared = [overlap(place, one, (20, 20, 20)) for one in moved]
    assert min(shared) < 0.5
    assert max(shared) > 0.9


@pytest.mark.parametrize(
    ("start", "expected"), [((0, 0, 0), 1), ((2, 0, 0), 0.5), ((2, 2, 1), 0.1875), ((4, 0, 0), 0)]
)
def test_overlap_equals_counted_voxels(start, expected):
    assert overlap(Place(0, (0, 0, 0)), Place(0, start), (4, 4, 4)) == expected
    assert overlap(Place(0, start), Place(0, (0, 0, 0)), (4, 4, 4)) == expected
    assert overlap(Place(0, (0, 0, 0)), Place(1, start), (4, 4, 4)) == 0


def test_pieces_are_drawn_apart():
    pool = make_noise_pool((40, 40, 40), count=2)

    def most(places):
        return max(overlap(a, b, SIZE) for i, a in enumerate(places) for b in places[:i])

    apart = [most(draw_places(pool, np.random.default_rng(seed), SIZE, 6)) for seed in range(20)]
    anyhow = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        anyhow.append(most([pool.draw_place(random, SIZE) for _ in range(6)]))
    assert np.mean(apart) < 0.5 * np.mean(anyhow)


def test_pieces_of_a_volume_with_room_for_one_are_drawn_all_the_same():
    pool = make_noise_pool(SIZE)
    assert draw_places(pool, np.random.default_rng(0), SIZE, 4) == [Place(0, (0, 0, 0))] * 4


@pytest.mark.parametrize("shape", [(2, 16, 16, 16), (1, 1, 8, 8), (1, 4, 32, 32)])
def test_distortion_leaves_the_piece_and_differs_from_draw_to_draw(shape):
    piece = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    before = piece.clone()
    first, again, other = (distort(piece, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(piece, before)
    assert first.shape == piece.shape
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.05)


def test_a_piece_of_one_intensity_stays_finite():
    for seed in range(20):
        assert distort(torch.full((1, 8, 8, 8), 3.0), np.random.default_rng(seed)).isfinite().all()


def test_the_anatomy_stays_where_it_is():
    pool = make_pool(make_sources(1))
    piece = pool.cut(Place(0, (4, 6, 5)), SIZE)
    correlations = [
        np.corrcoef(piece.flatten(), distort(piece, np.random.default_rng(seed)).flatten())[0, 1]
        for seed in range(20)
    ]
    mirrored = np.corrcoef(piece.flatten(), piece.flip(3).flatten())[0, 1]
    assert min(correlations) > max(mirrored, 0.5)


def test_views_cannot_be_matched_by_brightness_and_contrast():
    """What a network could do without looking at the anatomy."""
    pool = make_pool(make_sources(4))

    def matched(change):
        right = []
        for seed in range(12):
            random = np.random.default_rng(seed)
            places = draw_places(pool, random, SIZE, 8)
            pairs = [
                [change(pool.cut(one, SIZE), random) for one in (place, move(pool, random, place, SIZE))]
                for place in places
            ]
            first, second = (
                torch.tensor([[float(view.mean()), float(view.std())] for view in views])
                for views in zip(*pairs, strict=True)
            )
            right.append((torch.cdist(first, second).argmin(1) == torch.arange(8)).float().mean())
        return float(np.mean(right))

    assert matched(lambda piece, random: piece) > matched(distort) + 0.15
    assert matched(distort) < 0.35


def test_thick_slices_are_hardly_blurred_into_each_other(monkeypatch):
    """A slice in the middle, seen through blur alone."""
    for name in ("_GAIN", "_OFFSET", "_GAMMA", "_NOISE", "_HOLES"):
        monkeypatch.setattr(views, name, 0)
    monkeypatch.setattr(views, "_BLURRED", 1)
    slices, columns = torch.zeros(1, 5, 40, 40), torch.zeros(1, 5, 40, 40)
    slices[0, 2], columns[0, :, :, 20] = 1, 1
    for seed in range(10):
        assert distort(slices, np.random.default_rng(seed))[0, 2].mean() > 0.99
    blurred = [distort(columns, np.random.default_rng(seed))[0, :, :, 20].mean() for seed in range(10)]
    assert min(blurred) < 0.9
