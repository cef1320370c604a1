"""What the Class maps panel says, by what is known."""

from dataclasses import replace

import pytest

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.events import ClassifierScored
from napari_sparseseg.project_records import ImageLabelRecord
from napari_sparseseg.widgets.cam_states import class_maps_state
from napari_sparseseg.widgets.job_words import JOB_WORDS, describe_job, why_wait
from napari_sparseseg.widgets.session import Session
from napari_sparseseg.widgets.states import describe_learning, predict_state, train_state

WHY_NOT = (
    "label",
    "end",
    "train",
    "map",
    "map_here",
    "check",
    "seeds",
    "clear_seeds",
    "mark",
    "clear_points",
)


def opened(**changes):
    session = Session(image="scan", worker="ready", table=ClassTable.from_values([2, 3]))
    for name, value in changes.items():
        setattr(session, name, value)
    return session


def reasons(session):
    state = class_maps_state(session)
    return {name: getattr(state, f"why_no_{name}") for name in WHY_NOT}


def test_nothing_can_be_done_without_an_image():
    assert all(reasons(Session()).values())
    assert reasons(Session(reading=True, doing="Reading scan…"))["label"] == "Reading scan…"


def test_each_thing_is_allowed_as_soon_as_it_can_be_done():
    session = opened()
    allowed = {name for name, why in reasons(session).items() if not why}
    assert allowed == {"label", "mark"}
    session.cam.begun[2] = (0, 5)
    session.cam.labels = (ImageLabelRecord(1, 1, 2, True),)
    session.cam.has_classifier = True
    session.cam.mapped = 2
    session.learning.steps = 5
    session.apart = frozenset({"cam"})
    session.cam.subject = "network"
    session.cam.points = ("a point",)
    assert not any(reasons(session).values())
    session.worker = "gone"
    stopped = {name for name, why in reasons(session).items() if why}
    assert stopped == {"train", "map", "map_here", "check"}


def test_a_job_stops_all_others_and_is_spoken_of():
    for running, said in JOB_WORDS.items():
        session = opened()
        session.learning.steps = 5
        session.cam.labels = (ImageLabelRecord(1, 1, 2, True),)
        session.cam.mapped = 2
        assert (describe_job(session), why_wait(session)) == ("", "")
        job = session.boxes if running == "boxes" else session.cam
        job.running = running
        assert session.job is job
        assert describe_learning(session) == said.going_on
        assert train_state(session).why_not_start == said.wait
        assert predict_state(session).why_no_model == said.wait
        assert reasons(session)["train"] == reasons(session)["map"] == reasons(session)["check"] == said.wait


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (ImageLabelRecord(1, 1, 2, True), "in the volume"),
        (ImageLabelRecord(1, 1, 2, False), "not in the volume"),
        (ImageLabelRecord(1, 1, 2, True, 0, 41, 93), "axial slices 41 to 93"),
        (ImageLabelRecord(1, 1, 2, True, 2, 7, 7), "sagittal slice 7"),
        (ImageLabelRecord(1, 1, 2, False, 1, 4, 6), "not in coronal slices 4 to 6"),
    ],
)
def test_words_of_labels(record, words):
    session = opened()
    session.cam.labels = (record,)
    (row,) = class_maps_state(session).rows
    assert row.words == words
    assert (row.number, row.value, row.present) == (1, 2, record.present)
    assert (row.axis, row.index) == (record.axis, record.first)


def test_background_is_in_no_slice_more_than_in_another():
    assert class_maps_state(opened(selected=1)).selected == 2
    assert class_maps_state(opened(selected=3)).selected == 3


def test_what_was_not_measured_is_not_shown():
    session = opened()
    session.cam.scores = ClassifierScored(3, {"a": 0.5}, {"a": 0.75, "b": 1.0}, False)
    rows = class_maps_state(session).scores
    assert [(row.name, row.accuracy, row.auc) for row in rows] == [("a", 0.5, 0.75), ("b", None, 1.0)]
    assert not class_maps_state(session).within_volume


def test_a_subject_that_is_gone_is_not_asked():
    session = opened()
    session.cam.subject = "network"
    session.cam.has_classifier = True
    assert class_maps_state(session).subject == "classifier"
    session.learning.steps = 1
    assert class_maps_state(session).subjects == ("classifier", "network")
    assert class_maps_state(session).subject == "network"


def test_settings_are_those_of_the_session():
    session = opened()
    session.crf = replace(session.crf, smoothness_mm=4.0)
    session.seed_config = replace(session.seed_config, point_mm=5.0)
    state = class_maps_state(session)
    assert (state.crf, state.seeds) == (session.crf, session.seed_config)
    assert (state.cam, state.classifier) == (session.cam_config, session.classifier_config)
