import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.classifier_bags import BagDrawer, BagSource, whole_bag
from napari_sparseseg.classifier_held_out import hold_out
from napari_sparseseg.classifier_pooling import absent_features
from napari_sparseseg.image_labels import ABSENT, PRESENT, ImageLabel, Presence

SHAPE = (40, 20, 30)


def source_of(*labels, shape=SHAPE, classes=3):
    return BagSource.without_limits(Presence(labels, shape, classes))


def split(sources, share=0.2, seed=0):
    return hold_out(sources, share, np.random.default_rng(seed))


def complete(sources, classes=3):
    drawer = BagDrawer(sources, np.random.default_rng(0), (1, 1, 1))
    return {v for v in range(2, classes + 1) if len(drawer.showing(v)) and len(drawer.lacking(v))}


@st.composite
def slice_labels(draw):
    labels = []
    for value in (2, 3):
        for axis in draw(st.sets(st.integers(0, 2))):
            first = draw(st.integers(0, SHAPE[axis] - 1))
            labels.append(ImageLabel(value, True, axis, first, draw(st.integers(first, SHAPE[axis] - 1))))
    return labels


@given(st.lists(slice_labels(), min_size=1, max_size=3), st.sampled_from([0.1, 0.2, 0.5]))
def test_answers_of_slices_held_out_are_not_learnt(labels, share):
    sources = [source_of(*each) for each in labels]
    held = split(sources, share)
    assert held.within_volume
    assert complete(held.learnt) == complete(sources)
    assert len(held.learnt) == len(sources)
    for number, measured in zip(held.indices, held.measured, strict=True):
        learnt = held.learnt[number]
        assert learnt.presence is measured.presence is sources[number].presence
        for one, other in zip(learnt.allowed, measured.allowed, strict=True):
            assert not (one & other).any()
        (axis,) = [a for a in range(3) if measured.allowed[a].any()]
        assert measured.allowed[axis].sum() <= max(share, 0.2) * SHAPE[axis] + 1
        assert not measured.whole


def voxels_of(bag):
    return tuple(slice(a, b) for a, b in zip(bag.start, bag.stop, strict=True))


def held_voxels(held):
    """Return for each volume which voxels lie in slices that are held out."""
    masks = [np.zeros(source.shape, bool) for source in held.learnt]
    for number, measured in zip(held.indices, held.measured, strict=True):
        for axis, slices in enumerate(measured.allowed):
            np.moveaxis(masks[number], axis, 0)[slices] = True
    return masks


@given(st.lists(slice_labels(), min_size=1, max_size=2), st.tuples(*[st.integers(-3, 0)] * 3))
def test_voxels_held_out_are_learnt_from_only_where_nothing_else_can_be(labels, start):
    held = split([source_of(*each) for each in labels])
    masks = held_voxels(held)
    drawer = BagDrawer(held.learnt, np.random.default_rng(0), (4, 4, 4))
    for label in complete(held.learnt):
        for bag in drawer.draw(label, 6):
            mask, source = masks[bag.source], held.learnt[bag.source]
            if not mask[voxels_of(bag)].any():
                continue
            # Then its labels are across another axis, along which it may not move away from what is held out.
            (axis,) = [a for a in range(3) if source.avoided[a].any()]
            starts = range(source.shape[axis] - bag.size[axis] + 1)
            if bag.shown and (hull := source.presence.hull(label)):
                first, last = hull[axis].stop - bag.size[axis], hull[axis].start
                starts = [a for a in starts if first <= a <= last]
            assert all(source.avoided[axis][a : a + bag.size[axis]].any() for a in starts)
    for number, (source, mask) in enumerate(zip(held.learnt, masks, strict=True)):
        assert not mask.any() or all(whole_bag(source, number, label) is None for label in (2, 3))
        counts = tuple(-(-(n - a) // 4) for n, a in zip(SHAPE, start, strict=True))
        absent = absent_features(source, counts, (4, 4, 4), start).any(0)
        nearest = [
            np.clip(np.floor((np.arange(n) - a) / 4 + 0.5), 0, count - 1).astype(int)
            for n, a, count in zip(SHAPE, start, counts, strict=True)
        ]
        assert not (absent[np.ix_(*nearest)] & mask).any()


def test_bags_across_the_axis_held_out_hold_none_of_it():
    held = split([source_of(ImageLabel(2, True, 0, 5, 18), classes=2)])
    (mask,) = held_voxels(held)
    assert mask.any()
    drawer = BagDrawer(held.learnt, np.random.default_rng(0), (1, 1, 1))
    bags = list(itertools.chain.from_iterable(drawer.draw(2, 4) for _ in range(20)))
    assert not any(mask[voxels_of(bag)].any() for bag in bags)


def test_both_answers_of_all_classes_are_held_out():
    held = split([source_of(ImageLabel(2, True, 0, 5, 18), ImageLabel(3, True, 0, 22, 34))])
    assert complete(held.measured) == {2, 3}
    (measured,) = held.measured
    for label in (2, 3):
        known = measured.presence.slices(label, 0)[measured.allowed[0]]
        assert (known == PRESENT).any()
        assert (known == ABSENT).any()


def test_of_four_volumes_whole_ones_are_held_out():
    sources = [source_of(ImageLabel(2, number % 2 == 0), classes=2) for number in range(8)]
    held = split(sources, 0.25)
    assert not held.within_volume
    assert len(held.indices) == 2
    assert sum(i % 2 for i in held.indices) == 1  # one of each kind
    assert complete(held.measured, 2) == complete(held.learnt, 2) == {2}
    drawer = BagDrawer(held.learnt, np.random.default_rng(0), (1, 1, 1))
    assert not {*drawer.showing(2), *drawer.lacking(2)} & {*held.indices}


@pytest.mark.parametrize("count", range(4, 9))
def test_enough_volumes_to_measure_by_are_held_out_or_none(count):
    sources = [source_of(ImageLabel(2, number % 2 == 0), classes=2) for number in range(count)]
    held = split(sources)
    assert len(held.indices) == 2
    assert complete(held.measured, 2) == complete(held.learnt, 2) == {2}
    lonely = [source_of(ImageLabel(2, number == 0), classes=2) for number in range(count)]
    held = split(lonely)
    assert held.measured == held.indices == ()
    assert held.learnt == tuple(lonely)
    ranges = [source_of(ImageLabel(2, True, 0, 5, 18), classes=2) for _ in range(count)]
    assert len(split(ranges).indices) == max(1, round(0.2 * count))


def test_the_only_example_is_not_held_out():
    sources = [source_of(ImageLabel(2, number == 0), classes=2) for number in range(5)]
    for seed in range(5):
        held = split(sources, 0.4, seed)
        assert 0 not in held.indices
        assert complete(held.learnt, 2) == {2}
    tiny = [source_of(ImageLabel(2, True, 0, 1, 1), shape=(2, 3, 3), classes=2)]
    held = split(tiny)
    assert held.measured == ()
    assert complete(held.learnt, 2) == {2}


@pytest.mark.parametrize("count", [1, 5])
def test_nothing_is_held_out_when_nothing_is_to_be(count):
    sources = [source_of(ImageLabel(2, True, 0, 5, 18))] * count
    held = split(sources, 0.0)
    assert held.measured == held.indices == ()
    assert held.learnt == tuple(sources)
