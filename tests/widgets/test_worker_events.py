"""What the worker says, as the session knows it."""

from napari_sparseseg.events import (
    HeldOutScored,
    Noted,
    PictureChanged,
    PictureCompleted,
    RoundStarted,
    StepDone,
    Waiting,
    WorkerReady,
)
from napari_sparseseg.widgets.session import Session
from napari_sparseseg.widgets.worker_events import take_event

REGION = ((0, 4), (0, 5), (0, 6))


def test_a_round_is_followed_from_its_start_to_its_end():
    session = Session(running=True)
    take_event(session, WorkerReady("cpu"))
    assert session.worker == "ready"
    take_event(session, RoundStarted(1, 100, 10, 3))
    assert session.busy
    assert session.learning.slices == 3
    for step in range(1, 4):
        take_event(session, StepDone(step, 1 / step, step / 3))
    take_event(session, HeldOutScored(3, 0.9, {"liver": 0.9}))
    assert (session.learning.steps, session.learning.progress, session.learning.agreement) == (3, 1, 0.9)
    assert session.learning.losses.points == ((1, 1.0), (2, 0.5), (3, 1 / 3))
    assert session.learning.agreements.points == ((3, 0.9),)
    seconds = session.learning.seconds
    assert session.learning.seconds == seconds  # its clock stands when it is done
    take_event(session, Waiting("All is learnt."))
    assert not session.busy
    assert session.waiting == "All is learnt."
    take_event(session, RoundStarted(2, 100, 10, 3))
    assert session.learning.losses.points == ()


def test_a_picture_is_there_from_its_first_part_on():
    session = Session()
    take_event(session, Noted("nothing to show"))
    assert session == Session(learning=session.learning)
    take_event(session, PictureChanged(REGION, "preview"))
    assert session.pictured
    assert session.region is None
    take_event(session, PictureCompleted("both", "Both: they agree best", REGION))
    assert session.region == REGION
    assert session.shown == "Shown: both: they agree best."
    session.forget_picture()
    assert not session.pictured
    assert session.shown == ""
