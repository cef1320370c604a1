import threading
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from phantoms_ssl import make_sources, make_volume

from napari_sparseseg.errors import InputError
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.volume_pool import Place, ReadVolume, VolumePool, VolumeSource

PLAIN = Normalisation((None,))


def make_pool(sources, sizes=None, extent=(8, 8, 8), memory_mb=100, seed=0, spacing=(1.0, 1.0, 1.0)):
    sizes = sizes or [source.read().image.size for source in sources]
    return VolumePool(sources, sizes, PLAIN, spacing, extent, memory_mb, seed)


def empty_pool(sizes, memory_mb, seed=0):
    """Return a pool whose order can be asked; nothing is ever read."""
    return VolumePool(
        [VolumeSource(str(n), None) for n in sizes], sizes, PLAIN, (1, 1, 1), (1, 1, 1), memory_mb, seed
    )


def test_volumes_that_fit_all_stay():
    pool = make_pool(make_sources(3))
    pool.turn(0)
    before = [pool.image(volume) for volume in pool.resident]
    pool.turn(5)
    assert not pool.changes
    assert pool.resident == (0, 1, 2)
    assert all(pool.image(volume) is image for volume, image in enumerate(before))


@given(
    st.lists(st.integers(1, 900_000), min_size=1, max_size=9),
    st.integers(1, 6),
    st.integers(0, 40),
    st.integers(0, 9),
)
def test_memory_is_never_exceeded_but_for_a_single_volume(sizes, memory_mb, number, seed):
    pool = empty_pool(sizes, memory_mb, seed)
    chosen, ahead = pool._chosen(number), pool._ahead(number)
    assert chosen
    assert not chosen & ahead
    assert ahead <= pool._chosen(number + 1)
    held = chosen | ahead
    assert len(held) == 1 or sum(sizes[index] for index in held) <= memory_mb * 250_000


@given(st.lists(st.integers(100_000, 900_000), min_size=2, max_size=9), st.integers(0, 9))
def test_all_volumes_have_their_turn(sizes, seed):
    pool = empty_pool(sizes, 1, seed)
    seen = set()
    for number in range(60 * len(sizes)):
        seen |= pool._chosen(number)
    assert seen == set(range(len(sizes)))


def test_a_turn_depends_on_its_number_alone():
    sources = make_sources(6, (10, 10, 10))
    one, other = (make_pool(sources, sizes=[80_000] * 6, memory_mb=1) for _ in range(2))
    for number in range(7):
        one.turn(number)
    other.turn(6)
    assert one.changes
    assert one.resident == other.resident
    assert all(torch.equal(one.image(v), other.image(v)) for v in one.resident)


def test_reading_ahead_changes_nothing_but_reads_only_once():
    counts = dict.fromkeys(range(6), 0)

    def counted(number, source):
        def read():
            counts[number] += 1
            return source.read()

        return VolumeSource(source.name, read)

    plain = make_sources(6, (10, 10, 10))
    sizes = [60_000] * 6
    sources = [counted(number, source) for number, source in enumerate(plain)]
    ahead = VolumePool(sources, sizes, PLAIN, (1, 1, 1), (8, 8, 8), 1, 0)
    other = VolumePool(plain, sizes, PLAIN, (1, 1, 1), (8, 8, 8), 1, 0)
    with ahead.reading_ahead():
        for number in range(3):
            ahead.turn(number)
            other.turn(number)
            assert ahead.resident == other.resident
            assert all(torch.equal(ahead.image(v), other.image(v)) for v in other.resident)
    entered, before = 0, set()
    for number in range(4):  # and the volumes of the next turn
        entered += len(ahead._chosen(number) - before)
        before = ahead._chosen(number)
    assert sum(counts.values()) <= entered


def test_some_are_read_ahead_in_a_thread_that_ends():
    pool = make_pool(make_sources(6, (10, 10, 10)), sizes=[60_000] * 6, memory_mb=1)
    before = threading.active_count()
    with pool.reading_ahead():
        pool.turn(0)
        assert set(pool._coming) == pool._ahead(0) == pool._chosen(1) - pool._chosen(0)
        assert pool._coming
    assert threading.active_count() == before
    assert not pool._coming


def test_a_file_that_vanishes_or_changes_while_it_is_learnt_from_is_told():
    plain, gone = make_sources(6, (10, 10, 10)), []

    def read(source):
        if not gone:
            return source.read()
        if gone == ["vanished"]:
            raise InputError(f"{source.name} does not exist.")
        return make_volume((10, 10, 10), channels=2)

    for happened, words in (("vanished", "does not exist"), ("changed", "had 1 channels and has 2 now")):
        gone.clear()
        sources = [VolumeSource(source.name, partial(read, source)) for source in plain]
        pool = make_pool(sources, sizes=[60_000] * 6, memory_mb=1)
        with pool.reading_ahead():
            pool.turn(0)
            gone.append(happened)
            pool.turn(1)  # which was read before
            with pytest.raises(InputError, match=words):
                pool.turn(3)


def test_small_volumes_are_continued_by_their_border():
    [source] = make_sources(1, (6, 9, 7), labelled=True)
    pool = make_pool([source], extent=(8, 8, 12))
    pool.turn(0)
    image, annotation = pool.image(0), pool.annotation(0)
    assert image.shape == (1, 8, 9, 12)
    assert torch.equal(image[:, 0], image[:, 1])  # a slice more on either side
    assert torch.equal(image[..., 0], image[..., 2])
    assert annotation.shape == (8, 9, 12)
    assert not annotation[0].any()  # what was not there is not labelled
    np.testing.assert_array_equal(annotation[1:7, :, 2:9], source.read().annotation)


def test_volumes_come_to_one_voxel_size():
    read = make_volume((10, 20, 20), spacing=(2.0, 1.0, 1.0), labelled=True)
    pool = make_pool([VolumeSource("thick", lambda: read)])
    pool.turn(0)
    assert pool.image(0).shape == (1, 20, 20, 20)
    assert set(pool.annotation(0).unique().tolist()) == {1, 2, 3}


def test_pieces_lie_in_their_volume():
    pool = make_pool(make_sources(2, (12, 16, 14)))
    pool.turn(0)
    random = np.random.default_rng(0)
    for _ in range(30):
        place = pool.draw_place(random, (8, 8, 14))
        piece = pool.cut(place, (8, 8, 14))
        assert piece.shape == (1, 8, 8, 14)
        z, y, x = place.start
        assert torch.equal(piece, pool.image(place.volume)[:, z : z + 8, y : y + 8, x : x + 14])
    assert pool.draw_pieces(random, (8, 8, 8), 3).shape == (3, 1, 8, 8, 8)


def test_pieces_show_more_than_air():
    image = np.zeros((1, 8, 8, 80), np.float32)
    image[..., 60:] = np.random.default_rng(0).normal(5, 3, (1, 8, 8, 20))
    pool = make_pool([VolumeSource("mostly air", lambda: ReadVolume(image, (1, 1, 1)))])
    pool.turn(0)
    random = np.random.default_rng(0)
    starts = [pool.draw_place(random, (8, 8, 8)).start[2] for _ in range(40)]
    by_chance = np.mean(np.arange(73) > 52)
    assert np.mean(np.array(starts) > 52) > 2 * by_chance


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_volumes_depends_on_the_seed(seed):
    pool, same = empty_pool([1] * 20, 1, seed), empty_pool([1] * 20, 1, seed)
    order = [pool._ordered(position) for position in range(40)]
    assert order == [same._ordered(position) for position in range(40)]
    assert sorted(order[:20]) == sorted(order[20:]) == list(range(20))
    assert order[:20] != order[20:]


def test_places_are_values():
    assert Place(1, (2, 3, 4)) == Place(1, (2, 3, 4))
