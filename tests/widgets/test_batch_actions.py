"""Many volumes by one network: which requests go out, and what is known afterwards."""

import json
from pathlib import Path

import numpy as np
import pytest
from napari.utils.color import ColorValue

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.batch_ledger import write_record
from napari_sparseseg.batch_records import BatchRecord
from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.cohort_events import BatchCaseDone, BatchFinished
from napari_sparseseg.cohort_requests import PredictBatch
from napari_sparseseg.events import Failed, Noted, WindowDone, WorkDone
from napari_sparseseg.requests import CloseImage, OpenImage, SaveModel
from napari_sparseseg.settings import InferenceConfig
from napari_sparseseg.volume import save_labels, save_map, volume_from_array
from napari_sparseseg.widgets.batch_actions import suggest_folder
from napari_sparseseg.widgets.batch_states import batch_state
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
def window(viewer, make_coordinator, workers, told):
    """A window without an image."""
    return Window(viewer, make_coordinator(viewer), workers, told)


@pytest.fixture
def window_with_image(viewer, make_coordinator, workers, told, image):
    viewer.add_image(image, name="scan", scale=(3, 1, 1))
    window = Window(viewer, make_coordinator(viewer), workers, told)
    wait_for(lambda: window.session.image == "scan")
    settle()
    return window


class Window:
    """What a user can ask for, and what the worker says."""

    def __init__(self, viewer, coordinator, workers, told):
        self.viewer, self.coordinator, self.told = viewer, coordinator, told
        self.session, self.place, self.batch = coordinator.session, coordinator._place, coordinator.batch
        self.work = self.session.batching
        wait_for(lambda: self.session.worker == "ready")
        self.worker = workers[0]

    @property
    def state(self):
        return batch_state(self.session)

    def answer(self, *events):
        for event in events:
            self.worker.on_event(event)
        settle()

    def choose(self, *sources):
        self.batch.choose_sources(tuple(map(str, sources)))
        wait_for(lambda: not self.work.looking)

    def prepare(self, folder):
        """Choose volumes and a network."""
        self.choose(folder / "scans")
        self.batch.choose_network_folder(str(write_network(folder / "model")))


def write_network(folder):
    """Write the description of a network, which is all that the window reads."""
    folder.mkdir(parents=True, exist_ok=True)
    table = ClassTable.from_values([2, 3]).to_json()
    description = {"format": "napari-sparseseg model", "classes": table, "channels": 1, "summary": {}}
    (folder / "model.json").write_text(json.dumps(description))
    return folder


@pytest.fixture
def folder(tmp_path, image):
    """A folder with two volumes."""
    (tmp_path / "scans").mkdir()
    volume = volume_from_array(image, spacing=(3, 1, 1), affine=np.diag([3.0, 1, 1, 1]))
    for name in "ab":
        save_map(tmp_path / "scans" / f"{name}.nii.gz", image, volume)
    return tmp_path


def test_volumes_are_found_and_a_folder_is_proposed(window, folder):
    window.choose(folder / "scans")
    assert window.state.sources_words == "scans · 2 volumes"
    assert window.state.out == str(folder / "scans masks")
    window.choose(folder / "scans" / "a.nii.gz", folder / "scans" / "b.nii.gz")
    assert window.state.sources_words == "a.nii.gz and 1 more · 2 volumes"
    assert window.state.out == str(folder / "scans" / "masks") == suggest_folder(window.work.sources[0])
    window.batch.choose_out(str(folder / "mine"))
    manifest = folder / "list.csv"
    manifest.write_text("image\nscans/a.nii.gz\n")
    window.choose(manifest)
    assert (window.state.sources_words, window.state.out) == ("list.csv · 1 volume", str(folder / "mine"))
    manifest.write_text("picture\nscans/a.nii.gz\n")
    window.choose(manifest)
    assert window.state.sources == ()
    assert len(window.told) == 1
    window.choose()
    assert window.state.sources_words == ""


def test_a_batch_runs_without_an_image_and_is_told_of(window, folder):
    window.prepare(folder)
    window.batch.change_settings(BatchConfig(formats="nrrd"), InferenceConfig(fill_holes=True))
    window.batch.run()
    window.batch.run()  # a second click came before the panel showed the first
    out = str(folder / "scans masks")
    assert window.worker.asked(PredictBatch) == [
        PredictBatch(
            (str(folder / "scans"),), str(folder / "model"), out, BatchConfig(formats="nrrd"),
            InferenceConfig(fill_holes=True),
        )
    ]  # fmt: skip
    assert window.state.running
    assert window.state.progress is None
    window.answer(WorkDone(0.5, "reading a"))
    assert window.state.sentence == "Reading a…"
    window.work.began -= 100
    window.answer(WindowDone(1, 2), Noted("Slow today."))
    assert window.state.progress == 0.25
    assert window.state.notes == ("Slow today.",)
    assert 290 < window.work.left < 320
    window.answer(BatchCaseDone(1, 2, "a", f"{out}/a.nrrd", volumes_ml={"class 2": 12.3}))
    assert window.state.sentence == "1 of 2 done, about 2 min left"
    window.answer(WindowDone(1, 4))
    assert window.state.progress == 0.625
    window.answer(BatchCaseDone(2, 2, "b", "", error="b.nii.gz is damaged; copy it again."))
    window.answer(BatchFinished(f"{out}/report.html", 1, 0, 1))
    state = window.state
    assert not state.running
    assert state.sentence.startswith("1 volume is segmented, 1 could not be.")
    assert state.report == f"{out}/report.html"
    assert [row.name for row in state.rows] == ["b", "a"]
    assert isinstance(window.worker.requests[-1], CloseImage)  # nothing else is to be done
    assert not window.told


def test_stopping_says_how_to_go_on(window, folder):
    window.prepare(folder)
    window.batch.run()
    for change in (
        lambda: window.batch.choose_sources(()), lambda: window.batch.choose_out("/x"),
        lambda: window.batch.choose_network("live"), lambda: window.batch.choose_network_folder("/x"),
    ):  # fmt: skip
        change()
    assert len(window.told) == 4
    assert window.state.out == str(folder / "scans masks")
    window.answer(BatchCaseDone(1, 2, "a", "/m/a.nii.gz"))
    window.batch.cancel()
    assert isinstance(window.worker.requests[-1], CloseImage)
    assert window.state.sentence == (
        "Stopped after 1 of 2. With the same volumes, network and settings, Run goes on from here."
    )
    window.batch.run()
    assert window.state.rows == ()
    first, second = window.worker.asked(PredictBatch)
    assert first == second
    window.answer(BatchCaseDone(1, 2, "a", "/m/a.nii.gz", skipped=True))
    assert window.work.computed == 0
    window.answer(Failed("The folder is full."))
    assert window.state.sentence == "Nothing was made: The folder is full."
    window.batch.run()
    window.worker.on_exit("The background worker ended.")
    settle()
    assert "what is done is not done again" in window.state.sentence


def test_what_is_missing_is_told(window, folder):
    window.batch.run()
    window.choose(folder / "scans")
    window.batch.run()
    window.batch.choose_network_folder(str(folder))
    assert [sentence.split()[0] for sentence in window.told] == ["Choose", "There", str(folder)]
    assert not window.worker.asked(PredictBatch)


def test_a_worker_that_was_given_up_is_started_for_it(window, folder):
    window.prepare(folder)
    window.place.link.alive, window.session.worker = False, "gone"
    window.batch.run()
    assert window.worker.starts == 2
    assert len(window.worker.asked(PredictBatch)) == 1


def test_the_network_in_work_is_saved_first_and_kept_for_going_on(window_with_image, folder):
    window = window_with_image
    with window.viewer.layers["labels of scan"].block_history():
        window.viewer.layers["labels of scan"].paint((6, 20, 24), 2)
    window.coordinator.predict.train(True)
    settle()
    window.choose(folder / "scans")
    assert window.state.network == "live"
    out = folder / "scans masks"
    write_network(out / "network")
    opened = len(window.worker.asked(OpenImage))
    window.batch.run()
    assert window.state.sentence == "Saving the network…"
    settle()
    assert window.worker.asked(SaveModel) == [SaveModel(str(out / "network"))]
    assert [request.model for request in window.worker.asked(PredictBatch)] == [str(out / "network")]
    assert (window.state.network, window.state.networks["folder"]) == ("folder", "scans masks/network")
    assert not window.told

    # images come and go meanwhile, and the worker is told of the last one afterwards
    window.viewer.layers.remove("scan")
    wait_for(lambda: window.session.image is None)
    window.viewer.add_image(np.zeros((4, 8, 8), np.float32), name="other")
    wait_for(lambda: window.session.image == "other")
    window.batch.choose_network("folder")
    assert window.state.running
    assert len(window.worker.asked(OpenImage)) == opened
    assert not window.worker.asked(CloseImage)
    window.answer(BatchFinished(str(out / "report.html"), 2, 0, 0))
    assert len(window.worker.asked(OpenImage)) == opened + 1
    assert not window.state.running


def test_a_network_that_cannot_be_saved_ends_it(window_with_image, folder):
    window = window_with_image
    window.session.learning.steps = 5
    window.choose(folder / "scans")
    window.worker.send = window.worker.requests.append  # it answers no more
    window.batch.run()
    window.answer(Failed("no network has learnt yet; start learning first."))
    assert not window.state.running
    assert window.state.sentence.startswith("Nothing was made: no network has learnt yet")
    assert not window.worker.asked(PredictBatch)
    window.batch.run()
    window.batch.cancel()
    assert not window.state.running


def test_a_result_is_shown_with_its_mask_in_place_of_the_last(window_with_image, folder, image):
    window, out = window_with_image, folder / "scans masks"
    window.prepare(folder)
    window.batch.run()
    volume = volume_from_array(image, spacing=(3, 1, 1), affine=np.diag([3.0, 1, 1, 1]))
    for number, name in enumerate("ab", 1):
        save_labels(out / f"{name}.nii.gz", 3 * (image > 0.5).astype(np.int32), volume)
        write_record(out, BatchRecord(name, (str(folder / "scans" / f"{name}.nii.gz"),)))
        window.answer(BatchCaseDone(number, 3, name, str(out / f"{name}.nii.gz")))
    window.answer(BatchCaseDone(3, 3, "c", "", error="c is damaged; copy it again."))
    for name in "ab":
        window.batch.show_result(name)
        wait_for(lambda name=name: f"mask of {name}" in window.viewer.layers)
    assert "mask of a" not in window.viewer.layers
    assert "a" not in window.viewer.layers
    mask, scan = window.viewer.layers["mask of b"], window.viewer.layers["b"]
    np.testing.assert_array_equal(mask.data, 3 * (image > 0.5))
    np.testing.assert_allclose(mask.affine.affine_matrix, scan.affine.affine_matrix)
    wanted = ColorValue(ClassTable.from_values([2, 3]).classes[2].color)
    np.testing.assert_allclose(mask.colormap.color_dict[3], wanted)
    assert window.session.image == "scan"  # which is worked on as before
    window.batch.show_result("c")
    assert window.told == ["c has no mask: c is damaged; copy it again."]
    Path(out, "b.nii.gz").unlink()
    window.batch.show_result("b")
    wait_for(lambda: len(window.told) == 2)
    assert "b.nii.gz" in window.told[1]


def test_what_was_chosen_survives_its_project(window_with_image, folder):
    window = window_with_image
    with window.viewer.layers["labels of scan"].block_history():
        window.viewer.layers["labels of scan"].paint((6, 20, 24), 2)
    window.prepare(folder)
    window.batch.choose_out(str(folder / "mine"))
    window.batch.change_settings(BatchConfig(formats="mha"), window.session.inference)
    project = window.place.desk.project.folder
    write_network(project / "network")
    window.coordinator.projects.begin()
    window.choose(folder / "scans" / "a.nii.gz")
    window.coordinator.projects.open(project)
    wait_for(lambda: window.session.image and not window.work.looking)
    state = window.state
    assert state.sources_words == "scans · 2 volumes"
    assert (state.out, state.network, state.config.formats) == (str(folder / "mine"), "folder", "mha")
    assert set(state.networks) >= {"project", "folder"}
    window.work.take_choice({"sources": 3, "network": None})
    assert window.state.out == str(folder / "mine")
