"""What the panels say, from the session alone."""

from napari_sparseseg.widgets.session import Learning, Session
from napari_sparseseg.widgets.snapshots import AnnotateState, PredictState, TrainState
from napari_sparseseg.widgets.states import (
    annotate_state,
    describe_learning,
    describe_shown,
    dock_state,
    predict_state,
    train_state,
)
from napari_sparseseg.widgets.work import Curve


def opened(**changes):
    return Session(image="scan", paintable=True, worker="ready", slice_count=9, **changes)


def test_an_empty_session_is_what_the_panels_begin_with():
    session = Session()
    first = "Open an image first."
    assert annotate_state(session) == AnnotateState(why_no_accept=first, why_no_interpolation=first)
    assert predict_state(session) == PredictState(why_no_prediction=first, why_no_model=first)
    assert train_state(session) == TrainState()


def test_reasons_go_away_one_by_one():
    session = opened()
    assert not annotate_state(session).why_no_paint
    assert "prediction" in annotate_state(session).why_no_accept
    session.pictured = True
    assert not annotate_state(session).why_no_accept
    session.axis = None
    assert "3D" in annotate_state(session).why_no_accept
    session.axis, session.slice_index = 0, 4
    for labelled, word in (
        ((), "Label two"),
        ((3,), "Label two"),
        ((5, 8), "between"),
        ((3, 4, 5), "no slice"),
        ((3, 6), ""),
    ):
        session.labelled_slices = (labelled, (), ())
        assert word in annotate_state(session).why_no_interpolation
    assert not annotate_state(session).why_no_interpolation
    session.paintable = False
    assert "choose the image again" in annotate_state(session).why_no_interpolation


def test_learning_can_start_with_two_kinds_of_labels():
    assert "class" in train_state(opened()).why_not_start
    assert "class" in train_state(opened(voxels={1: 5})).why_not_start
    assert "background" in train_state(opened(voxels={2: 5})).why_not_start
    assert not train_state(opened(voxels={1: 3, 2: 5})).why_not_start
    assert not train_state(opened(running=True)).why_not_start  # what runs can be paused


def test_what_goes_on_is_said_in_words():
    session = opened(running=True)
    session.learning = Learning(slices=3, agreement=0.874)
    session.learning._seconds = 41.7
    session.labelled_slices = ((1, 5), (), (7,))
    assert describe_learning(session) == "learning from 3 slices · 41 s · agreement on held-out strokes 0.87"
    session.running = False
    session.learning._seconds = 125
    assert describe_learning(session).startswith("paused after 3 slices · 2 min 05 s")
    assert "Start" in describe_learning(Session(image="x", worker="gone"))
    assert describe_learning(Session(image="x")) == "Getting ready to compute…"
    assert describe_learning(opened(waiting="Paint more.")) == "Paint more."
    assert describe_shown("network", "") == "Shown: the network."
    assert describe_shown("network", "The network: it agrees best") == "Shown: the network: it agrees best."


def test_what_is_saved_is_said_in_words():
    assert "first stroke" in dock_state(Session()).saved
    assert dock_state(Session(project="one", changes=1)).saved == "1 change saved"
    assert dock_state(Session(project="one", changes=12)).saved == "12 changes saved"
    assert dock_state(Session(project="one", doing="Saving mask.nii.gz…")).saved == "Saving mask.nii.gz…"


def test_a_curve_stays_small_and_keeps_its_shape():
    curve = Curve()
    for step in range(100_000):
        curve.add(step, step / 2)
    points = curve.points
    assert 300 <= len(points) <= 601
    assert points[0] == (0, 0.0)
    assert points[-1][0] > 99_000
    assert all(value == step / 2 for step, value in points)


def test_the_clock_of_learning_stands_while_it_is_paused():
    learning = Learning()
    learning.run(True)
    learning.run(False)
    seconds = learning.seconds
    assert learning.seconds == seconds >= 0
