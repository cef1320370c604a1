import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.classifier_bags import BagDrawer, BagSource, whole_bag
from napari_sparseseg.image_labels import ImageLabel, Presence

CLASSES = 3
VALUES = range(2, CLASSES + 1)


def runs(flags):
    edges = np.flatnonzero(np.diff([0, *flags.astype(int), 0]))
    return list(zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True))


def seen(mask, axis):
    return mask.any(axis=tuple({0, 1, 2} - {axis}))


def true_labels(masks, axes):
    """Return all ranges of each class across `axes`; where it is nowhere, that."""
    labels = []
    for value, mask in masks.items():
        labels += [ImageLabel(value, bool(mask.any()))]
        for axis in axes if mask.any() else ():
            labels += [ImageLabel(value, True, axis, *run) for run in runs(seen(mask, axis))]
    return labels


@st.composite
def volumes(draw):
    """Return masks and what is known of them, for some volumes; each class is a box of noise."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.tuples(*[st.integers(3, 12)] * 3))
        random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        masks = {}
        for value in VALUES:
            mask = np.zeros(shape, bool)
            if draw(st.booleans()) or value == 2:
                low = [draw(st.integers(0, n - 1)) for n in shape]
                box = tuple(slice(a, draw(st.integers(a + 1, n))) for a, n in zip(low, shape, strict=True))
                mask[box] = random.random(mask[box].shape) < draw(st.sampled_from([0.1, 0.5, 1.0]))
            masks[value] = mask
        axes = draw(st.sets(st.integers(0, 2)))
        allowed = tuple(np.ones(n, bool) if draw(st.booleans()) else random.random(n) < 0.8 for n in shape)
        presence = Presence(true_labels(masks, axes), shape, CLASSES)
        found.append((masks, BagSource(presence, allowed, draw(st.booleans()))))
    return found


def contents(masks, bag):
    (z0, y0, x0), (z1, y1, x1) = bag.start, bag.stop
    return masks[bag.label][z0:z1, y0:y1, x0:x1]


def drawer_of(found, thickness=(1, 1, 1), seed=0):
    return BagDrawer([source for _, source in found], np.random.default_rng(seed), thickness)


def complete_labels(drawer):
    return [v for v in VALUES if len(drawer.showing(v)) and len(drawer.lacking(v))]


@given(volumes(), st.integers(1, 5), st.integers(0, 100))
def test_each_answer_is_true(found, thickness, seed):
    drawer = drawer_of(found, (thickness,) * 3, seed)
    for label in complete_labels(drawer):
        bags = drawer.draw(label, 4)
        assert [bag.shown for bag in bags] == [True] * 4 + [False] * 4
        for bag in bags:
            masks, source = found[bag.source]
            part = contents(masks, bag)
            assert part.size
            assert bag.label == label
            assert part.any() == bag.shown
            assert all(0 <= a < b <= n for a, b, n in zip(bag.start, bag.stop, source.shape, strict=True))
            assert source.presence.judge(bag.start, bag.stop)[label - 2] == bag.shown


@given(volumes(), st.integers(0, 100))
def test_answers_rest_on_allowed_labels(found, seed):
    drawer = drawer_of(found, seed=seed)
    for label in complete_labels(drawer):
        for bag in drawer.draw(label, 4):
            source = found[bag.source][1]
            inside = [
                allowed[a:b].all() for allowed, a, b in zip(source.allowed, bag.start, bag.stop, strict=True)
            ]
            assert source.whole or any(inside)


@given(volumes(), st.integers(0, 100))
def test_both_kinds_are_alike_in_size(found, seed):
    drawer = drawer_of([(m, s) for m, s in found if s.shape == found[0][1].shape], seed=seed)
    for label in complete_labels(drawer):
        bags = drawer.draw(label, 4)
        lacking = [bag.size for bag in bags if not bag.shown]
        for bag in bags[:4]:
            assert all(mine >= other for size in lacking for mine, other in zip(bag.size, size, strict=True))


def test_where_there_is_room_all_sizes_are_the_same():
    shape = (40, 50, 60)
    labels = [ImageLabel(2, True, 0, 10, 19), ImageLabel(2, True, 1, 20, 25), ImageLabel(2, True, 2, 5, 30)]
    source = BagSource.without_limits(Presence(labels, shape, 2))
    drawer = BagDrawer([source], np.random.default_rng(0), (4, 4, 4))
    sizes = set()
    for _ in range(100):
        bags = drawer.draw(2, 3)
        assert len({bag.size for bag in bags}) == 1
        sizes.add(bags[0].size)
    assert len(sizes) > 50
    assert np.min(list(sizes), axis=0).tolist() == [4, 4, 4]
    assert np.max(list(sizes), axis=0)[1] > 40


@given(volumes())
def test_a_whole_volume_is_a_bag(found):
    for number, (masks, source) in enumerate(found):
        for label in VALUES:
            bag = whole_bag(source, number, label)
            assert (bag is None) != source.whole  # the labels say of each class whether it is there
            if bag is not None:
                assert contents(masks, bag).size == masks[label].size
                assert bag.shown == masks[label].any()


def test_only_the_volumes_asked_for_are_cut():
    shape = (8, 8, 8)
    present, absent = ([ImageLabel(2, value)] for value in (True, False))
    sources = [BagSource.without_limits(Presence(labels, shape, 2)) for labels in (present, absent, absent)]
    drawer = BagDrawer(sources, np.random.default_rng(0), (2, 2, 2))
    assert drawer.showing(2).tolist() == [0]
    assert drawer.lacking(2).tolist() == [1, 2]
    assert {bag.source for bag in drawer.draw(2, 3, [1])} == {1}
    assert {bag.source for bag in drawer.draw(2, 3, [0])} == {0}
    assert {bag.source for bag in drawer.draw(2, 9)} == {0, 1, 2}
    assert {bag.size for bag in drawer.draw(2, 3)} == {shape}
    with pytest.raises(ValueError, match="no volume shows"):
        BagDrawer(sources[1:], np.random.default_rng(0), (2, 2, 2)).draw(2, 1)


def test_the_same_seed_draws_the_same():
    labels = [ImageLabel(2, True, 0, 3, 5), ImageLabel(3, True, 1, 0, 2)]
    source = BagSource.without_limits(Presence(labels, (12, 10, 11), 3))
    one, two = (BagDrawer([source], np.random.default_rng(5), (2, 2, 2)) for _ in range(2))
    assert [one.draw(v, 3) for v in (2, 3)] == [two.draw(v, 3) for v in (2, 3)]
