import itertools

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.graph_cut import Link, cut_graph, neighbour_offsets, pair_views, surface_shares

TINY = [(1, 1, 1), (1, 1, 7), (1, 12, 1), (3, 4, 1), (3, 1, 4), (1, 3, 3), (2, 2, 3), (3, 2, 2)]
COSTS = st.one_of(st.integers(0, 4).map(float), st.floats(0, 50))
GAINS = st.one_of(st.integers(-5, 5).map(float), st.floats(-100, 100), st.sampled_from([-1e12, 1e12]))


@st.composite
def tiny_problems(draw):
    shape = draw(st.sampled_from(TINY))
    links = []
    for offset in neighbour_offsets(shape):
        size = pair_views(np.zeros(shape), offset)[0].shape
        costs = draw(st.lists(COSTS, min_size=int(np.prod(size)), max_size=int(np.prod(size))))
        links.append(Link(offset, np.reshape(costs, size)))
    count = int(np.prod(shape))
    return np.reshape(draw(st.lists(GAINS, min_size=count, max_size=count)), shape), links


def pairs_of(shape, links):
    """Return flat numbers of both ends of each link, and its cost."""
    numbers = np.arange(np.prod(shape)).reshape(shape)
    ends = [[view.ravel() for view in pair_views(numbers, link.offset)] for link in links]
    if not links:
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0)
    first, second = np.concatenate(ends, axis=1)
    return first, second, np.concatenate([link.costs.ravel() for link in links])


def energy(labelling, gain, links):
    """Return what labellings ``(…, Z·Y·X)`` cost, less what all background would."""
    first, second, costs = pairs_of(gain.shape, links)
    return -(labelling * gain.ravel()).sum(-1) + (
        costs * (labelling[..., first] != labelling[..., second])
    ).sum(-1)


def deciding_gain(gain, links):
    """Return a gain that outweighs all of a voxel's links; beyond it the optimum stays as it is."""
    first, second, costs = pairs_of(gain.shape, links)
    return 1 + 2 * np.bincount(np.r_[first, second], np.r_[costs, costs], gain.size).reshape(gain.shape)


def rounding(gain, links):
    """Return by how much whole-numbered capacities can miss the optimum."""
    _, _, costs = pairs_of(gain.shape, links)
    return (gain.size + len(costs)) * max(np.abs(gain).max(), costs.max(initial=0)) * 1e-5


def links_by_values(values, spacing=(1.0, 1.0, 1.0)):
    """Return links between like voxels that do not depend on how the axes lie."""
    offsets = neighbour_offsets(values.shape)
    return [
        Link(offset, share * np.exp(-np.abs(np.subtract(*pair_views(values, offset)))))
        for offset, share in zip(offsets, surface_shares(offsets, spacing), strict=True)
    ]


@given(tiny_problems())
def test_no_labelling_of_all_is_cheaper(problem):
    gain, links = problem
    every = np.array(list(itertools.product((False, True), repeat=gain.size)))
    enough = deciding_gain(gain, links)
    bounded = np.clip(gain, -enough, enough)
    best = energy(every, bounded, links).min()
    found = cut_graph(gain, links)
    assert found.shape == gain.shape
    assert found.dtype == bool
    assert energy(found.ravel(), bounded, links) <= best + rounding(bounded, links)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 1.0, 0.7)])
def test_the_cut_costs_what_the_reference_of_networkx_costs(seed, spacing):
    random = np.random.default_rng(seed)
    gain = random.normal(0, 4, (4, 5, 6))
    links = links_by_values(random.normal(size=gain.shape), spacing)
    graph = networkx.DiGraph()
    for number, value in enumerate(gain.ravel()):
        graph.add_edge("object", number, capacity=max(value, 0))
        graph.add_edge(number, "background", capacity=max(-value, 0))
    for first, second, cost in zip(*pairs_of(gain.shape, links), strict=True):
        graph.add_edge(int(first), int(second), capacity=cost)
        graph.add_edge(int(second), int(first), capacity=cost)
    value, _ = networkx.minimum_cut(graph, "object", "background")
    found = cut_graph(gain, links).ravel()
    assert 0 < found.sum() < found.size
    cost = energy(found, gain, links) + np.maximum(gain, 0).sum()
    assert cost == pytest.approx(value, abs=rounding(gain, links) / 10)


@given(tiny_problems())
def test_a_gain_beyond_all_links_decides_alone_however_large(problem):
    gain, links = problem
    found = cut_graph(gain, links)
    decided = np.abs(gain) >= deciding_gain(gain, links)
    assert np.array_equal(found[decided], gain[decided] > 0)
    assert np.array_equal(found, cut_graph(np.where(decided, np.sign(gain) * 1e30, gain), links))


@pytest.mark.parametrize("shape", TINY)
@pytest.mark.parametrize("cost", [None, 0.0])
def test_without_links_each_voxel_stands_alone(shape, cost):
    gain = np.random.default_rng(0).choice([-1e9, -2.0, -0.5, 0.0, 0.25, 3.0, 1e9], shape)
    offsets = [] if cost is None else neighbour_offsets(shape)
    links = [Link(offset, np.full(pair_views(gain, offset)[0].shape, cost)) for offset in offsets]
    assert np.array_equal(cut_graph(gain, links), gain > 0)


@pytest.mark.parametrize("shape", TINY)
@pytest.mark.parametrize("cost", [0.0, 1.0, 1e9])
def test_where_both_are_as_cheap_it_is_background(shape, cost):
    links = [
        Link(offset, np.full(pair_views(np.zeros(shape), offset)[0].shape, cost))
        for offset in neighbour_offsets(shape)
    ]
    assert not cut_graph(np.zeros(shape), links).any()


def test_a_tie_between_gain_and_link_is_background():
    link = Link((0, 0, 1), np.full((1, 1, 1), 2.0))
    assert cut_graph(np.array([[[2.0, -9.0]]]), [link]).tolist() == [[[False, False]]]
    assert cut_graph(np.array([[[2.1, -9.0]]]), [link]).tolist() == [[[True, False]]]


def test_strong_links_make_all_follow_the_sum_of_gains():
    gain = np.random.default_rng(1).normal(size=(4, 4, 4))
    links = [
        Link(offset, np.full(pair_views(gain, offset)[0].shape, 100.0))
        for offset in neighbour_offsets(gain.shape)
    ]
    for sign in (1, -1):
        assert (cut_graph(gain - gain.mean() + 0.2 * sign, links) == (sign > 0)).all()


@given(
    st.integers(0, 1000),
    st.permutations([0, 1, 2]),
    st.tuples(*[st.booleans()] * 3),
    st.sampled_from([(1.0, 1.0, 1.0), (5.0, 0.8, 1.3)]),
)
def test_turning_and_flipping_the_axes_turns_the_object(seed, order, flips, spacing):
    # Gains are continuous random numbers, so that no two labellings cost the same.
    random = np.random.default_rng(seed)
    gain, values = random.normal(0, 2, (2, 4, 5, 3))
    axes = [axis for axis, flip in enumerate(flips) if flip]

    def turn(array):
        return np.flip(array.transpose(order), axes)

    turned = cut_graph(turn(gain), links_by_values(turn(values), tuple(spacing[axis] for axis in order)))
    assert np.array_equal(turned, turn(cut_graph(gain, links_by_values(values, spacing))))


@given(st.integers(0, 1000), st.sampled_from([1e-6, 0.37, 8.0, 1e7]))
def test_a_common_factor_of_all_costs_changes_nothing(seed, factor):
    random = np.random.default_rng(seed)
    gain, values = random.normal(0, 2, (2, 3, 4, 5))
    links = links_by_values(values)
    scaled = [Link(link.offset, link.costs * factor) for link in links]
    assert np.array_equal(cut_graph(gain * factor, scaled), cut_graph(gain, links))


@pytest.mark.parametrize("shape", [*TINY, (4, 5, 6)])
def test_the_offsets_reach_each_pair_of_neighbours_once(shape):
    voxels = np.argwhere(np.ones(shape))
    expected = {
        (a, b)
        for a, b in itertools.combinations(range(len(voxels)), 2)
        if np.abs(voxels[a] - voxels[b]).max() == 1
    }
    offsets = neighbour_offsets(shape)
    ones = [Link(offset, np.ones(pair_views(np.ones(shape), offset)[0].shape)) for offset in offsets]
    first, second, _ = pairs_of(shape, ones)
    found = [tuple(sorted(pair)) for pair in zip(first.tolist(), second.tolist(), strict=True)]
    assert len(found) == len(set(found))
    assert set(found) == expected
    for offset, axis in itertools.product(offsets, range(3)):
        low, high = pair_views(np.indices(shape)[axis], offset)
        assert (high - low == offset[axis]).all()


def price_of_planes(shares, offsets, spacing, normals):
    """Return what cutting 1 mm² of planes costs: a plane parts all pairs whose step crosses it."""
    steps = np.multiply(offsets, spacing)
    return np.abs(normals @ steps.T) @ shares / np.prod(spacing)


SPACINGS = [
    (1.0, 1.0, 1.0),
    (2.0, 1.0, 1.0),
    (1.0, 3.0, 1.0),
    (5.0, 0.8, 1.3),
    (1.0, 6.0, 6.0),
    (6.5, 0.78, 0.78),
]


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_cut_costs_about_its_area_however_it_lies(spacing):
    # 26 directions cannot measure all areas alike: 10 % between extremes at even spacing,
    # 55 % where voxels are six times as long as wide.  Without the angles it would be a factor of three.
    offsets = neighbour_offsets((3, 3, 3))
    shares = np.array(surface_shares(offsets, spacing))
    assert (shares > 0).all()
    along_axes = price_of_planes(shares, offsets, spacing, np.eye(3))
    assert along_axes.max() / along_axes.min() < (1 + 1e-9 if len(set(spacing)) == 1 else 1.3)
    normals = np.random.default_rng(0).normal(size=(500, 3))
    anywhere = price_of_planes(shares, offsets, spacing, normals / np.linalg.norm(normals, axis=1)[:, None])
    assert anywhere.max() / anywhere.min() < (1.11 if len(set(spacing)) == 1 else 1.55)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_halving_a_box_costs_about_the_area_of_its_section(spacing):
    shape = (12, 14, 16)
    offsets = neighbour_offsets(shape)
    shares = surface_shares(offsets, spacing)
    links = [
        Link(offset, np.full(pair_views(np.zeros(shape), offset)[0].shape, share))
        for offset, share in zip(offsets, shares, strict=True)
    ]
    prices = []
    for axis in range(3):
        half = np.indices(shape)[axis] < shape[axis] // 2
        area = np.prod([n * mm for a, (n, mm) in enumerate(zip(shape, spacing, strict=True)) if a != axis])
        prices.append(energy(half.ravel(), np.zeros(shape), links) / area)
    assert max(prices) / min(prices) < 1.35


@given(
    st.tuples(*[st.floats(0.1, 10)] * 3),
    st.floats(1e-3, 1e3),
    st.permutations([0, 1, 2]),
    st.sampled_from([(3, 3, 3), (1, 3, 3), (3, 1, 1), (3, 3, 1)]),
)
def test_shares_do_not_depend_on_the_unit_or_the_order_of_axes(spacing, factor, order, shape):
    offsets = neighbour_offsets(shape)
    shares = surface_shares(offsets, spacing)
    assert surface_shares(offsets, tuple(mm * factor for mm in spacing)) == pytest.approx(shares, rel=1e-6)
    turned = [tuple(offset[axis] for axis in order) for offset in offsets]
    assert surface_shares(turned, tuple(spacing[axis] for axis in order)) == pytest.approx(shares, rel=1e-6)
    assert surface_shares([], spacing) == []
