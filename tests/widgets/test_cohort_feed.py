"""What the worker hears of the project's network and of its other cases, whichever image is opened."""

import numpy as np
import pytest

from napari_sparseseg.cohort_requests import LearnFrom, TrainCohort
from napari_sparseseg.project_cohort import network_folder
from napari_sparseseg.project_encoders import ENCODERS
from napari_sparseseg.requests import Configure, OpenImage, Paint, StartFrom, Train
from napari_sparseseg.volume import save_map, volume_from_array
from napari_sparseseg.widgets.cohort_feed import CohortFeed
from napari_sparseseg.widgets.states import train_state
from tests.encoder_folders import make_encoder
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
    settle()


@pytest.fixture
def window(viewer, make_coordinator, workers, told, tmp_path, image):
    """Three cases: a and b have labels."""
    folder = tmp_path / "study"
    folder.mkdir()
    for number, name in enumerate("abc"):
        values = image + number
        save_map(folder / f"{name}.nii.gz", values, volume_from_array(values, affine=np.diag([3.0, 1, 1, 1])))
    coordinator = make_coordinator(viewer)
    wait_for(lambda: coordinator.session.worker == "ready")
    made = Window(viewer, coordinator, workers[0], told)
    made.add(folder)
    for name, slices in (("a", (6,)), ("b", (3, 5))):
        made.label_unseen(name, slices)
    return made


def heard_of(window, name):
    """Return what the worker heard since it was told of an image: requests and the names of other cases."""
    requests = window.worker.requests
    begin = max(i for i, each in enumerate(requests) if isinstance(each, OpenImage) and each.name == name)
    return requests[begin:]


def others_of(requests):
    """Return the other cases that the network learns from; None where none were told of."""
    told = [each for each in requests if isinstance(each, LearnFrom)]
    return [case.name for case in told[-1].cases] if told else None


def feed(window):
    """Let all labels be gathered."""
    (found,) = window.place.findChildren(CohortFeed)
    wait_for(lambda: found._gathering is None)
    return found


def test_the_network_in_work_learns_from_all_cases_but_its_own(window):
    for name, expected in (("c", ["a", "b"]), ("a", ["b"]), ("b", ["a"])):
        window.open(name)
        feed(window)
        heard = heard_of(window, name)
        assert others_of(heard) == expected
        assert sum(isinstance(each, LearnFrom) for each in heard) == 1
        own = [each.voxels for each in heard if isinstance(each, Paint)]
        assert bool(own) == (name != "c")
    (case,) = next(each for each in heard if isinstance(each, LearnFrom)).cases
    labels = window.project.labels(1).reshape(-1)
    assert np.array_equal(case.voxels, np.flatnonzero(labels))
    assert np.array_equal(case.values, labels[case.voxels])
    assert (case.source, case.spacing) == (window.row("a").files[0], (3, 1, 1))


def test_new_labels_are_told_of_when_the_next_image_is_opened(window):
    window.open("c")
    window.label()
    window.open("a")
    feed(window)
    assert others_of(heard_of(window, "a")) == ["b", "c"]
    window.open("c")  # and back
    feed(window)
    assert others_of(heard_of(window, "c")) == ["a", "b"]


def test_of_an_image_that_was_left_meanwhile_nothing_is_told(window):
    window.open("c")
    feed(window)
    before = len(window.worker.asked(LearnFrom))
    window.place.send_image(again=True)
    window.coordinator.images.leave()
    settle(0.05)
    assert len(window.worker.asked(LearnFrom)) == before
    window.open("a")
    window.project.add_case("d", SHAPE, (3, 1, 1), np.eye(4))
    window.place.send_image(again=True)
    window.coordinator.projects.begin()  # the project is closed while labels are gathered
    settle(0.05)
    assert others_of(window.worker.requests[-1:]) is None
    assert not window.told


def test_no_more_cases_are_told_of_than_a_network_can_answer_from_at_once(window, monkeypatch):
    monkeypatch.setattr("napari_sparseseg.widgets.cohort_feed._MOST_CASES", 1)
    window.open("c")
    feed(window)
    assert others_of(heard_of(window, "c")) == ["a"]


def test_networks_start_from_that_of_all_cases_and_else_from_an_encoder(window):
    encoder = make_encoder(window.project.folder / ENCODERS / "denoising-1")
    window.place.desk.list_encoders(window.session)
    window.session.encoders.used = str(encoder)
    window.open("a")
    heard = heard_of(window, "a")
    assert [each.folder for each in heard if isinstance(each, StartFrom)] == [str(encoder)]
    assert train_state(window.session).has_encoder
    window.train()  # now there is one; the image is told of again
    heard = heard_of(window, "a")
    kinds = [type(each) for each in heard]
    (start,) = (each for each in heard if isinstance(each, StartFrom))
    assert start.folder == str(network_folder(window.project))
    assert kinds[0] is OpenImage
    assert kinds.index(Configure) < kinds.index(StartFrom) < kinds.index(Train)
    feed(window)
    assert others_of(heard_of(window, "a")) == ["b"]
    state = train_state(window.session)
    assert ("all cases" in state.start, state.has_encoder) == (True, False)
    window.open("c")
    assert [each for each in heard_of(window, "c") if isinstance(each, StartFrom)] == [start]


def test_while_all_cases_are_worked_on_nothing_is_told_but_afterwards_all(window):
    window.cohort.train()
    wait_for(lambda: window.worker.asked(TrainCohort))
    before = len(window.worker.requests)
    window.open("b")
    settle(0.05)
    told = window.worker.requests[before:]
    assert not [each for each in told if isinstance(each, OpenImage | StartFrom | LearnFrom)]
    write_network(network_folder(window.project))
    window.cohort.cancel()
    feed(window)
    heard = heard_of(window, "b")
    assert others_of(heard) == ["a"]
    assert any(isinstance(each, StartFrom) for each in heard)
    assert window.worker.requests.index(heard[0]) > before
