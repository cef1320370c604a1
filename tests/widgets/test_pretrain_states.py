"""What the Pre-train panel says, by what is known."""

from dataclasses import replace
from pathlib import Path

import pytest

from napari_sparseseg.project_encoders import EncoderSummary, ProbeRecord
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.widgets.job_words import JOB_WORDS
from napari_sparseseg.widgets.pretrain_states import find_encoder, pretrain_state
from napari_sparseseg.widgets.session import Session
from napari_sparseseg.widgets.states import train_state
from napari_sparseseg.widgets.work import EncoderList, VolumeChoice
from tests.widgets.pretrain_window import score

JIGSAW = EncoderSummary(
    Path("p/encoders/jigsaw-1"), "jigsaw", True, 1200, 3, 1, NetworkConfig(), "accuracy", 0.755
)
BYOL = replace(JIGSAW, folder=Path("p/encoders/byol-1"), task="byol", figure="error", value=0.01234)
STOPPED = EncoderSummary(Path("p/encoders/jigsaw-2"), "jigsaw", False, 1)
WHY_NOT = ("train", "probe", "use", "delete", "clear_pictures", "project")


def opened(*encoders, **changes):
    session = Session(image="scan", worker="ready", voxels={1: 20, 2: 5})
    session.encoders = EncoderList(encoders, chosen=str(encoders[0].folder) if encoders else "")
    for name, value in changes.items():
        setattr(session, name, value)
    return session


def reasons(session):
    state = pretrain_state(session)
    return {name: getattr(state, f"why_no_{name}") for name in WHY_NOT}


def test_nothing_can_be_done_without_an_image():
    assert all(reasons(Session()).values())


def test_each_thing_is_allowed_as_soon_as_it_can_be_done():
    session = opened()
    assert {name for name, why in reasons(session).items() if not why} == {"train"}
    session = opened(JIGSAW)
    assert {name for name, why in reasons(session).items() if not why} == {"train", "probe", "use", "delete"}
    session.pretrain.pictured, session.volumes.project_files = True, ("a.nii",)
    assert not any(reasons(session).values())
    session.worker = "gone"
    assert {name for name, why in reasons(session).items() if why} == {"train", "probe"}


def test_volumes_must_be_chosen():
    session = opened(volumes=VolumeChoice(uses_image=False))
    why = reasons(session)["train"]
    assert why.startswith("Choose what to learn from")
    session.volumes.project_files = ("a.nii",)
    assert reasons(session)["train"] == why
    session.volumes.uses_project = True
    assert reasons(session)["train"] == ""
    session.volumes = VolumeChoice(uses_image=False, folder="f", looking=True)
    assert reasons(session)["train"] == "The folder is being looked through."
    session.volumes = VolumeChoice(uses_image=False, folder="f", folder_files=("a.nii",))
    assert reasons(session)["train"] == ""


@pytest.mark.parametrize("running", ["boxes", "map", "pretrain", "probe"])
def test_a_job_makes_the_others_wait(running):
    session = opened(JIGSAW)
    job = {"boxes": session.boxes, "map": session.cam}.get(running, session.pretrain)
    job.running = running
    assert session.job is job
    for name in ("train", "probe", "delete"):
        assert reasons(session)[name] == JOB_WORDS[running].wait
    assert reasons(session)["use"] == ""
    assert train_state(session).why_not_start == JOB_WORDS[running].wait


def test_labels_of_two_kinds_are_compared_by():
    assert reasons(opened(JIGSAW))["probe"] == ""
    for voxels in ({}, {2: 5}, {1: 0, 2: 5}):
        assert reasons(opened(JIGSAW, voxels=voxels))["probe"].startswith("Label some voxels")
    assert reasons(opened(STOPPED))["probe"].startswith("There is no encoder")
    why = reasons(opened(JIGSAW, channels=2))["probe"]
    assert why == "It learnt from 1 channel, and the image has 2."
    assert reasons(opened(replace(JIGSAW, channels=2), JIGSAW))["probe"] == ""


@pytest.mark.parametrize(
    ("encoder", "changes", "why"),
    [
        (STOPPED, {}, "It has not learnt to the end: let it go on learning first."),
        (
            replace(JIGSAW, network=NetworkConfig("dynunet", "large")),
            {},
            "It is of another network (dynunet, large) than the one that is set in the Train panel.",
        ),
        (JIGSAW, {"channels": 3}, "It learnt from 1 channel, and the image has 3."),
        (replace(JIGSAW, channels=2), {}, "It learnt from 2 channels, and the image has 1."),
    ],
)
def test_an_encoder_that_does_not_fit_is_not_started_from(encoder, changes, why):
    session = opened(encoder, **changes)
    session.encoders.used = str(encoder.folder)
    assert reasons(session)["use"] == why
    assert find_encoder(session) == ""
    words = train_state(session).start
    assert words.startswith("random weights, not from Jigsaw puzzle")
    assert words.endswith(f": {why[0].lower()}{why[1:-1]}")


def test_the_train_panel_says_what_it_starts_from():
    session = opened(JIGSAW)
    assert (train_state(session).start, find_encoder(session)) == ("", "")
    session.encoders.used = str(JIGSAW.folder)
    assert train_state(session).start == "Jigsaw puzzle 1 (3 volumes)"
    assert find_encoder(session) == str(JIGSAW.folder)
    session.encoders.used = "p/encoders/gone-1"
    assert (train_state(session).start, find_encoder(session)) == ("", "")


def test_encoders_are_described():
    session = opened(JIGSAW, BYOL, STOPPED, replace(JIGSAW, value=None, volumes=1))
    assert [(row.name, row.words) for row in pretrain_state(session).encoders] == [
        ("jigsaw-1", "3 volumes, 1,200 steps, accuracy 76 %"),
        ("byol-1", "3 volumes, 1,200 steps, error 0.0123"),
        ("jigsaw-2", "unfinished: 1 step"),
        ("jigsaw-1", "1 volume, 1,200 steps"),
    ]


def test_bars_are_compared_with_random_weights():
    session = opened(JIGSAW, BYOL)
    assert pretrain_state(session).probes == ()
    bars = (("", ProbeRecord("1", 0.25, {})), ("byol-1", ProbeRecord("1", 0.5, {})))
    session.encoders.probes = bars
    state = pretrain_state(session)
    assert state.probes == (("", 0.25), ("byol-1", 0.5))
    assert [row.dice for row in state.encoders] == [None, 0.5]
    session.encoders.probes = bars[1:]
    state = pretrain_state(session)
    assert state.probes == ()
    assert [row.dice for row in state.encoders] == [None, 0.5]
    deleted = opened(STOPPED)
    deleted.encoders.probes = bars
    assert pretrain_state(deleted).probes == ()


def test_figures_and_the_end_of_learning_are_shown():
    session = opened(STOPPED, pretraining=replace(Session().pretraining, task="jigsaw"))
    assert "learning goes on" in pretrain_state(session).sentence
    session.pretraining = replace(session.pretraining, task="byol")
    assert pretrain_state(session).sentence == ""
    session.pretrain.outcome = "Stopped."
    assert pretrain_state(session).sentence == "Stopped."
    assert pretrain_state(session).trivial is None
    session.pretrain.score = score(5, figure="error", collapsed=True)
    state = pretrain_state(session)
    assert (state.figure, state.trivial, state.spread) == ("error", 0.25, 0.8)
    assert state.collapsed
    assert state.within_volume
    assert state.config.seconds == 120
