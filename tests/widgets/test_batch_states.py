"""What the Batch panel says, and when it can do what."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.cohort_events import BatchCaseDone
from napari_sparseseg.cohort_requests import PredictBatch
from napari_sparseseg.saved_networks import SavedNetwork
from napari_sparseseg.settings import InferenceConfig
from napari_sparseseg.widgets.batch_states import batch_state
from napari_sparseseg.widgets.batch_words import (
    describe_case,
    describe_end,
    describe_network,
    describe_seconds,
    describe_sources,
)
from napari_sparseseg.widgets.session import Session
from napari_sparseseg.widgets.states import train_state

MADE = datetime(2026, 1, 3, 14, 5).astimezone()
NETWORK = SavedNetwork("/models/liver", MADE, ClassTable.from_values([2, 3]), 1, 0.872)


def ready(**values):
    session = Session(worker="ready")
    work = session.batching
    work.sources, work.found, work.out = ("/data/scans",), 12, "/data/masks"
    work.saved = {"folder": NETWORK}
    work.highdicom = False
    for name, value in values.items():
        setattr(work, name, value)
    return session


def test_what_is_missing_is_said_in_order():
    assert batch_state(Session()).why_no_run == "Choose the volumes first."
    assert batch_state(ready()).why_no_run == ""  # no image need be open
    for values, words in (
        ({"looking": True}, "being looked for"),
        ({"found": 0}, "no volume to segment"),
        ({"saved": {}}, "There is no network yet"),
        ({"out": ""}, "folder for the results"),
        ({"out": "/data/scans"}, "among the volumes"),
        ({"out": "/data/scans/"}, "among the volumes"),
    ):
        state = batch_state(ready(**values))
        assert words in state.why_no_run
        assert ("among" in state.out_warning) == ("among" in words)
    assert batch_state(ready(out="/data/scans/masks")).out_warning == ""
    session = ready()
    for formats, words in (("none", "at least one kind"), ("dicom_seg,nii", "highdicom"), ("nii", "")):
        session.batch = BatchConfig(formats=formats)
        assert words in batch_state(session).why_no_run
    session.batching.highdicom = True
    session.batch = BatchConfig(formats="dicom_seg")
    assert batch_state(session).why_no_run == batch_state(session).why_no_dicom == ""
    session.cam.running = "classifier"
    assert batch_state(session).why_no_run.startswith("A classifier is learning")


def test_networks_are_offered_as_far_as_they_are_there():
    session = ready(saved={})
    state = batch_state(session)
    assert (state.networks, state.network) == ({}, "")
    assert state.command == ""
    session.image, session.learning.steps, session.learning.agreement = "scan", 100, 0.5
    state = batch_state(session)
    assert list(state.networks) == [state.network] == ["live"]
    assert state.network_words == "Learnt from scan. Dice 0.50. It is saved with the results."
    assert "--model /data/masks/network" in state.command
    session.batching.saved = {"project": replace(NETWORK, folder="/p/network"), "folder": NETWORK}
    state = batch_state(session)
    assert list(state.networks) == ["project", "live", "folder"]
    assert state.network == "project"
    session.batching.network = "folder"
    state = batch_state(session)
    assert state.network_words.startswith("Saved 3 January 2026 at 14:05. Dice 0.87. Finds: ")
    assert state.command == "sparseseg predict /data/scans --model /models/liver --out /data/masks"
    assert state.networks["folder"] == "liver"
    del session.batching.saved["folder"]
    assert batch_state(session).network == "project"


def test_how_it_goes_is_told():
    session = ready(running="batch", doing="Reading scan7…", total=200)
    assert batch_state(session).sentence == "Reading scan7…"
    assert batch_state(session).why_no_change
    session.image = "scan"
    assert train_state(session).sentence.startswith("segmenting volumes")
    work = session.batching
    work.asked = PredictBatch(work.sources, "", "", BatchConfig(), InferenceConfig())
    work.done, work.left, work.progress = 37, 7_790.0, 0.185
    work.results = (
        BatchCaseDone(1, 200, "a", "/m/a", uncertainty=0.1, volumes_ml={"liver": 1480.4, "cyst": 0.0512}),
        BatchCaseDone(2, 200, "b", "", error="/data/scans/sub/b.nii is damaged; copy it again."),
        BatchCaseDone(3, 200, "c", "/m/c", uncertainty=0.2, warnings=("The liver is empty.",)),
        BatchCaseDone(4, 200, "d", "/m/d", uncertainty=0.3),
    )
    state = batch_state(session)
    assert state.sentence == "37 of 200 done, about 2 h 10 min left, 1 failed"
    assert state.results_words == "4 volumes · 1 failed · 1 to look at"
    assert [(row.name, row.kind) for row in state.rows] == [
        ("a", "fine"), ("b", "failed"), ("c", "look"), ("d", "fine"),
    ]  # fmt: skip
    assert state.rows[0].words == "liver 1480 ml, cyst 0.0512 ml"
    assert state.rows[1].words == "sub/b.nii is damaged; copy it again."
    work.running, work.outcome = "", "Done."
    state = batch_state(session)
    assert [row.name for row in state.rows] == ["b", "c", "d", "a"]
    assert state.sentence == "Done."


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "less than a minute"), (60, "about 1 min"), (3599, "about 1 h"), (3600, "about 1 h"),
     (7190, "about 2 h"), (7790, "about 2 h 10 min"), (36_000 - 100, "about 10 h"),
     (1e6, "about 277 h 50 min")],
)  # fmt: skip
def test_times_are_round(seconds, words):
    assert describe_seconds(seconds) == words


def test_ends_are_told():
    assert describe_end(10, 0, 0, 0) == "10 volumes are segmented."
    assert describe_end(1, 0, 0, 1) == "1 volume is segmented. 1 needs a look: see below."
    assert describe_end(3, 7, 0, 0) == "10 volumes are segmented (7 of them before)."
    assert (
        describe_end(0, 7, 0, 2) == "7 volumes are segmented (all of them before). 2 need a look: see below."
    )
    assert describe_end(0, 0, 3, 0) == "3 volumes could not be segmented: see below why."
    assert describe_end(9, 0, 1, 0) == (
        "9 volumes are segmented, 1 could not be. Run again to try those that failed once more."
    )


def test_sources_and_networks_are_named():
    assert describe_sources((), None, False) == ""
    assert describe_sources(("/data/scans",), None, True) == "scans · looking…"
    assert describe_sources(("/data/scans/",), 1, False) == "scans · 1 volume"
    assert describe_sources(("/a.nii", "/b.nii"), 1200, False) == "a.nii and 1 more · 1,200 volumes"
    assert describe_sources(("/",), None, False) == "/"
    now = datetime.now().astimezone()
    assert describe_network(replace(NETWORK, made=now, dice=None)).startswith(
        f"Saved today at {now:%H:%M}. Dice not measured."
    )
    many = replace(NETWORK, table=ClassTable.from_values(range(2, 9)), channels=4, made=now - timedelta(2))
    assert "and 3 more. Takes images of 4 channels." in describe_network(many)
    assert describe_case(BatchCaseDone(1, 1, "a", "/a")) == "done"
    assert describe_case(BatchCaseDone(1, 1, "a", "", "the memory is full.")) == "The memory is full."
