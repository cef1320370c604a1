from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from phantoms import TABLE, fix_precision, label_slices, make_image, make_truth, short_training
from random_encoders import make_encoder

from napari_sparseseg import box_training
from napari_sparseseg.annotation import SOURCE_WEIGHTS, ClassTable
from napari_sparseseg.box_cases import BoxedCase, measure_agreement, measure_quality, part_strokes
from napari_sparseseg.box_geometry import Box, boxes_of_labels
from napari_sparseseg.box_training import train_from_boxes
from napari_sparseseg.boxes import label_boxes
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import BoxRoundMade, Noted, StepDone, WindowDone, WorkDone, finish
from napari_sparseseg.settings import (
    DENOISING,
    BoxConfig,
    CrfConfig,
    NetworkConfig,
    RecursionConfig,
    TrainingConfig,
)

ALL = ",".join(DENOISING)
UNIT = (1.0, 1.0, 1.0)


@pytest.fixture(autouse=True)
def _fixed_precision(monkeypatch):
    """Leave out the measurement: which format is faster differs from run to run."""
    fix_precision(monkeypatch)


def boxed_case(size=18, seed=0, spacing=UNIT, shift=0, **known):
    truth = make_truth(size, shift)
    return BoxedCase(make_image(truth, seed), spacing, boxes_of_labels(truth + 1), **known)


def start(
    cases, method="box", denoise=ALL, rounds=1, steps=2, seed=0, reset_share=0.1, table=TABLE, **options
):
    recursion = RecursionConfig(rounds, steps, denoise, reset_share)
    training = short_training(seed=seed)
    return train_from_boxes(cases, table, BoxConfig(method, seed=seed), recursion, None, training, **options)


def work(cases, *arguments, **options):
    """Return what box training makes, its rounds, and all of its events."""
    events = []
    cases = [cases] if isinstance(cases, BoxedCase) else cases
    made = finish(start(cases, *arguments, **options), events.append)
    return made, [event for event in events if isinstance(event, BoxRoundMade)], events


def whole(case, part, outside, made):
    """Return what a round tells of its region on the grid of the whole volume."""
    values = np.full(case.shape, outside, np.uint8)
    values[tuple(slice(*edge) for edge in made.region)] = part
    return values


def inside(case, channel=None):
    """Return where the boxes of a class lie, or any box."""
    mask = np.zeros(case.shape, bool)
    for box in case.boxes:
        if channel in (None, box.label - 1):
            mask[box.region] = True
    return mask


def dice(reference, channels):
    """Return the Dice of one mask with another."""
    return 2 * (reference & channels).sum() / (reference.sum() + channels.sum())


def predict(monkeypatch, make):
    """Let ``make(classes, region)`` stand in for what a network says of a region."""

    def say(placed, normalised, region, overlap):
        yield WindowDone(1, 1)
        return make(placed.classes, region).astype(np.float32)

    monkeypatch.setattr(box_training, "predict_region", say)


def predict_at_random(monkeypatch, sharpness=0.3):
    """Let the network claim any class anywhere: whatever order there is comes from the de-noising."""

    def make(classes, region):
        shape = [edge.stop - edge.start for edge in region]
        chances = np.random.default_rng(0).dirichlet([sharpness] * classes, size=shape)
        return np.moveaxis(chances, -1, 0)

    predict(monkeypatch, make)


def predict_channels(monkeypatch, channels, chance=0.9):
    """Let the network answer ``(Z, Y, X)`` channels of the whole volume, sure of them to some degree."""

    def make(classes, region):
        part = channels[region]
        others = (1 - chance) / (classes - 1)
        return np.where(np.arange(classes)[:, None, None, None] == part, chance, others)

    predict(monkeypatch, make)


# -- what comes, and in which order --


def test_rounds_come_in_order_and_the_share_done_grows_to_all():
    cases = [boxed_case(), boxed_case(20, seed=1, shift=1)]
    made, rounds, events = work(cases, rounds=2)
    assert [(event.number, event.case) for event in rounds] == [(n, c) for n in range(3) for c in range(2)]
    shares = [event.share for event in events if isinstance(event, WorkDone)]
    assert shares == sorted(shares)
    assert shares[0] < 0.3
    assert shares[-1] == 1
    kinds = [type(event) for event in events if isinstance(event, BoxRoundMade | StepDone)]
    assert kinds == [BoxRoundMade] * 2 + ([StepDone] * 2 + [BoxRoundMade] * 2) * 2
    for case, last, labels, channels in zip(cases, rounds[-2:], made.labels, made.channels, strict=True):
        np.testing.assert_array_equal(labels, whole(case, last.labels, 1, last))
        np.testing.assert_array_equal(channels, whole(case, last.channels, 0, last))
    assert made.model.summary["steps"] == 2
    assert made.fallen_back == ((), ())


def test_the_same_seed_gives_the_same_result_and_another_seed_another():
    first, second, other = (work(boxed_case(), "grabcut_plus", steps=3, seed=s)[0] for s in (0, 0, 1))
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.channels, second.channels)
    weights = [made.model.weights for made in (first, second, other)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert not all(torch.equal(tensor, weights[2][name]) for name, tensor in weights[0].items())


@pytest.mark.parametrize("method", ["box", "box_inner", "grabcut_plus"])
def test_without_rounds_there_are_the_methods_labels_and_no_network(monkeypatch, method):
    monkeypatch.setattr(box_training, "train_network", None)
    monkeypatch.setattr(box_training, "place_model", None)
    case = boxed_case()
    made, (only,), events = work(case, method, rounds=0)
    expected = finish(label_boxes(case.image, case.spacing, case.boxes, BoxConfig(method)))
    np.testing.assert_array_equal(made.labels[0], expected.annotation)
    np.testing.assert_array_equal(made.channels[0], np.maximum(expected.annotation, 1) - 1)
    assert only.number == 0
    assert made.model is None
    assert max(event.share for event in events if isinstance(event, WorkDone)) == 1


def test_which_boxes_fell_back_is_told_by_case():
    found = boxed_case()
    nothing = replace(found, image=np.zeros_like(found.image))
    made, rounds, events = work([nothing, found], "grabcut_plus", rounds=0)
    assert made.fallen_back == ((0, 1), ())
    assert sum(isinstance(event, Noted) for event in events) == 2
    assert (rounds[0].labels == 0).any()


def test_each_round_goes_on_with_the_network_of_the_one_before(monkeypatch):
    train, seen, models = box_training.train_network, [], []
    source = make_encoder()

    def spy(cases, table, config, network, *, initial, encoder):
        assert encoder is (source if initial is None else None)
        seen.append((initial, config))
        result = yield from train(cases, table, config, network, initial=initial, encoder=encoder)
        models.append(result.model)
        return result

    monkeypatch.setattr(box_training, "train_network", spy)
    made, _, _ = work(boxed_case(), rounds=3, encoder=source)
    assert [model for model, _ in seen] == [None, *models[:2]]
    assert made.model is models[2]
    for _, config in seen:
        assert (config.steps, config.seconds, config.preview_weight, config.held_out_share) == (2, 0, 0, 0)


def test_each_window_of_a_prediction_tells_how_far_the_work_is(monkeypatch):
    def say(placed, normalised, region, overlap):
        yield from (WindowDone(done, 4) for done in range(1, 5))
        return np.full((placed.classes, *(edge.stop - edge.start for edge in region)), 1 / 3, np.float32)

    monkeypatch.setattr(box_training, "predict_region", say)
    _, _, events = work(boxed_case())
    first = next(place for place, event in enumerate(events) if isinstance(event, WindowDone))
    windows = events[first : first + 8]
    assert [type(event) for event in windows] == [WindowDone, WorkDone] * 4
    shares = [event.share for event in windows[1::2]]
    assert 0.8 < shares[0] < shares[1] < shares[2] < shares[3] < 1


@pytest.mark.parametrize("kind", [WorkDone, BoxRoundMade, StepDone, WindowDone])
@pytest.mark.parametrize("times", [1, 2])
def test_it_can_be_stopped_anywhere(kind, times):
    left = times
    going = start([boxed_case(), boxed_case(20)], rounds=2)
    for event in going:
        left -= isinstance(event, kind)
        if left == 0:
            break
    assert left == 0
    going.close()


# -- the steps of de-noising, each by what it promises --


@pytest.mark.parametrize("denoise", ["none", "class", "outside", "class,outside", "class,outside,crf", ALL])
@pytest.mark.parametrize("method", ["box", "box_inner"])
def test_boxes_are_obeyed_where_that_is_asked_for_and_only_there(monkeypatch, denoise, method):
    predict_at_random(monkeypatch)
    case = boxed_case()
    made, (_, last), _ = work(case, method, denoise)
    labels, channels = made.labels[0], made.channels[0]
    assert last.channels.any()
    any_box = inside(case)
    for answer in (channels, np.maximum(labels, 1) - 1):
        astray = [(answer == c) & any_box & ~inside(case, c) for c in (1, 2)]
        assert np.any(astray) == ("class" not in denoise)
        assert (answer[~any_box] > 0).any() == ("outside" not in denoise)


def test_the_naive_recursion_learns_all_that_was_predicted(monkeypatch):
    case = boxed_case()
    channels = np.random.default_rng(0).integers(0, 3, case.shape, np.uint8)
    predict_channels(monkeypatch, channels, chance=0.4)
    made, (_, last), _ = work(case, "box_inner", "none")
    region = tuple(slice(*edge) for edge in last.region)
    np.testing.assert_array_equal(last.channels, channels[region])
    np.testing.assert_array_equal(last.labels, channels[region] + 1)
    outside = np.ones(case.shape, bool)
    outside[region] = False
    assert (made.labels[0][outside] == 1).all()


@pytest.mark.parametrize("denoise", ["reset", "reset,ignore", "class,reset", ALL])
@pytest.mark.parametrize("method", ["box", "box_inner", "grabcut_plus"])
def test_a_box_that_is_reset_has_its_first_labels_again(monkeypatch, denoise, method):
    predict_at_random(monkeypatch, sharpness=1)
    case = boxed_case()
    _, (first, last), _ = work(case, method, denoise, reset_share=1)
    first_labels, labels = (whole(case, made.labels, 1, made) for made in (first, last))
    channels = whole(case, last.channels, 0, last)
    for box in case.boxes:
        np.testing.assert_array_equal(labels[box.region], first_labels[box.region])
        np.testing.assert_array_equal(channels[box.region], np.maximum(labels[box.region], 1) - 1)


def test_boxes_in_one_another_are_reset_together(monkeypatch):
    predict_at_random(monkeypatch, sharpness=1)
    case = replace(boxed_case(), boxes=[Box((3, 3, 3), (15, 15, 15), 2), Box((5, 6, 7), (11, 12, 13), 3)])
    for method in ("box", "box_inner"):
        _, (first, last), _ = work(case, method, "class,reset,ignore", reset_share=1)
        inner = tuple(slice(*edge) for edge in ((3, 15),) * 3)
        np.testing.assert_array_equal(
            whole(case, last.labels, 1, last)[inner], whole(case, first.labels, 1, first)[inner]
        )


@pytest.mark.parametrize("share", [0.0, 0.3, 0.4, 0.99])
def test_only_segments_that_fill_too_little_are_reset(monkeypatch, share):
    case = boxed_case()
    ball, cube = case.boxes
    predicted = np.zeros(case.shape, np.uint8)
    predicted[ball.region][:3] = 1  # 3 of 8 slices
    predicted[cube.region] = 2
    predict_channels(monkeypatch, predicted)
    made, _, _ = work(case, "box_inner", "class,outside,reset", reset_share=share)
    was_reset = (made.labels[0][ball.region] == 0).any()
    assert was_reset == (share > 3 / 8)
    if not was_reset:
        np.testing.assert_array_equal(made.channels[0], predicted)
    assert (made.channels[0][cube.region] == 2).all()


@pytest.mark.parametrize("denoise", ["ignore", "none", "class,outside,ignore"])
def test_what_is_unsure_is_ignored_inside_of_boxes(monkeypatch, denoise):
    predict_at_random(monkeypatch)
    case = boxed_case()
    made, _, _ = work(case, denoise=denoise)
    ignored = made.labels[0] == 0
    assert ignored.any() == ("ignore" in denoise)
    assert not (ignored & ~inside(case)).any()
    assert not (~ignored & inside(case)).all() or "ignore" not in denoise
    np.testing.assert_array_equal(made.channels[0][~ignored], made.labels[0][~ignored] - 1)


def test_borders_move_to_the_edges_of_the_image_within_their_boxes(monkeypatch):
    truth = make_truth(20)
    case = BoxedCase(make_image(truth, noise=0.1), UNIT, boxes_of_labels(truth + 1))
    filled = np.zeros_like(truth)
    for box in case.boxes:
        filled[box.region] = box.label - 1
    predict_channels(monkeypatch, filled, chance=0.6)
    plain, refined = (
        work(case, denoise=denoise)[0].channels[0] for denoise in ("class,outside", "class,outside,crf")
    )
    np.testing.assert_array_equal(plain, filled)
    np.testing.assert_array_equal(refined == 1, (refined > 0) & inside(case, 1))
    assert dice(truth == 1, refined == 1) > 0.9 > dice(truth == 1, plain == 1)
    np.testing.assert_array_equal(refined[~inside(case)], 0)
    alone = work(case, denoise="crf")[0].channels[0]
    np.testing.assert_array_equal(alone[~inside(case)], 0)
    assert dice(truth == 1, alone == 1) > 0.9


def test_a_round_in_which_no_class_is_left_is_the_last(monkeypatch):
    case = boxed_case()
    predict_channels(monkeypatch, np.zeros(case.shape, np.uint8))
    made, rounds, events = work(case, denoise="none", rounds=5)
    assert [event.number for event in rounds] == [0, 1]
    assert not made.channels[0].any()
    (note,) = [event.text for event in events if isinstance(event, Noted)]
    assert note.startswith("Round 1 left no voxel of any class")
    assert events[-1].share == 1
    kept, rounds, _ = work(case, denoise="reset", rounds=3)  # gives each box its labels back
    assert len(rounds) == 4
    assert kept.channels[0].any()


# -- the user's own labels, and the truth --


def with_strokes(case, axial):
    """Return a case with strokes that say the opposite of its boxes on some slices."""
    strokes = np.zeros(case.shape, np.uint8)
    for index in axial:
        strokes[index, 2:9] = 3
        strokes[index, 11:16] = 1
        strokes[index, 9:11, :4] = 2
    return replace(case, strokes=strokes)


@pytest.mark.parametrize("known", ["held out", "truth"])
def test_strokes_win_over_all_and_weigh_more(monkeypatch, known):
    seen, train = [], box_training.train_network

    def spy(cases, *arguments, **options):
        seen.extend(cases)
        return train(cases, *arguments, **options)

    monkeypatch.setattr(box_training, "train_network", spy)
    predict_at_random(monkeypatch)
    case = with_strokes(boxed_case(), (5, 7, 9, 11))
    if known == "truth":
        case = replace(case, truth=make_truth() + np.uint8(1))
    made, rounds, _ = work(case, rounds=2)
    where = case.strokes > 0
    for event in rounds:
        np.testing.assert_array_equal(whole(case, event.labels, 1, event)[where], case.strokes[where])
        np.testing.assert_array_equal(whole(case, event.channels, 0, event)[where], case.strokes[where] - 1)
    np.testing.assert_array_equal(made.labels[0][where], case.strokes[where])
    np.testing.assert_array_equal(made.channels[0][where], case.strokes[where] - 1)
    learnt, held_out = part_strokes(case, seed=0)
    assert (len(held_out) > 0) == (known == "held out")
    assert len(seen) == 2
    for given in seen:
        weights = np.where(learnt > 0, SOURCE_WEIGHTS["stroke"], SOURCE_WEIGHTS["box"]).astype(np.float32)
        np.testing.assert_array_equal(given.weights, weights)
        np.testing.assert_array_equal(given.annotation[learnt > 0], learnt[learnt > 0])


def test_held_out_strokes_are_measured_by_and_never_learnt_from(monkeypatch):
    seen, train = [], box_training.train_network

    def spy(cases, *arguments, **options):
        seen.extend(cases)
        return train(cases, *arguments, **options)

    monkeypatch.setattr(box_training, "train_network", spy)
    plain = boxed_case()
    case = with_strokes(plain, (5, 7, 9, 11))
    _, rounds, _ = work(case)
    learnt, held_out = part_strokes(case, seed=0)
    assert 0 < len(held_out) < 0.5 * np.count_nonzero(case.strokes)
    without = finish(label_boxes(case.image, UNIT, case.boxes, BoxConfig("box"))).annotation.reshape(-1)
    np.testing.assert_array_equal(seen[0].annotation.reshape(-1)[held_out], without[held_out])
    answered, reference = without[held_out] - 1, case.strokes.reshape(-1)[held_out] - 1
    by_hand = {
        name: pytest.approx(dice(reference == c, answered == c))
        for c, name in ((1, "ball"), (2, "cube"))
        if (reference == c).any() or (answered == c).any()
    }
    assert rounds[0].quality == by_hand
    assert rounds[1].quality.keys() <= {"ball", "cube"}
    assert not np.isin(held_out, np.flatnonzero(learnt)).any()


def test_quality_is_the_dice_with_what_is_known_of_the_truth():
    case = boxed_case()
    truth = make_truth() + np.uint8(1)
    truth[:4] = 0
    made, rounds, _ = work(replace(case, truth=truth), rounds=1, steps=5)
    known = truth > 0
    for event in rounds:
        channels = whole(case, event.channels, 0, event)
        assert event.quality == {
            name: pytest.approx(dice(truth[known] == c + 1, channels[known] == c))
            for c, name in ((1, "ball"), (2, "cube"))
        }
    np.testing.assert_array_equal(made.channels[0], whole(case, rounds[-1].channels, 0, rounds[-1]))
    assert all(event.quality == {} for event in work(case)[1])


def test_a_class_that_occurs_nowhere_has_no_quality():
    table = ClassTable.from_values([1, 2, 3])
    case = boxed_case(truth=make_truth() + np.uint8(1))
    nothing = np.zeros(0, np.int64)
    assert measure_quality(make_truth(), case, nothing, table) == {"class 1": 1.0, "class 2": 1.0}


def test_agreement_is_the_overlap_of_bounding_boxes():
    channels = np.zeros((12, 12, 12), np.uint8)
    boxes = [Box((0, 0, 0), (4, 4, 4), 2), Box((5, 5, 5), (10, 10, 10), 3), Box((10, 0, 0), (12, 2, 2), 2)]
    channels[0:2, 0:4, 1] = 1  # spans 2 × 4 × 1 of 64
    channels[5, 5, 5] = channels[9, 9, 9] = 2  # spans all of it
    channels[10:, :2, :2] = 2  # another class
    assert measure_agreement(channels, boxes) == pytest.approx((8 / 64 + 1 + 0) / 3)
    case = boxed_case()
    _, (first,), _ = work(case, rounds=0)
    assert first.agreement == 1


# -- several volumes, and hard ones --


def test_volumes_of_different_shape_and_spacing_train_one_network():
    coarse = boxed_case(20, seed=1, spacing=(1.0, 1.0, 2.0), truth=make_truth(20) + np.uint8(1))
    fine = boxed_case(16, truth=make_truth(16) + np.uint8(1))
    made, rounds, _ = work([fine, coarse], "grabcut_plus", steps=40)
    assert made.model.spacing == (1.0, 1.0, 1.5)
    for case, labels, last in zip((fine, coarse), made.labels, rounds[-2:], strict=True):
        assert labels.shape == case.shape
        assert not (labels > 1)[~inside(case)].any()
        assert min(last.quality.values()) > 0.6


def test_an_image_of_several_channels_is_learnt_from():
    case = boxed_case()
    made, _, _ = work(replace(case, image=case.image.repeat(2, 0)))
    assert made.model.channels == 2


@pytest.mark.parametrize("method", ["box", "grabcut_plus"])
def test_thin_boxes_and_constant_images_have_a_result(method):
    case = replace(boxed_case(), boxes=[Box((5, 5, 5), (6, 12, 12), 2), Box((9, 9, 9), (10, 10, 10), 3)])
    for image in (case.image, np.zeros_like(case.image)):
        made, rounds, _ = work(replace(case, image=image), method)
        assert len(rounds) == 2
        assert np.isfinite(rounds[1].agreement)
        assert not (made.labels[0] > 1)[~inside(case)].any()


def noisy_ball(seed):
    z, y, x = np.indices((22, 22, 22))
    ball = ((z - 10) ** 2 + (y - 11) ** 2 + (x - 10) ** 2 < 6.2**2).astype(np.uint8)
    image = ball + np.random.default_rng(seed).normal(0, 0.5, ball.shape)
    return BoxedCase(
        image.astype(np.float32)[None], UNIT, boxes_of_labels(ball + 1), truth=ball + np.uint8(1)
    )


@pytest.mark.parametrize("seed", range(3))
def test_what_the_paper_found_is_seen_on_a_noisy_ball(seed):
    case, table = noisy_ball(seed), ClassTable.from_values([2], {2: "ball"})

    def qualities(*arguments, **options):
        _, rounds, _ = work(case, *arguments, steps=20, seed=seed, table=table, **options)
        return [event.quality["ball"] for event in rounds]

    naive, denoised = qualities("box", "none", rounds=3), qualities("box", ALL, rounds=3)
    from_grabcut = qualities("grabcut_plus", ALL)
    assert denoised[-1] > denoised[0] + 0.2
    assert denoised[-1] > naive[-1] + 0.2
    assert naive[-1] < naive[0] + 0.05
    assert from_grabcut[-1] > 0.7
    assert from_grabcut[-1] > naive[-1]


def test_a_reset_box_takes_nothing_from_a_good_one_in_front_of_it():
    large, small = Box((2, 2, 2), (18, 18, 18), 2), Box((6, 6, 6), (12, 12, 12), 3)
    image = np.random.default_rng(0).normal(size=(1, 20, 20, 20)).astype(np.float32)
    case = BoxedCase(image, UNIT, [large, small])
    for method in ("box", "box_inner"):
        made = box_training._BoxTraining(
            [case], ClassTable.from_values([2, 3]), BoxConfig(method=method),
            RecursionConfig(rounds=1, denoise="reset"), CrfConfig(), TrainingConfig(), NetworkConfig(),
        )  # fmt: skip
        list(made.make_first_labels())
        channels = np.zeros((20, 20, 20), np.uint8)
        channels[6:12, 6:12, 6:10] = 2  # the small one is found, the large one is not
        region = made._regions[0]
        labels, dense = channels[region] + np.uint8(1), channels[region].copy()
        made._reset(0, labels, dense)
        assert (dense[channels[region] == 2] == 2).all()
        assert (labels[channels[region] == 2] == 3).all()
        assert (dense == 1).any()


# -- mistakes --


def mistakes():
    case = boxed_case()
    labels = np.ones(case.shape, np.uint8)
    far = Box((40, 0, 0), (44, 4, 4), 2)
    everything = Box((0, 0, 0), case.shape, 2)
    return {
        "there is no volume": [],
        "there is no box": [replace(case, boxes=[])],
        "lies outside the volume": [case, replace(case, boxes=[*case.boxes, far])],
        "is empty": [replace(case, boxes=[Box((4, 4, 4), (4, 8, 8), 2)])],
        "is not of a class": [replace(case, boxes=[Box((4, 4, 4), (8, 8, 8), 1)])],
        "shape of the labels of volume": [replace(case, strokes=labels[1:])],
        "shape of the truth of volume": [replace(case, truth=labels[None])],
        "uses class 4 of a table of 3": [replace(case, boxes=[Box((4, 4, 4), (8, 8, 8), 4)])],
        "uses class 9 of a table of 3": [replace(case, strokes=labels * 9)],
        "has 2 channels and volume has 1": [case, replace(case, image=case.image.repeat(2, 0))],
        "not numbers": [replace(case, image=case.image * np.nan)],
        "hold no background": [replace(case, boxes=[everything])],
    }


@pytest.mark.parametrize(("sentence", "cases"), mistakes().items(), ids=mistakes())
def test_mistakes_are_told_in_a_sentence(sentence, cases):
    with pytest.raises(InputError, match=sentence):
        work(cases)


def test_the_device_and_precision_asked_for_are_predicted_with_too(monkeypatch):
    asked, place = SimpleNamespace(), box_training.place_model

    def spy(model, device, precision):
        asked.words = device, precision
        return place(model, device, precision)

    monkeypatch.setattr(box_training, "place_model", spy)
    work(boxed_case())
    assert asked.words == ("cpu", "float32")


def test_strokes_of_background_alone_hold_nothing_out():
    case = boxed_case()
    strokes = label_slices(np.zeros(case.shape, np.uint8), axial=(2,))
    learnt, held_out = part_strokes(replace(case, strokes=strokes), seed=0)
    np.testing.assert_array_equal(learnt, strokes)
    assert len(held_out) == 0
