"""Box-to-mask as the worker process does it."""

import time
from dataclasses import replace

import numpy as np
import pytest
from phantoms import make_image, make_truth
from random_encoders import make_encoder
from worker_talk import Conversation, SharedImage, paint

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.box_geometry import Box, boxes_of_labels
from napari_sparseseg.box_job import BoxJob
from napari_sparseseg.boxes import label_boxes
from napari_sparseseg.encoder_checkpoint import save_encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import (
    BoxesLabelled,
    BoxRoundMade,
    Failed,
    ImageReady,
    Noted,
    WorkDone,
    WorkerReady,
    finish,
)
from napari_sparseseg.requests import (
    CloseImage,
    Configure,
    LabelBoxes,
    Look,
    SaveModel,
    SetClasses,
    SharedHandle,
    Train,
)
from napari_sparseseg.settings import (
    BoxConfig,
    CrfConfig,
    InferenceConfig,
    NetworkConfig,
    RecursionConfig,
    TrainingConfig,
)

TRUTH = make_truth()
PAINTED = ClassTable.from_values([2, 9], {2: "ball", 9: "cube"})  # values as they are painted
NO_VOXELS, NO_VALUES = np.zeros(0, np.int64), np.zeros(0, np.uint8)
SECONDS = 15  # in which work must be cancelled; the machine may be busy


def ask(image=None, method="grabcut_plus", rounds=0, steps=3, **changes):
    """Return a request to label the boxes of the phantom."""
    values = {
        "image": image.image.handle if image else SharedHandle("", "float32", (1, *TRUTH.shape)),
        "spacing": (1.0, 1.0, 1.0),
        "table": PAINTED,
        "name": "phantom",
        "boxes": tuple(boxes_of_labels(TRUTH + 1)),
        "stroke_voxels": NO_VOXELS,
        "stroke_values": NO_VALUES,
        "truth_voxels": NO_VOXELS,
        "truth_values": NO_VALUES,
        "config": BoxConfig(method),
        "recursion": RecursionConfig(rounds, steps, device="cpu"),
        "crf": CrfConfig(),
        "network": NetworkConfig(),
        **changes,
    }
    return LabelBoxes(**values)


def run(request, image=None):
    """Return the events of a job."""
    return list(BoxJob(make_image(TRUTH) if image is None else image, request).run())


# -- the job --


def test_the_painted_values_of_strokes_and_truth_are_understood():
    truth = np.array([1, 2, 9], np.uint8)[TRUTH].reshape(-1)
    strokes = np.array([3, 40, 50, 60])
    events = run(
        ask(
            method="box",
            truth_voxels=np.arange(truth.size),
            truth_values=truth,
            stroke_voxels=strokes,
            stroke_values=np.array([9, 2, 1, 200], np.uint8),  # 200 is of no class (any more)
        )
    )
    made = next(event for event in events if isinstance(event, BoxRoundMade))
    filled = np.ones(TRUTH.shape, np.uint8)
    for box in boxes_of_labels(TRUTH + 1):
        filled[box.region] = box.label
    filled.reshape(-1)[strokes[:3]] = 3, 2, 1
    np.testing.assert_array_equal(made.labels, filled)
    own = np.zeros(TRUTH.size, bool)
    own[strokes[:3]] = True  # copied into the answer, so they do not count
    ball, found = (mask & ~own.reshape(TRUTH.shape) for mask in (TRUTH == 1, filled == 2))
    assert made.quality["ball"] == pytest.approx(2 * (ball & found).sum() / (ball.sum() + found.sum()))
    assert isinstance(events[-1], BoxesLabelled)


@pytest.mark.parametrize("what", ["stroke", "truth"])
@pytest.mark.parametrize("voxel", [-1, TRUTH.size])
def test_labels_outside_the_volume_are_refused_in_a_sentence(what, voxel):
    outside = {f"{what}_voxels": np.array([voxel]), f"{what}_values": np.array([2], np.uint8)}
    with pytest.raises(InputError, match="lies outside the volume"):
        BoxJob(make_image(TRUTH), ask(**outside))


def test_which_boxes_fell_back_is_the_last_word():
    events = run(ask(), image=np.zeros((1, *TRUTH.shape), np.float32))
    assert events[-1] == BoxesLabelled((0, 1))


def test_the_network_starts_from_an_encoder_where_there_is_one(tmp_path):
    save_encoder(tmp_path, make_encoder())
    events = run(ask(method="box", rounds=1, encoder=str(tmp_path)))
    assert any("was taken over" in event.text for event in events if isinstance(event, Noted))
    with pytest.raises(InputError, match="nowhere"):
        run(ask(method="box", rounds=1, encoder=str(tmp_path / "nowhere")))
    assert run(ask(method="box", encoder=str(tmp_path / "nowhere")))  # without a network it is of no use


# -- in the worker process --


@pytest.fixture(scope="module")
def talk():
    with Conversation(command=None) as conversation:
        conversation.wait_for(WorkerReady)
        yield conversation


@pytest.fixture
def image(talk):
    talk.events.clear()
    with SharedImage("phantom", TRUTH.shape, classes=2) as shared:
        shared.image.array[:] = make_image(TRUTH)
        yield shared
        talk.client.send(CloseImage())
        end_of_work(talk)


def end_of_work(talk):
    """Wait until the worker has nothing in work; return the seconds that took."""
    start, after = time.monotonic(), len(talk.events)
    talk.client.send(SaveModel("nowhere"))  # answered when it has ended whatever was in work
    assert "no image is open" in talk.wait_for(Failed, after).text
    return time.monotonic() - start


def test_the_worker_makes_rounds_whatever_else_it_is_told_meanwhile(talk, image):
    send = talk.client.send
    send(ask(image, rounds=2, steps=5))
    for _ in range(20):
        send(paint(1, [5, 6]))
        send(Look(0, 3))
        send(Train(True))
        send(SetClasses(PAINTED))
        send(Configure(TrainingConfig(), NetworkConfig(), InferenceConfig()))
    assert talk.wait_for(BoxesLabelled) == BoxesLabelled(())
    send(paint(2, [7]))  # nobody is at work now
    end_of_work(talk)
    assert len(talk.texts(Failed)) == 1  # the answer to that
    rounds = [event for event in talk.events if isinstance(event, BoxRoundMade)]
    assert [event.number for event in rounds] == [0, 1, 2]
    assert rounds[0].region == tuple((0, length) for length in TRUTH.shape)
    boxes = boxes_of_labels(TRUTH + 1)
    expected = finish(label_boxes(make_image(TRUTH), (1.0, 1.0, 1.0), boxes, BoxConfig()))
    np.testing.assert_array_equal(rounds[0].labels, expected.annotation)
    assert all(0 <= event.agreement <= 1 for event in rounds)
    shares = [event.share for event in talk.events if isinstance(event, WorkDone)]
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize("turn", ["close", "open", "other boxes"])
def test_another_request_ends_the_learning_at_once(talk, image, turn):
    talk.client.send(ask(image, rounds=50, steps=100_000))
    talk.wait(lambda: any("learning" in e.words for e in talk.events if isinstance(e, WorkDone)))
    start, after = time.monotonic(), len(talk.events)
    if turn == "close":
        talk.client.send(CloseImage())
        end_of_work(talk)
    elif turn == "open":
        talk.client.send(image.request)
        talk.wait_for(ImageReady, after)
    else:
        talk.client.send(ask(image, "box"))
        talk.wait_for(BoxesLabelled, after)
    assert time.monotonic() - start < SECONDS


@pytest.mark.parametrize("method", ["grabcut_plus", "grabcut_plus_i"])
def test_cutting_can_be_ended_too(talk, method):
    shape = (60, 60, 60)
    with SharedImage("large", shape) as image:
        image.image.array[:] = np.random.default_rng(0).normal(size=(1, *shape))
        boxes = tuple(Box((5, 5, x), (55, 55, x + 40), 2) for x in range(2, 18))
        config = BoxConfig(method, runs=200)
        talk.client.send(ask(image, boxes=boxes, config=config))
        after = len(talk.events)
        talk.wait_for(WorkDone, after)
        talk.client.send(CloseImage())
        assert end_of_work(talk) < SECONDS
        assert not any(isinstance(event, BoxRoundMade) for event in talk.events[after:])


def test_wrong_boxes_are_told_in_one_sentence_and_the_next_request_is_served(talk, image):
    outside, empty = Box((40, 0, 0), (44, 4, 4), 2), Box((4, 4, 4), (4, 4, 4), 2)
    for boxes, sentence in (((), "no box"), ((outside,), "outside the volume"), ((empty,), "empty")):
        after = len(talk.events)
        talk.client.send(ask(image, boxes=boxes))
        failure = talk.wait_for(Failed, after)
        assert sentence in failure.text
        assert not failure.ended
        assert not failure.fatal
        end_of_work(talk)
        assert len([e for e in talk.events[after:] if isinstance(e, Failed)]) == 2
    after = len(talk.events)
    talk.client.send(ask(image, "box"))
    assert talk.wait_for(BoxesLabelled, after) == BoxesLabelled(())


def test_an_image_that_is_gone_is_told(talk, image):
    for handle in (
        replace(image.image.handle, path="/nowhere/at all"),
        image.prediction.handle,
        replace(image.image.handle, shape=TRUTH.shape),
    ):
        after = len(talk.events)
        talk.client.send(replace(ask(image), image=handle))
        assert "open the image again" in talk.wait_for(Failed, after).text
