import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sparseseg import boxes as boxes_module
from napari_sparseseg.box_geometry import Box, back_to_front, bounding_box, inner_box
from napari_sparseseg.boxes import BOX_METHODS, check_boxes, label_boxes, make_scene
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Noted, WorkDone, finish
from napari_sparseseg.settings import BOX_METHODS as NAMES
from napari_sparseseg.settings import BoxConfig
from napari_sparseseg.volume import load_labels, load_volume

TOTALSEG = Path(__file__).resolve().parents[2] / "shared/data/totalseg_ct"
MM = (1.0, 1.0, 1.0)
FILLING = ("box", "box_inner")
SEARCHING = tuple(name for name in NAMES if name not in FILLING)

each_method = pytest.mark.parametrize("method", NAMES)
each_search = pytest.mark.parametrize("method", SEARCHING)


def ball(shape=(18, 20, 22), radius=6, middle=None):
    middle = [(n - 1) / 2 for n in shape] if middle is None else middle
    grids = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum((g - m) ** 2 for g, m in zip(grids, middle, strict=True)) < radius**2


def noisy(truth, noise=0.3, seed=0):
    return (truth + np.random.default_rng(seed).normal(0, noise, truth.shape)).astype(np.float32)[None]


def shadow_of(box, axis, slices, shape):
    """Return the mask of so many slices on either side of a box, without the box."""
    start, stop = list(box.start), list(box.stop)
    start[axis], stop[axis] = max(0, start[axis] - slices), stop[axis] + slices
    return mask_of(Box(tuple(start), tuple(stop), box.label), shape) & ~mask_of(box, shape)


def quick(method, **changes):
    return BoxConfig(method=method, **{"runs": 4, "iterations": 3, "components": 3, **changes})


def run(image, boxes, config, spacing=MM):
    """Return the labels, and the events on the way to them."""
    work = label_boxes(image, spacing, boxes, config)
    events = []
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            return end.value, events


def mask_of(box, shape):
    mask = np.zeros(shape, bool)
    mask[box.region] = True
    return mask


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_the_settings_name_the_methods():
    assert tuple(BOX_METHODS) == NAMES


@each_method
def test_labels_are_of_boxes_and_lie_in_them(method):
    first, second = ball(middle=(8, 9, 6), radius=5), ball(middle=(9, 9, 16), radius=4)
    image = noisy(first | second)
    boxes = [bounding_box(first, 5), bounding_box(second, 3)]
    before = image.copy()
    labels, events = run(image, boxes, quick(method))
    annotation = labels.annotation
    assert annotation.dtype == np.uint8
    assert annotation.shape == image.shape[1:]
    inside = [mask_of(box, annotation.shape) for box in boxes]
    assert set(np.unique(annotation)) <= {0, 1, 3, 5}
    assert {3, 5} <= set(np.unique(annotation))
    assert (annotation[~inside[0] & ~inside[1]] == 1).all()
    assert not (annotation[~inside[0]] == 5).any()
    assert not (annotation[~inside[1]] == 3).any()
    assert labels.fallen_back == ()
    assert {type(event) for event in events} == {WorkDone}
    assert np.array_equal(image, before)


@each_search
@pytest.mark.parametrize("spacing", [MM, (3.0, 1.0, 1.0)])
def test_a_bright_ball_is_found(method, spacing):
    truth = ball((24, 24, 24), 8)[:: round(spacing[0])]
    labels, _ = run(noisy(truth), [bounding_box(truth, 2)], quick(method), spacing)
    assert dice(labels.annotation == 2, truth) > 0.75
    assert labels.fallen_back == ()
    assert (labels.annotation[truth] != 1).mean() > 0.8


@each_method
def test_the_same_seed_gives_the_same_labels(method):
    truth = ball()
    answers = [run(noisy(truth, 0.6), [bounding_box(truth, 2)], quick(method, seed=3))[0] for _ in range(2)]
    assert np.array_equal(answers[0].annotation, answers[1].annotation)
    assert answers[0].fallen_back == answers[1].fallen_back


LAYOUT = st.lists(
    st.builds(
        lambda start, lengths, label: Box(start, tuple(np.add(start, lengths).tolist()), label),
        st.tuples(*[st.integers(-3, 8)] * 3),
        st.tuples(*[st.integers(4, 12)] * 3),
        st.integers(2, 200),
    ),
    min_size=1,
    max_size=4,
)


@given(LAYOUT, st.sampled_from([0.05, 0.2, 1.0]))
def test_boxes_are_filled_the_smaller_in_front(boxes, share):
    shape = (9, 10, 11)
    filled, inner = np.ones((2, *shape), np.uint8)
    for box in back_to_front(box.clipped(shape) for box in boxes):
        filled[box.region] = box.label
        inner[box.region] = 0
        inner[inner_box(box, share).region] = box.label
    image = np.zeros((1, *shape), np.float32)
    labels, events = run(image, boxes, quick("box", inner_share=share))
    assert np.array_equal(labels.annotation, filled)
    labels, more = run(image, boxes, quick("box_inner", inner_share=share, least_share=1))
    assert np.array_equal(labels.annotation, inner)
    assert labels.fallen_back == ()
    assert {type(event) for event in events + more} == {WorkDone}


@pytest.mark.parametrize("lengths", [(30, 40, 50), (10, 20, 35), (8, 31, 17)])
def test_the_inner_box_holds_a_fifth(lengths):
    box = Box((2, 3, 4), tuple(np.add((2, 3, 4), lengths).tolist()), 2)
    image = np.zeros((1, 40, 50, 60), np.float32)
    annotation = run(image, [box], BoxConfig(method="box_inner"))[0].annotation
    found = np.argwhere(annotation == 2)
    sides = found.max(0) - found.min(0) + 1
    assert len(found) == sides.prod()
    assert np.abs(sides - np.array(lengths) * 0.2 ** (1 / 3)).max() <= 0.5
    assert np.count_nonzero(annotation == 0) == box.volume - len(found)


@pytest.mark.parametrize("method", ["grabcut", "grabcut_plus", "box"])
@pytest.mark.parametrize("order", [1, -1])
def test_an_object_in_anothers_box_is_in_front_and_takes_no_more_than_itself(method, order):
    large, small = ball((26, 26, 26), 10), ball((26, 26, 26), 3.5, (12, 12, 15))
    image = noisy(large + 1.0 * small, 0.15)
    boxes = [bounding_box(large, 2), bounding_box(small, 3)][::order]
    labels, _ = run(image, boxes, quick(method))
    assert labels.fallen_back == ()
    if method == "box":
        assert (labels.annotation[boxes[::order][1].region] == 3).all()
    else:
        assert dice(labels.annotation == 3, small) > 0.8
        assert dice(labels.annotation == 2, large & ~small) > 0.8


@each_search
@pytest.mark.parametrize("value", [0.0, -1024.0])
def test_a_constant_image_falls_back_to_the_inner_box(method, value):
    shape = (12, 14, 16)
    boxes = [Box((2, 2, 2), (9, 10, 9), 4), Box((1, 3, 9), (10, 9, 15), 2)]
    labels, events = run(np.full((1, *shape), value, np.float32), boxes, quick(method))
    expected = run(np.zeros((1, *shape), np.float32), boxes, BoxConfig(method="box_inner"))[0]
    assert labels.fallen_back == (0, 1)
    assert np.array_equal(labels.annotation, expected.annotation)
    assert sorted(event.text for event in events if isinstance(event, Noted)) == [
        f"Box {number}: the image has no contrast in it, so its middle is taken instead." for number in (1, 2)
    ]


@each_search
def test_only_the_box_with_too_little_falls_back(method):
    truth = ball((16, 16, 40), 6, (7.5, 7.5, 9))
    image = noisy(truth, 0.1)
    image[:, :, :, 22:] = 0
    boxes = [Box((3, 3, 27), (12, 12, 36), 3), bounding_box(truth, 2)]
    labels, events = run(image, boxes, quick(method))
    assert labels.fallen_back == (0,)
    assert [event.text.split(":")[0] for event in events if isinstance(event, Noted)] == ["Box 1"]
    assert dice(labels.annotation == 2, truth) > 0.75
    assert np.array_equal(labels.annotation == 3, mask_of(inner_box(boxes[0], 0.2), truth.shape))


def test_the_least_share_is_what_the_settings_say():
    truth = ball()
    box = bounding_box(truth, 2)
    for least, fallen_back in ((0.3, ()), (0.9, (0,))):
        labels, _ = run(noisy(truth), [box], quick("grabcut", least_share=least))
        assert labels.fallen_back == fallen_back


def test_votes_between_the_shares_are_ignored(monkeypatch):
    shares = np.linspace(0, 1, 20, dtype=np.float32).reshape(1, 4, 5)

    def vote(scene, config, random):
        yield 1.0
        return shares

    monkeypatch.setattr(boxes_module, "vote", vote)
    config = BoxConfig(method="grabcut_plus_i", object_share=0.7, background_share=0.2)
    labels, _ = run(np.zeros((1, 1, 4, 5), np.float32), [Box((0, 0, 0), (1, 4, 5), 6)], config)
    expected = np.select([shares >= 0.7, shares < 0.2], [6, 1], 0)
    assert np.array_equal(labels.annotation, expected)


def test_the_consensus_is_what_both_say():
    truth = ball()
    image, boxes = noisy(truth, 0.5), [bounding_box(truth, 2)]
    both, proposal, cut = (
        run(image, boxes, quick(name))[0].annotation for name in ("consensus", "proposals", "grabcut_plus")
    )
    assert np.array_equal(both, np.where(proposal == cut, cut, 0))
    assert (both == 0).any()


@each_method
def test_no_box_is_refused(method):
    with pytest.raises(InputError, match=r"^there is no box; draw one round each object\.$"):
        run(np.zeros((1, 5, 6, 7), np.float32), [], quick(method))


GOOD = Box((1, 1, 1), (4, 4, 4), 2)
REFUSED = {
    "zero size": (
        Box((1, 2, 3), (1, 4, 4), 2),
        "box 2 from (1, 2, 3) to (1, 4, 4) (z, y, x) is empty; draw it anew.",
    ),
    "reversed": (
        Box((4, 4, 4), (1, 1, 1), 2),
        "box 2 from (4, 4, 4) to (1, 1, 1) (z, y, x) is empty; draw it anew.",
    ),
    "reversed along one axis": (
        Box((1, 4, 1), (4, 1, 4), 2),
        "box 2 from (1, 4, 1) to (4, 1, 4) (z, y, x) is empty; draw it anew.",
    ),
    "beyond": (
        Box((5, 0, 0), (9, 4, 4), 2),
        "box 2 from (5, 0, 0) to (9, 4, 4) (z, y, x) lies outside the volume, whose shape is (5, 6, 7); "
        "draw it on the object.",
    ),
    "before": (
        Box((0, -9, 0), (4, 0, 4), 2),
        "box 2 from (0, -9, 0) to (4, 0, 4) (z, y, x) lies outside the volume, whose shape is (5, 6, 7); "
        "draw it on the object.",
    ),
    "background": (
        Box((1, 1, 1), (4, 4, 4), 1),
        "box 2 is not of a class; choose the class of its object.",
    ),
    "no class": (Box((1, 1, 1), (4, 4, 4), 0), "box 2 is not of a class; choose the class of its object."),
}


@each_method
@pytest.mark.parametrize("kind", REFUSED)
def test_a_box_that_makes_no_sense_is_refused_in_one_sentence(method, kind):
    box, sentence = REFUSED[kind]
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        run(np.zeros((1, 5, 6, 7), np.float32), [GOOD, box], quick(method))


def test_boxes_are_cut_at_the_border_in_their_order():
    boxes = [Box((-3, 2, 5), (99, 4, 8), 9), GOOD]
    assert check_boxes(boxes, (5, 6, 7)) == [Box((0, 2, 5), (5, 4, 7), 9), GOOD]


@each_method
def test_a_box_over_all_of_the_volume_is_defined(method):
    truth = ball()
    box = Box((-5, 0, 0), (99, *truth.shape[1:]), 2)
    labels, events = run(noisy(truth), [box], quick(method))
    assert {*np.unique(labels.annotation)} <= {0, 1, 2}
    assert (labels.annotation == 2).any()
    if method in ("grabcut", "grabcut_plus"):  # nothing round the box to learn the background from
        assert labels.fallen_back == (0,)
        sentence = "there is nothing round it to learn the background from, so its middle is taken instead."
        assert [event.text for event in events if isinstance(event, Noted)] == [f"Box 1: {sentence}"]


@each_method
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_box_one_voxel_thick_is_a_picture(method, axis):
    truth = ball((20, 21, 22), 8)
    disc = truth & (np.indices(truth.shape)[axis] == 10)
    box = bounding_box(disc, 2)
    labels, _ = run(noisy(truth), [box], quick(method))
    beside = shadow_of(box, axis, 3, truth.shape)
    assert (labels.annotation[beside] == 0).all()
    assert (labels.annotation[~beside & ~mask_of(box, truth.shape)] == 1).all()
    assert (labels.annotation == 2).any()
    if method not in FILLING:
        assert dice(labels.annotation == 2, disc) > 0.75
        assert labels.fallen_back == ()


@each_method
@pytest.mark.parametrize("shape", [(12, 12, 12), (1, 12, 12), (3, 3, 3), (1, 1, 1)])
def test_a_box_of_one_voxel_is_its_object(method, shape):
    middle = tuple(n // 2 for n in shape)
    image = noisy(mask_of(Box(middle, tuple(m + 1 for m in middle), 2), shape))
    labels, _ = run(image, [Box(middle, tuple(m + 1 for m in middle), 7)], quick(method))
    expected = np.ones(shape, np.uint8)
    expected[middle] = 7
    assert np.array_equal(labels.annotation, expected)


@settings(max_examples=30)
@given(
    st.sampled_from(SEARCHING),
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(2, 9)).flatmap(st.permutations),
    LAYOUT,
    st.integers(1, 2),
)
def test_small_volumes_and_any_boxes_are_defined(method, shape, boxes, channels):
    shape = tuple(shape)
    boxes = [box for box in boxes if box.clipped(shape).volume]
    if not boxes:
        return
    image = np.random.default_rng(0).normal(size=(channels, *shape)).astype(np.float32)
    labels, events = run(image, boxes, quick(method, runs=2, iterations=2))
    assert labels.annotation.shape == shape
    assert set(np.unique(labels.annotation).tolist()) <= {0, 1, *(box.label for box in boxes)}
    assert len([event for event in events if isinstance(event, Noted)]) == len(labels.fallen_back)


@each_method
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(method, value):
    truth = ball()
    image = noisy(truth)
    image[0, 9, 9, 9] = value
    sentence = (
        "the image holds values that are not numbers (NaN or infinite) in or round a box; load it with "
        "load_volume, which mends them, or give finite values."
    )
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        run(image, [bounding_box(truth, 2)], quick(method))
    far = Box((0, 0, 0), (3, 3, 3), 2)
    assert run(image, [far], quick(method))[0].annotation.shape == truth.shape


@each_method
def test_work_rises_to_its_end_and_names_the_boxes(method):
    first, second = ball(middle=(8, 9, 6), radius=5), ball(middle=(9, 9, 16), radius=4)
    boxes = [bounding_box(second, 3), bounding_box(first, 5)]
    _, events = run(noisy(first | second), boxes, quick(method))
    shares = [event.share for event in events]
    assert shares == sorted(shares)
    assert shares[0] >= 0
    assert shares[-1] == 1
    assert any(0 < share < 1 for share in shares)
    words = list(dict.fromkeys(event.words for event in events))
    assert words == ["Box 2 of 2", "Box 1 of 2"]  # the larger one first


@each_method
def test_work_can_be_stopped_at_each_step(method):
    truth = ball((12, 12, 12), 4)
    image, boxes = noisy(truth), [bounding_box(truth, 2)]
    steps = len(run(image, boxes, quick(method))[1])
    for count in range(steps):
        work = label_boxes(image, MM, boxes, quick(method))
        for _ in range(count):
            next(work)
        work.close()
        assert next(work, None) is None
    assert finish(label_boxes(image, MM, boxes, quick(method))).fallen_back == ()


def test_nothing_is_computed_before_the_first_step(monkeypatch):
    monkeypatch.setattr(boxes_module, "make_scene", None)
    label_boxes(noisy(ball()), MM, [GOOD], quick("grabcut")).close()


def test_a_scene_is_the_box_with_a_margin_and_what_other_boxes_hold():
    image = np.random.default_rng(0).normal(size=(2, 20, 30, 40)).astype(np.float32)
    box = Box((2, 10, 10), (6, 22, 26), 2)
    left, around, far = (
        Box((0, 8, 4), (20, 12, 12), 3),
        Box((0, 5, 5), (20, 28, 30), 4),
        Box((9, 0, 0), (20, 5, 40), 2),
    )
    scene = make_scene(image, MM, box, [left, box, around, far], 0.25)
    assert np.array_equal(scene.image, image[:, 0:8, 7:25, 6:30])
    assert scene.box == Box((2, 3, 4), (6, 15, 20), 2)
    # Not the one around it: there lies the background of the object.
    assert np.array_equal(scene.others, mask_of(left, image.shape[1:])[0:8, 7:25, 6:30])
    assert np.array_equal(scene.image[:, *scene.box.region], image[:, *box.region])
    thin = make_scene(image, MM, Box((7, 10, 10), (8, 22, 26), 2), [], 0.25)
    assert thin.image.shape == (2, 1, 18, 24)


@pytest.mark.skipif(not TOTALSEG.is_dir(), reason="the real volumes of ../shared/data are not here")
def test_a_real_spleen_is_found_in_its_box():
    volume = load_volume(TOTALSEG / "ct.nii.gz")
    names = json.loads((TOTALSEG / "labels.json").read_text())
    [value] = [int(value) for value, name in names.items() if name == "spleen"]
    truth = load_labels(TOTALSEG / "labels.nii.gz", volume) == value
    box = bounding_box(truth, 2)
    overlaps = {}
    for method in ("box", "box_inner", "grabcut_plus"):
        labels = run(volume.data, [box], BoxConfig(method=method), volume.spacing)[0]
        assert labels.fallen_back == ()
        overlaps[method] = dice(labels.annotation == 2, truth)
    assert overlaps["grabcut_plus"] > 0.6
    assert overlaps["grabcut_plus"] > max(overlaps["box"], overlaps["box_inner"]) + 0.1
