"""The list of cases in a real viewer: what is opened, kept, asked of the worker, and shown afterwards."""

import csv
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg.cohort_events import CaseJudged, CohortTrained
from napari_sparseseg.cohort_requests import JudgeCases, TrainCohort
from napari_sparseseg.events import Failed, HeldOutScored, Noted, StepDone, WorkDone
from napari_sparseseg.project import Project
from napari_sparseseg.project_cohort import list_cases, read_quality
from napari_sparseseg.requests import CloseImage, OpenImage, ProbeEncoders, Restart
from napari_sparseseg.settings import TrainingConfig
from napari_sparseseg.volume import save_map, volume_from_array
from tests.widgets.cohort_window import SHAPE, Window, write_network
from tests.widgets.conftest import settle, wait_for


@pytest.fixture(scope="module")
def screen():
    import napari

    made = napari.Viewer(show=False)
    yield made
    made.close()
    settle()


@pytest.fixture
def viewer(screen):
    """A viewer that is emptied in the end, which takes less time than a new one."""
    yield screen
    screen.layers.clear()
    screen.dims.order = tuple(range(screen.dims.ndim))
    settle()


@pytest.fixture
def study(tmp_path, image):
    """A folder with three scans, unlike each other."""
    folder = tmp_path / "study"
    folder.mkdir()
    for number, name in enumerate("abc"):
        values = image + number
        volume = volume_from_array(values, affine=np.diag([3.0, 1, 1, 1]))
        save_map(folder / f"{name}.nii.gz", values, volume)
    return folder


@pytest.fixture
def window(viewer, make_coordinator, workers, told):
    coordinator = make_coordinator(viewer)
    wait_for(lambda: coordinator.session.worker == "ready")
    return Window(viewer, coordinator, workers[0], told)


@pytest.fixture
def filled(window, study):
    window.add(study)
    return window


# -- the list --


def test_a_folder_a_table_and_what_is_there_already(window, study, tmp_path):
    assert window.project is None
    window.add(study / "a.nii.gz")
    assert window.project is not None
    assert [case.name for case in window.state.rows] == ["a"]
    with (study / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "name"], ["b.nii.gz", "Miller"], ["gone.nii.gz", "Gone"]])
    window.add(study / "list.csv")
    assert [case.name for case in window.state.rows] == ["a", "Miller", "Gone"]
    wait_for(lambda: window.row("Gone").problem)
    assert window.row("Miller").problem == ""
    window.add(study)
    assert len(window.state.rows) == 4
    assert not window.told
    window.add(study)
    assert window.told == ["These cases are in the list already."]
    (tmp_path / "empty").mkdir()
    window.add(tmp_path / "empty")
    assert len(window.told) == 2
    assert window.state.busy == ""
    window.cases.remove([window.row("Gone").key])
    assert len(window.state.rows) == 3


def test_cases_are_opened_one_after_the_other_and_no_stroke_is_lost(filled):
    filled.label_unseen("c", slices=(3, 5))
    assert filled.state.why_no_next == ""
    filled.cases.open_next()
    filled.wait_for("a")
    drawn = filled.label()
    filled.coordinator.annotate.go_to_slice(0, 4)
    filled.cases.show_only("unlabelled")
    filled.cases.open_next()
    filled.wait_for("b")
    assert [layer.name for layer in filled.viewer.layers if "of" not in layer.name] == ["b"]
    assert not filled.viewer.layers["labels of b"].data.any()
    filled.cases.open_next()
    assert filled.told == ["This is the last case of the list."]
    filled.cases.show_only("all")
    filled.cases.open_previous()
    filled.wait_for("a")
    assert np.array_equal(filled.viewer.layers["labels of a"].data, drawn)
    assert filled.session.slice_index == 4  # the view comes back as well
    wait_for(lambda: all(case.labels is not None for case in filled.session.cohort.cases[1:]))
    assert [case.state for case in filled.state.rows] == ["work", "unlabelled", "work"]
    wait_for(lambda: [case.labels.slices for case in filled.state.rows] == [1, 0, 2])
    assert filled.project.cases()[1].source == filled.row("a").files[0]
    filled.cases.open_previous()
    assert filled.told[-1] == "This is the first case of the list."
    folder = filled.project.folder
    filled.coordinator.close()
    with Project.open(folder) as again:
        assert [case.labels and case.labels.slices for case in list_cases(again)] == [None, 0, 2]


def test_an_image_opened_by_hand_joins_the_list_and_other_images_stay(filled, image):
    filled.viewer.add_image(image * 3, name="by hand", scale=(3, 1, 1))
    filled.viewer.add_image(image * 2, name="to compare")
    filled.coordinator.images.choose("by hand")
    wait_for(lambda: filled.session.image == "by hand")
    assert filled.session.cohort.opened == ""
    drawn = filled.label()
    wait_for(lambda: len(filled.state.rows) == 4)
    row = filled.row("by hand")
    assert (row.files, row.number, filled.session.cohort.opened) == ((), 1, row.key)
    filled.open("a")
    assert "by hand" not in filled.viewer.layers  # the project keeps a copy of it
    assert "to compare" in filled.viewer.layers
    filled.open("by hand")
    assert np.array_equal(filled.viewer.layers["labels of by hand"].data, drawn)
    assert "a" not in filled.viewer.layers
    filled.cases.remove([row.key])
    assert "stays in the list" in filled.told[-1]
    assert filled.row("by hand").number == 1


def test_the_same_image_opened_by_hand_is_the_same_case(filled, image):
    filled.viewer.add_image(image, name="by hand", scale=(3, 1, 1))
    wait_for(lambda: filled.session.image == "by hand")
    drawn = filled.label()
    filled.open("a")
    wait_for(lambda: len(filled.state.rows) == 3)
    assert filled.row("a").number == 1
    assert np.array_equal(filled.viewer.layers["labels of a"].data, drawn)


def test_a_file_that_vanished_or_changed_is_told_of_and_what_was_open_stays(filled, study):
    filled.open("b")
    source = filled.row("a").key
    filled.project.add_case("a", SHAPE, (3, 1, 1), np.eye(4), source=source, fingerprint="of another one")
    wait_for(lambda: filled.row("a").number)
    (study / "c.nii.gz").unlink()
    filled.cases.open(filled.row("c").key)
    wait_for(lambda: filled.row("c").problem)
    assert "not there any more" in filled.told[-1]
    assert filled.session.image == "b"
    filled.cases.open(filled.row("a").key)
    wait_for(lambda: "another image" in filled.told[-1])
    assert (filled.session.image, filled.state.busy) == ("b", "")
    filled.cases.open("nowhere")
    assert filled.told[-1].startswith("This case is not in the list")


def test_each_press_goes_one_further_however_quick(filled):
    filled.cases.open_next()
    filled.cases.open_next()
    assert (filled.state.busy, filled.state.why_no_next) == ("Opening b…", "")
    wait_for(lambda: filled.session.images == ("b",))  # it is there; its values are still being read
    assert filled.session.image is None
    filled.cases.open_next()
    filled.wait_for("c")
    filled.cases.open_previous()
    filled.cases.open_previous()
    filled.wait_for("a")
    assert (filled.session.images, filled.state.busy, filled.told) == (("a",), "", [])


def test_only_the_case_asked_for_last_is_opened(filled):
    for name in "abc":
        filled.cases.open(filled.row(name).key)
    assert filled.state.busy == "Opening c…"
    filled.wait_for("c")
    settle(0.05)
    assert filled.session.images == ("c",)


def test_pictures_are_made_of_what_is_asked_for_and_come_back(filled, study):
    (study / "b.nii.gz").write_bytes(b"nothing")
    filled.cases.want_pictures([filled.row(name).key for name in "ab"])
    wait_for(lambda: filled.row("a").thumbnail and filled.row("b").problem)
    assert Path(filled.row("a").thumbnail).parent == filled.project.folder / "thumbnails"
    assert filled.row("c").thumbnail == ""
    filled.cases.refresh()
    assert filled.row("a").thumbnail
    assert filled.row("b").problem
    filled.coordinator.projects.begin()
    settle()
    assert filled.state.rows == ()


def test_done_filter_and_search_are_kept_apart(filled):
    keys = [filled.row(name).key for name in "ab"]
    filled.cases.mark_done(keys, True)
    filled.cases.show_only("done")
    assert [case.name for case in filled.state.rows] == ["a", "b"]
    filled.cases.search("b")
    assert [case.name for case in filled.state.rows] == ["b"]
    filled.cases.show_only("nonsense")
    assert filled.state.filter == "done"
    filled.cases.mark_done(keys, False)
    assert filled.state.rows == ()
    assert [case.done for case in list_cases(filled.project)] == [False] * 3


# -- one network --


def test_one_network_learns_from_all_labels_and_its_quality_is_kept(filled):
    filled.cohort.train()
    assert filled.told[-1].startswith("Label a few slices")
    for name in "ab":
        filled.label_unseen(name)
    filled.cohort.set_minutes(3)
    filled.cohort.train()
    filled.cohort.train()  # a second click
    wait_for(lambda: filled.worker.asked(TrainCohort))
    (asked,) = filled.worker.asked(TrainCohort)
    assert [case.name for case in asked.cases] == ["a", "b"]
    assert [case.source for case in asked.cases] == [filled.row(name).files[0] for name in "ab"]
    assert Path(asked.folder) == filled.project.folder / "network"
    usual = TrainingConfig()
    assert (asked.training.seconds, asked.training.steps) == (180, 0)
    assert asked.training.learning_rate == usual.learning_rate
    filled.answer(WorkDone(0.5, "Reading"), Noted("b has 2 channels."), HeldOutScored(1, 0.25, {}))
    filled.answer(StepDone(1200, 0.5, 0.5))
    assert filled.state.sentence == "Learning: 1,200 steps. Dice 0.25 on labels held out so far."
    assert (filled.state.progress, filled.state.notes) == (0.5, ("b has 2 channels.",))
    assert filled.session.learning.steps == 0  # what was heard was not of the live session
    assert not any(filled.project.rounds(record.number) for record in filled.project.cases())
    write_network(Path(asked.folder))
    filled.answer(CohortTrained(asked.folder, {"a": 0.5, "b": 0.75}, 0.625))
    assert filled.state.running == ""
    assert [(case.dice, case.by_project) for case in filled.state.rows] == [
        (0.5, True), (0.75, True), (None, False),
    ]  # fmt: skip
    assert "Dice 0.62" in filled.state.quality
    folder = filled.project.folder
    filled.coordinator.projects.begin()
    assert filled.state.rows == ()
    assert "No network" in filled.state.quality
    with Project.open(folder) as again:
        assert read_quality(again).overall == 0.625
        assert again.setting("cohort_minutes") == 3


def test_cases_are_looked_at_while_the_network_learns(filled):
    filled.label_unseen("a")
    filled.cohort.train()
    wait_for(lambda: filled.worker.asked(TrainCohort))
    before = len(filled.worker.requests)
    filled.open("b")
    drawn = filled.label()
    assert filled.state.running == "cohort"
    sent = filled.worker.requests[before:]
    assert not [request for request in sent if isinstance(request, OpenImage | CloseImage)]
    asked = filled.worker.asked(TrainCohort)[-1]
    write_network(Path(asked.folder))
    filled.answer(CohortTrained(asked.folder, {"a": 0.5}, 0.5))
    opened = filled.worker.asked(OpenImage)[-1]
    assert opened.name == "b"
    assert filled.worker.requests.index(opened) > before
    assert np.array_equal(filled.place.desk.labels, drawn)


def test_stopping_errors_and_other_jobs(filled):
    filled.label_unseen("a")
    filled.session.pretrain.running = "probe"
    filled.cohort.train()
    assert filled.told[-1].startswith("Encoders are being compared")
    filled.session.pretrain.running = ""
    filled.cohort.train()
    wait_for(lambda: filled.worker.asked(TrainCohort))
    filled.coordinator.pretrain.probe()
    assert not filled.worker.asked(ProbeEncoders)
    filled.cohort.cancel()
    assert filled.state.sentence.startswith("Stopped.")
    assert isinstance(filled.worker.requests[-1], CloseImage)  # no image is open: nothing else would end it
    filled.cohort.train()
    filled.answer(Failed("the disk is full."))
    assert filled.state.sentence == "Nothing was made: the disk is full."
    filled.cohort.train()
    filled.cohort.cancel()  # while labels are gathered
    settle()
    asked = len(filled.worker.asked(TrainCohort))
    filled.cohort.train()
    wait_for(lambda: len(filled.worker.asked(TrainCohort)) > asked)
    filled.session.running = True
    for _ in range(2):
        filled.cohort.train()
        filled.worker.on_exit("The computing process ended.")
        settle()
        assert filled.state.running == ""
    assert filled.session.training.precision == "auto"  # learning from strokes was not to blame
    filled.session.running = False
    filled.place.link.alive, filled.session.worker = False, "gone"  # it ended again and again
    starts = filled.worker.starts
    filled.cohort.train()
    settle()
    assert filled.worker.starts == starts + 1
    assert (filled.state.running, filled.session.worker) == ("cohort", "ready")
    filled.coordinator.predict.restart()  # would end the work
    assert filled.told[-1].startswith("A network is learning from all cases")
    assert not filled.worker.asked(Restart)


# -- which next --


def test_without_a_network_the_first_unlabelled_case_is_next(filled):
    filled.label_unseen("a")
    filled.cohort.ask_which_next()
    assert filled.state.advised == filled.row("b").key
    assert "no network has learnt" in filled.state.advice
    filled.cases.open_advised()
    filled.wait_for("b")
    assert filled.state.advice == ""
    filled.cases.open_advised()
    assert filled.told[-1].startswith("No case is recommended")


def test_the_network_is_asked_about_each_case_once_and_its_answer_is_kept(filled):
    filled.label_unseen("a")
    filled.train()
    filled.cases.mark_done([filled.row("a").key], True)
    filled.cohort.ask_which_next()
    asked = filled.worker.asked(JudgeCases)[-1]
    sources = [filled.row(name).key for name in "bc"]
    assert asked.sources == tuple(sources)
    assert asked.model == str(filled.project.folder / "network")
    filled.answer(CaseJudged(sources[0], 0.125, ()))
    assert filled.state.running == "judge"
    filled.cohort.cancel()  # what was seen is kept
    filled.cohort.ask_which_next()
    asked = filled.worker.asked(JudgeCases)[-1]
    assert asked.sources == (sources[1],)
    filled.answer(CaseJudged(sources[1], 0.5, ()))
    assert filled.state.running == ""
    assert filled.state.advice == "c: the network is least sure here: 0.50, the other one 0.12."
    assert [case.judgement and case.judgement.uncertainty for case in list_cases(filled.project)] == [
        None, 0.125, 0.5,
    ]  # fmt: skip
    before = len(filled.worker.asked(JudgeCases))
    filled.cohort.ask_which_next()  # all is known
    assert len(filled.worker.asked(JudgeCases)) == before
    assert filled.state.advised == sources[1]
    filled.label_unseen("b")
    filled.cases.mark_done([filled.row("a").key], False)
    filled.train()
    assert not any(case.judgement and case.judgement.current for case in filled.session.cohort.cases)
    filled.cohort.ask_which_next()
    asked = filled.worker.asked(JudgeCases)[-1]
    assert len(asked.sources) == 3
    filled.answer(*(CaseJudged(source, 0.0, (), "it is damaged.") for source in asked.sources))
    assert filled.state.advised == ""
    assert all(case.problem for case in filled.session.cohort.cases)
    assert len(filled.state.notes) == 3
