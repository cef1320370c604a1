import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.errors import InputError
from napari_sparseseg.image_labels import UNKNOWN, ImageLabel, Presence
from napari_sparseseg.resampling import resample_labels

CLASSES = 4
VALUES = range(2, CLASSES + 1)


@st.composite
def masks(draw):
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shares = [draw(st.sampled_from([0, 0.01, 0.05, 0.3, 0.9])) for _ in VALUES]
    return {value: random.random(shape) < share for value, share in zip(VALUES, shares, strict=True)}


def seen(mask, axis):
    return mask.any(axis=tuple({0, 1, 2} - {axis}))


def runs(seen_slices):
    edges = np.flatnonzero(np.diff([0, *seen_slices, 0]))
    return list(zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True))


@st.composite
def true_labels(draw, masks_by_value, complete):
    """Return labels that are true of the masks; with all ranges of presence across an axis, or with some."""
    labels = []
    for value, mask in masks_by_value.items():
        if draw(st.booleans()):
            labels.append(ImageLabel(value, bool(mask.any())))
        for axis in draw(st.sets(st.integers(0, 2))):
            found = seen(mask, axis)
            present = [ImageLabel(value, True, axis, *run) for run in runs(found)]
            absent = [ImageLabel(value, False, axis, *run) for run in runs(~found)]
            some = st.lists(st.sampled_from(absent), unique=True) if absent else st.just([])
            if complete:
                labels += present + draw(some)
            else:
                labels += draw(some) + draw(st.lists(st.sampled_from(present)) if present else st.just([]))
                first = draw(st.integers(0, len(found) - 1))  # a part of a run
                last = (
                    first + len(found[first:]) if found[first:].all() else first + int(found[first:].argmin())
                )
                labels += [ImageLabel(value, True, axis, first, last - 1)] if found[first] else []
    return draw(st.permutations(labels))


@st.composite
def cases(draw):
    found = draw(masks())
    complete = draw(st.booleans())
    labels = draw(true_labels(found, complete))
    shape = found[2].shape
    return found, Presence(labels, shape, CLASSES, outside_absent=complete), labels


@st.composite
def boxes(draw, shape):
    start = [draw(st.integers(-2, size)) for size in shape]
    return start, [draw(st.integers(first, size + 2)) for first, size in zip(start, shape, strict=True)]


def holds(mask, start, stop):
    low, high = np.clip(start, 0, mask.shape), np.clip(stop, 0, mask.shape)
    return mask[tuple(map(slice, low, high))].any()


def check_never_wrong(presence, masks_by_value, box):
    for value, answer in zip(VALUES, presence.judge(*box), strict=True):
        mask = masks_by_value[value]
        assert answer in (-1, holds(mask, *box))
        assert presence.is_present(value) in (None, mask.any())
        assert presence.possible(value)[mask].all()
        hull = presence.hull(value)
        inside = np.zeros_like(mask)
        inside[hull or np.s_[:0]] = True
        assert inside[mask].all()
        assert inside[presence.possible(value)].all()
        for axis in range(3):
            slices = presence.slices(value, axis)
            assert (slices[seen(mask, axis)] != 0).all()
            assert (slices[~seen(mask, axis)] != 1).all()


@given(data=st.data(), case=cases())
def test_what_true_labels_say_is_never_wrong(data, case):
    masks_by_value, presence, _ = case
    check_never_wrong(presence, masks_by_value, data.draw(boxes(presence.shape)))


def coarsen(mask, axis, size):
    """Return the mask on slices of another thickness: of each, what those hold that it overlaps with."""
    count = mask.shape[axis]
    parts = [
        mask.take(range(i * count // size, -(-(i + 1) * count // size)), axis).any(axis=axis)
        for i in range(size)
    ]
    return np.stack(parts, axis)


def regroup(mask, axis, size):
    """Return the mask on slices of another thickness, by the middles of slices."""
    count = mask.shape[axis]
    if size > count:
        return mask.take([int((i + 0.5) * count / size) for i in range(size)], axis)
    places = np.array([int((i + 0.5) * size / count) for i in range(count)])
    return np.stack([mask.compress(places == i, axis).any(axis=axis) for i in range(size)], axis)


def carry(mask, axis, size):
    shape = list(mask.shape)
    shape[axis] = size
    return resample_labels(mask, tuple(shape))


@pytest.mark.parametrize("resample", [coarsen, regroup, carry])
@given(data=st.data(), case=cases(), shape=st.tuples(*[st.integers(1, 9)] * 3))
def test_what_is_said_of_another_grid_is_never_wrong(resample, data, case, shape):
    masks_by_value, presence, _ = case
    for axis, size in enumerate(shape):
        masks_by_value = {value: resample(mask, axis, size) for value, mask in masks_by_value.items()}
    scaled = presence.scaled(shape)
    check_never_wrong(scaled, masks_by_value, data.draw(boxes(shape)))
    assert (scaled.shape, scaled.classes) == (shape, CLASSES)
    assert [scaled.is_present(value) for value in VALUES] == [presence.is_present(value) for value in VALUES]


@given(
    count=st.integers(1, 300),
    size=st.integers(1, 300),
    shown=st.sets(st.integers(0, 299)),
    box=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    complete=st.booleans(),
)
def test_what_is_said_of_another_grid_is_true_of_labels_carried_there(count, size, shown, box, complete):
    mask = np.zeros((count, 1, 1), bool)
    mask[[index for index in shown if index < count]] = True
    labels = [ImageLabel(2, True, 0, *run) for run in runs(mask[:, 0, 0])]
    scaled = Presence(labels, mask.shape, 2, outside_absent=complete).scaled((size, 1, 1))
    carried = carry(mask, 0, size)
    known = scaled.slices(2, 0)
    assert (carried[known != UNKNOWN, 0, 0] == known[known != UNKNOWN]).all()
    start, stop = sorted(box)
    assert scaled.judge((start, 0, 0), (stop, 1, 1))[0] in (UNKNOWN, carried[start:stop].any())


@given(case=cases())
def test_the_same_grid_changes_nothing(case):
    _, presence, _ = case
    scaled = presence.scaled(presence.shape)
    for value in VALUES:
        assert scaled.hull(value) == presence.hull(value)
        for axis in range(3):
            assert np.array_equal(scaled.slices(value, axis), presence.slices(value, axis))


@given(data=st.data(), found=masks())
def test_all_that_can_be_said_of_slices_is_said(data, found):
    """With every run of every class given, slabs across an axis are judged without a doubt."""
    shape = found[2].shape
    labels = [
        ImageLabel(value, True, axis, *run)
        for value, mask in found.items() for axis in range(3) for run in runs(seen(mask, axis))
    ] + [ImageLabel(value, False) for value, mask in found.items() if not mask.any()]  # fmt: skip
    presence = Presence(labels, shape, CLASSES)
    axis = data.draw(st.integers(0, 2))
    start, stop = [0, 0, 0], list(shape)
    start[axis] = data.draw(st.integers(0, shape[axis] - 1))
    stop[axis] = data.draw(st.integers(start[axis] + 1, shape[axis]))
    assert presence.judge(start, stop).tolist() == [holds(found[value], start, stop) for value in VALUES]


def test_a_range_says_the_rest_of_its_axis_and_nothing_of_others():
    presence = Presence([ImageLabel(3, True, 0, 4, 6)], (10, 8, 7), 3)
    assert presence.slices(3, 0).tolist() == [0] * 4 + [1] * 3 + [0] * 3
    assert presence.slices(3, 1).tolist() == [-1] * 8
    assert presence.hull(3) == np.s_[4:7, 0:8, 0:7]
    assert (presence.is_present(3), presence.is_present(2)) == (True, None)
    assert (presence.is_mentioned(3), presence.is_mentioned(2)) == (True, False)
    assert presence.judge((4, 0, 0), (5, 8, 7)).tolist() == [-1, 1]
    assert presence.judge((4, 0, 0), (5, 8, 6)).tolist() == [-1, -1]
    assert presence.judge((0, 0, 0), (4, 8, 7)).tolist() == [-1, 0]
    unsure = Presence([ImageLabel(3, True, 0, 4, 6)], (10, 8, 7), 3, outside_absent=False)
    assert unsure.slices(3, 0).tolist() == [-1] * 4 + [1] * 3 + [-1] * 3
    assert unsure.judge((0, 0, 0), (4, 8, 7)).tolist() == [-1, -1]


def test_nothing_said_and_absence_of_the_whole_volume():
    nothing = Presence([], (3, 4, 5), 3)
    assert nothing.judge((0, 0, 0), (3, 4, 5)).tolist() == [-1, -1]
    assert nothing.hull(2) == np.s_[0:3, 0:4, 0:5]
    assert nothing.possible(3).all()
    absent = Presence([ImageLabel(2, False)], (3, 4, 5), 3)
    assert absent.hull(2) is None
    assert not absent.possible(2).any()
    assert absent.is_present(2) is False
    assert absent.judge((0, 0, 0), (1, 1, 1)).tolist() == [0, -1]
    all_slices = Presence([ImageLabel(2, False, 1, 0, 1), ImageLabel(2, False, 1, 2, 3)], (3, 4, 5), 3)
    assert all_slices.is_present(2) is False
    assert all_slices.hull(2) is None
    assert absent.scaled((1, 9, 2)).hull(2) is None


@pytest.mark.parametrize(
    ("labels", "whole", "slices"),
    [
        ([(True, 0, 1, 3), (False, 0, 2, 2)], True, [0, 1, 0, 1]),
        ([(False, 0, 1, 3), (True, 0, 2, 2)], True, [0, 0, 1, 0]),
        ([(True, 0, 1, 2), (False, 0, 0, 2)], None, [0, 0, 0, -1]),
        ([(True,), (False,)], False, [0, 0, 0, 0]),
        ([(False,), (True,)], True, [-1, -1, -1, -1]),
        ([(True, 0, 1, 2), (False,)], False, [0, 0, 0, 0]),
        ([(False,), (True, 0, 1, 2)], True, [0, 1, 1, 0]),
        ([(False,), (True, 1, 1, 2)], True, [-1, -1, -1, -1]),
        ([(True,), (False, 0, 0, 3)], False, [0, 0, 0, 0]),
        ([(True, 1, 0, 0), (False, 0, 0, 1), (False, 0, 2, 3)], True, [-1, -1, -1, -1]),
    ],
)
def test_the_newest_label_holds(labels, whole, slices):
    presence = Presence([ImageLabel(2, *label) for label in labels], (4, 4, 4), 2)
    assert presence.is_present(2) is whole
    assert presence.slices(2, 0).tolist() == slices


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (ImageLabel(1, True), "is of the class 1"),
        (ImageLabel(5, True), "the classes 2 to 4"),
        (ImageLabel(2, True, 0, 0, 3), "not in the volume"),
        (ImageLabel(2, True, 0, 2, 1), "slices 2 to 1"),
        (ImageLabel(2, True, 3, 0, 0), "across axis 3"),
        (ImageLabel(2, True, -1, 0, 0), "across axis -1"),
        (ImageLabel(2, True, 0, None, 0), "slices None to 0"),
        (ImageLabel(2, True, None, 0, 0), "across axis None"),
    ],
)
def test_labels_of_what_is_not_there_are_refused(label, reason):
    with pytest.raises(InputError, match=reason):
        Presence([label], (3, 4, 5), CLASSES)


def test_questions_of_what_is_not_there_are_refused():
    presence = Presence([], (3, 4, 5), 3)
    for label in (1, 4):
        with pytest.raises(InputError, match="no class with the label"):
            presence.hull(label)
    with pytest.raises(InputError, match="holds no voxels"):
        presence.scaled((0, 1, 1))
