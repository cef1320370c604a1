from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from worker_talk import SharedImage, paint

from napari_sparseseg.box_geometry import Box
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import (
    BoxesLabelled,
    BoxRoundMade,
    Failed,
    ImageReady,
    ModelSaved,
    Noted,
    StrokeLearnt,
    Waiting,
)
from napari_sparseseg.messages import NO_SESSION, Message
from napari_sparseseg.requests import (
    CloseImage,
    KeepState,
    LabelBoxes,
    Look,
    OpenImage,
    Request,
    SaveModel,
    Train,
)
from napari_sparseseg.settings import BoxConfig, CrfConfig, NetworkConfig, RecursionConfig
from napari_sparseseg.worker_desk import JOBS, LIVE_ACTIONS, Desk, JobKind, open_live_session


class Job:
    """Learns strokes; writes down what becomes of it."""

    def __init__(self, diary, resources):
        self.diary, self.learnt = diary, []
        resources.callback(diary.append, "let go")

    def run(self):
        try:
            yield ImageReady()
            while True:
                yield StrokeLearnt(self.learnt.pop(0)) if self.learnt else Waiting("")
        finally:
            self.diary.append("stopped")

    def paint(self, number, voxels, values, source):
        if number < 0:
            raise InputError("a wrong number.")
        self.learnt.append(number)

    def save_model(self, folder):
        self.diary.append(f"saved {folder}")

    def close(self):
        self.diary.append("closed")


class Office:
    """A desk, what it sent, and the diary of its jobs."""

    def __init__(self):
        self.sent, self.diary = [], []
        kind = JobKind(lambda request, resources: Job(self.diary, resources), LIVE_ACTIONS)
        self.desk = Desk({OpenImage: kind}, lambda event, generation: self.sent.append((event, generation)))

    def take(self, request, generation=1):
        self.desk.take(Message(request, generation))

    def work(self):
        """Advance until there is nothing to do; return what was sent since the last time."""
        while not self.desk.idle:
            self.desk.advance()
        sent, self.sent[:] = self.sent.copy(), []
        return sent


def label_boxes(image, method="box"):
    """Return a request to label a box without training."""
    nothing = np.zeros(0, np.int64), np.zeros(0, np.uint8)
    return LabelBoxes(
        image.image.handle, (1.0, 1.0, 1.0), image.request.table, "lung", (Box((1, 1, 1), (3, 4, 5), 2),),
        *nothing, *nothing, BoxConfig(method), RecursionConfig(), CrfConfig(), NetworkConfig(),
    )  # fmt: skip


@pytest.fixture
def office():
    return Office()


@pytest.fixture
def image():
    with SharedImage("lung") as shared:
        yield shared


def test_every_request_is_understood():
    actions = {request for kind in JOBS.values() for request in kind.actions}
    assert {*JOBS, *actions, CloseImage} == set(get_args(Request))


def test_events_carry_the_number_of_their_session_and_answers_none(office, image):
    assert office.desk.idle
    office.desk.advance()
    office.take(image.request, 3)
    office.take(paint(7), 3)
    office.take(SaveModel("there"), 3)
    assert office.work() == [
        (ModelSaved("there"), NO_SESSION), (ImageReady(), 3), (StrokeLearnt(7), 3), (Waiting(""), 3),
    ]  # fmt: skip
    office.take(image.request, 4)
    assert office.work() == [(ImageReady(), 4), (Waiting(""), 4)]


@pytest.mark.parametrize("turn", ["close", "open", "goodbye"])
def test_a_job_that_ends_keeps_what_must_last_then_lets_go(office, image, turn):
    office.take(image.request)
    office.work()
    if turn == "goodbye":
        office.desk.close()
    else:
        office.take(CloseImage() if turn == "close" else image.request, 2)
    assert office.diary == ["stopped", "closed", "let go"]
    office.work()
    office.desk.close()
    assert office.diary == ["stopped", "closed", "let go"] * (2 if turn == "open" else 1)


def test_a_job_is_advanced_one_event_at_a_time_and_rests_until_it_is_asked(office, image):
    office.take(image.request)
    office.desk.advance()
    assert [event for event, _ in office.sent] == [ImageReady()]
    office.work()
    office.desk.advance()
    assert office.sent == []
    office.take(paint(1))
    assert not office.desk.idle
    assert [event for event, _ in office.work()] == [StrokeLearnt(1), Waiting("")]


def test_mistakes_leave_the_job_and_errors_drop_it_unsaved(office, image, caplog):
    office.take(image.request)
    office.take(paint(-1))
    assert office.work()[0] == (Failed("a wrong number."), NO_SESSION)
    assert office.diary == []
    office.take(Look(0, 0))  # a job that cannot do that
    (failure, _), (waiting, generation) = office.work()
    assert "AttributeError" in failure.text
    assert "Traceback" in caplog.text
    assert isinstance(waiting, Waiting)
    assert generation == 1
    assert "let go" in office.diary
    assert "closed" not in office.diary
    office.take(paint(1))
    assert office.work() == []


def test_what_another_kind_of_job_takes_is_passed_over(image):
    diary, sent = [], []
    live = JobKind(lambda request, resources: Job(diary, resources), LIVE_ACTIONS)
    other = JobKind(lambda request, resources: Job(diary, resources))
    desk = Desk({OpenImage: live, LabelBoxes: other}, lambda event, generation: sent.append(event))
    desk.take(Message(label_boxes(image), 1))
    for request in (paint(1), paint(-1), Look(0, 0), Train(True), KeepState("there")):
        desk.take(Message(request, 1))
    while not desk.idle:
        desk.advance()
    assert sent == [ImageReady(), Waiting("")]
    desk.take(Message(SaveModel("there"), 1))  # somebody waits for that
    assert sent[2:] == [Failed("no image is open in the background worker; open the image again.")]
    assert diary == []
    desk.take(Message(image.request, 2))
    assert diary == ["stopped", "closed", "let go"]
    desk.take(Message(paint(3), 2))
    while not desk.idle:
        desk.advance()
    assert StrokeLearnt(3) in sent


def test_what_is_no_request_is_told(office):
    office.take(Noted("hello"))
    ((failure, generation),) = office.work()
    assert "does not know what Noted means" in failure.text
    assert generation == NO_SESSION


@pytest.mark.parametrize(
    "change",
    [
        lambda image: {"prediction": image.image.handle},
        lambda image: {"image": image.prediction.handle},
        lambda image: {"image": replace(image.image.handle, shape=(4, 5, 6))},
        lambda image: {"image": replace(image.image.handle, shape=(1, 4, 6, 5))},
        lambda image: {"uncertainty": replace(image.uncertainty.handle, path="/nowhere/at all")},
    ],
)
def test_arrays_that_do_not_belong_together_are_refused_in_a_sentence(image, change):
    with ExitStack() as resources, pytest.raises(InputError, match="open the image again"):
        open_live_session(replace(image.request, **change(image)), resources)


def test_a_session_works_on_the_shared_memory_and_lets_go_of_it(image):
    maps = Path("/proc/self/maps")
    own = [handle.path for handle in (image.image.handle, image.prediction.handle, image.uncertainty.handle)]
    sent = []
    desk = Desk(JOBS, lambda event, generation: sent.append(event))
    for generation in range(1, 4):
        desk.take(Message(image.request, generation))
        desk.take(Message(paint(1, [0, 1]), generation))
        desk.take(Message(paint(2, [50, 51], value=1), generation))
        while not desk.idle:
            desk.advance()
        assert StrokeLearnt(2) in sent
        assert image.prediction.array.reshape(-1)[[0, 1, 50, 51]].tolist() == [2, 2, 1, 1]
        if maps.exists():
            assert [maps.read_text().count(path) for path in own] == [2, 2, 2]
    desk.close()
    if maps.exists():
        assert [maps.read_text().count(path) for path in own] == [1, 1, 1]
    assert not any(isinstance(event, Failed) for event in sent)
    assert np.isfinite(image.image.array).all()


def test_boxes_are_labelled_on_the_shared_memory_which_is_let_go_of(image):
    maps, path = Path("/proc/self/maps"), image.image.handle.path
    sent = []
    desk = Desk(JOBS, lambda event, generation: sent.append((event, generation)))
    desk.take(Message(label_boxes(image), 5))
    if maps.exists():
        assert maps.read_text().count(path) == 2
    while not desk.idle:
        desk.advance()
    assert sent[-1] == (BoxesLabelled(()), 5)
    (made,) = [event for event, _ in sent if isinstance(event, BoxRoundMade)]
    assert (made.labels == 2).sum() == 2 * 3 * 4
    if maps.exists():
        assert maps.read_text().count(path) == 1


def test_an_image_without_channels_has_no_boxes(image):
    request = replace(label_boxes(image), image=replace(image.image.handle, shape=(4, 5, 6)))
    with ExitStack() as resources, pytest.raises(InputError, match="3 axes instead of 4"):
        JOBS[LabelBoxes].open(request, resources)
