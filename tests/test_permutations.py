import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sparseseg.errors import InputError
from napari_sparseseg.permutations import choose_permutations, mean_hamming, near_permutations

CHOICES = [choose_permutations, near_permutations]


@st.composite
def wishes(draw):
    tiles = draw(st.integers(2, 10))
    return tiles, draw(st.integers(2, min(math.factorial(tiles), 40))), draw(st.integers(0, 99))


def draw_orders(tiles, count, seed):
    random, orders = np.random.default_rng(seed), set()
    while len(orders) < count:
        orders.add(tuple(random.permutation(tiles)))
    return np.array(sorted(orders))


def distances(orders):
    return [(a != b).sum() for a, b in itertools.combinations(orders, 2)]


@settings(max_examples=15, deadline=None)
@given(wishes())
@pytest.mark.parametrize("choose", CHOICES)
def test_orders_are_different_permutations(choose, wish):
    tiles, count, seed = wish
    orders = choose(tiles, count, seed)
    assert orders.shape == (count, tiles)
    assert orders.dtype == np.int64
    assert (np.sort(orders, axis=1) == np.arange(tiles)).all()
    assert len(np.unique(orders, axis=0)) == count
    np.testing.assert_array_equal(orders, choose(tiles, count, seed))


@settings(max_examples=15, deadline=None)
@given(wishes())
def test_hamming_distances_are_those_of_all_pairs(wish):
    orders = draw_orders(*wish)
    assert mean_hamming(orders) == pytest.approx(np.mean(distances(orders)))


@pytest.mark.parametrize(("tiles", "count"), [(4, 6), (8, 10), (8, 64), (9, 64), (27, 100)])
def test_chosen_orders_are_farther_apart_than_random_ones_and_these_than_near_ones(tiles, count):
    chosen, drawn, near = (
        choose(tiles, count, 3) for choose in (choose_permutations, draw_orders, near_permutations)
    )
    assert mean_hamming(chosen) > mean_hamming(drawn) > mean_hamming(near)
    assert min(distances(chosen)) >= min(distances(drawn)) >= min(distances(near)) == 2


def test_greedy_choice_takes_the_farthest_of_all_orders():
    orders = choose_permutations(5, 12, 0)
    every = np.array(list(itertools.permutations(range(5))))
    for known in range(1, 12):
        distances = (every[:, None] != orders[:known]).sum(2)
        best = max(zip(distances.min(1), distances.sum(1), strict=True))
        to_known = (orders[known] != orders[:known]).sum(1)
        assert (to_known.min(), to_known.sum()) == best


def test_all_orders_can_be_asked_for_but_not_more():
    assert len(np.unique(choose_permutations(4, 24, 0), axis=0)) == 24
    for choose in CHOICES:
        with pytest.raises(InputError, match="24 orders, of which 25"):
            choose(4, 25, 0)
        with pytest.raises(InputError, match="2 or more"):
            choose(4, 1, 0)


def test_seed_chooses_the_orders():
    assert (choose_permutations(8, 10, 0) != choose_permutations(8, 10, 1)).any()


def test_choice_is_quick():
    start = time.process_time()
    choose_permutations(8, 100, 0)
    assert time.process_time() - start < 1
