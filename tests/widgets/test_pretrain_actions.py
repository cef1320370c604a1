"""Learning without labels: which requests go out, what project, layers and session hold afterwards."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg.events import (
    EncoderProbed,
    Failed,
    ImageReady,
    Noted,
    StepDone,
    WorkDone,
)
from napari_sparseseg.requests import (
    Configure,
    LabelBoxes,
    OpenImage,
    Pretrain,
    ProbeEncoders,
    StartFrom,
    TrainClassifier,
)
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.volume import save_map, volume_from_array
from napari_sparseseg.widgets.states import train_state
from tests.encoder_folders import make_encoder, make_state
from tests.widgets.conftest import settle, wait_for
from tests.widgets.pretrain_window import Window, make_pictures, score


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
def window(viewer, make_coordinator, image, workers, told):
    viewer.add_image(image, name="scan", scale=(3, 1, 1))
    return opened(viewer, make_coordinator, workers, told)


def opened(viewer, make_coordinator, workers, told):
    coordinator = make_coordinator(viewer)
    wait_for(lambda: coordinator.session.image == "scan" and coordinator.session.worker == "ready")
    settle()
    return Window(viewer, coordinator, workers[0], told)


def write_volumes(folder, image, names):
    folder.mkdir(parents=True, exist_ok=True)
    volume = volume_from_array(image, spacing=(3, 1, 1), affine=np.diag([3.0, 1, 1, 1]))
    for name in names:
        save_map(folder / name, image, volume)


def choose(window, folder):
    window.pretrain.choose_folder(str(folder))
    wait_for(lambda: not window.session.volumes.looking)


# -- learning --


def test_an_encoder_learns_is_listed_and_used(window):
    assert window.project is None
    assert window.state.config.seconds == 120
    folder = window.learn()
    assert Path(folder) == window.project.folder / "encoders" / "masked_autoencoder-1"
    asked = window.worker.asked(Pretrain)[0]
    assert (asked.uses_image, asked.files, asked.image) == (True, (), window.worker.image.image)
    state = window.state
    assert [(row.folder, row.name) for row in state.encoders] == [(folder, "masked_autoencoder-1")]
    assert (state.chosen, state.used, state.running) == (folder, "", "")
    assert state.sentence == "The encoder has learnt; use it for training, or compare it."
    assert (state.losses, state.figures, state.alignments) == (((1, 0.7),), ((1, 0.5),), ((1, 0.5),))
    assert (state.uniformities, state.trivial) == (((1, -2.0),), 0.25)
    assert type(window.worker.requests[-1]) is not Pretrain  # the live session goes on
    assert len(window.worker.asked(OpenImage)) == 2
    assert not window.worker.asked(StartFrom)
    window.pretrain.use_encoder(folder)
    assert window.worker.requests[-1] == StartFrom(folder)
    assert train_state(window.session).start == "Fill in hidden blocks 1 (3 volumes)"
    assert window.state.why_no_use == ""
    window.pretrain.use_encoder("")
    assert window.worker.requests[-1] == StartFrom("")
    assert train_state(window.session).start == ""
    assert not window.told


def test_learning_shows_how_it_goes(window):
    window.pretrain.train()
    assert window.state.sentence == "Looking at the volumes…"
    window.pretrain.train()  # a second click came before the panel showed the first
    assert len(window.worker.asked(Pretrain)) == 1
    window.answer(WorkDone(0.5, "Looking at the volumes"), Noted("b is left out."))
    assert (window.state.progress, window.state.notes) == (0.5, ("b is left out.",))
    window.answer(StepDone(1500, 0.5, 0.25), score(1500, spread=0.05, collapsed=True))
    assert (window.state.progress, window.state.sentence) == (0.25, "Learning: 1,500 steps.")
    assert window.state.collapsed
    assert window.state.why_no_train == window.state.why_no_probe != ""
    window.pretrain.cancel()
    state = window.state
    assert (state.running, state.progress) == ("", None)
    assert state.sentence.startswith("Stopped.")
    assert state.losses == ((1500, 0.5),)
    assert window.session.learning.steps == 0  # what was heard was not of the live session
    window.pretrain.train()
    assert window.state.losses == window.state.figures == ()
    assert window.state.trivial is None


def test_what_was_stopped_is_gone_on_with_and_never_written_over(window):
    def begin():
        window.pretrain.train()
        return Path(window.worker.asked(Pretrain)[-1].folder)

    def stop():
        window.pretrain.cancel()
        window.answer(ImageReady())  # by now the state is written

    first = begin()
    make_state(first)
    stop()
    assert [row.words for row in window.state.encoders] == ["unfinished: 7 steps"]
    assert begin() == first
    stop()
    finished = make_encoder(first.with_name("masked_autoencoder-2"))
    assert begin() == first.with_name("masked_autoencoder-3")
    stop()
    assert [row.folder for row in window.state.encoders] == [str(first), str(finished)]
    window.pretrain.use_encoder(str(first))
    assert window.told == ["It has not learnt to the end: let it go on learning first."]
    assert not window.worker.asked(StartFrom)


def test_an_error_ends_it_and_learning_from_strokes_goes_on(window):
    window.pretrain.train()
    sentence = "“Tell classes apart” diverged; choose “Tell pieces apart”, not supconx."
    window.answer(Failed("supcon diverged; choose simclr, not supconx."))
    assert window.state.running == ""
    assert window.state.sentence == f"Nothing was made: {sentence}"
    assert window.told == [sentence]
    assert len(window.worker.asked(OpenImage)) == 2
    window.pretrain.train()
    window.worker.on_exit("The computing process ended.")
    settle()
    assert window.state.running == ""
    assert window.state.sentence == "Stopped: the computing process ended."


def test_other_jobs_are_waited_for(window):
    window.session.cam.running = "classifier"
    window.pretrain.train()
    window.label()
    window.pretrain.probe()
    assert not window.worker.asked(Pretrain)
    assert not window.worker.asked(ProbeEncoders)
    assert all(sentence.startswith("A classifier is learning") for sentence in window.told)
    assert len(window.told) == 2


# -- volumes --


def test_volumes_come_from_a_folder_but_the_image_only_once(
    viewer, make_coordinator, image, workers, told, tmp_path
):
    write_volumes(tmp_path / "scans" / "more", image, ["c.nii.gz"])
    write_volumes(tmp_path / "scans", image, ["scan.nii.gz", "b.nii.gz"])
    (tmp_path / "scans" / "notes.txt").write_text("nothing")
    viewer.open(str(tmp_path / "scans" / "scan.nii.gz"), plugin="napari-sparseseg")
    window = opened(viewer, make_coordinator, workers, told)
    choose(window, tmp_path / "scans")
    assert (window.state.folder, window.state.folder_count) == (str(tmp_path / "scans"), 3)
    window.pretrain.train()
    asked = window.worker.asked(Pretrain)[-1]
    assert [Path(file).name for file in asked.files] == ["b.nii.gz", "c.nii.gz"]
    window.pretrain.cancel()
    window.pretrain.use_image(False)
    window.pretrain.train()
    asked = window.worker.asked(Pretrain)[-1]
    assert not asked.uses_image
    assert sorted(Path(file).name for file in asked.files) == ["b.nii.gz", "c.nii.gz", "scan.nii.gz"]
    window.pretrain.cancel()
    window.pretrain.choose_folder("")
    assert (window.state.folder, window.state.folder_count) == ("", 0)
    window.pretrain.train()
    assert told[-1].startswith("Choose what to learn from")
    (tmp_path / "empty").mkdir()
    choose(window, tmp_path / "empty")
    assert told[-1].endswith("holds no volume that can be read; choose another folder.")
    choose(window, tmp_path / "nowhere")
    assert window.state.folder == ""
    assert len(workers[0].asked(Pretrain)) == 2


def test_other_images_of_the_project_join_in_while_they_are_there(
    viewer, make_coordinator, image, workers, told, tmp_path
):
    write_volumes(tmp_path, image, ["a.nii.gz", "b.nii.gz"])
    viewer.add_image(image, name="scan", scale=(3, 1, 1))
    window = opened(viewer, make_coordinator, workers, told)
    assert window.state.why_no_project
    window.label()
    for number, name in enumerate(("a", "b", "gone")):
        window.project.add_case(
            name, image.shape, (3, 1, 1), np.eye(4), source=str(tmp_path / f"{name}.nii.gz"),
            fingerprint=str(number),
        )  # fmt: skip
    window.pretrain.use_project(True)
    assert (window.state.project_count, window.state.why_no_project) == (2, "")
    (tmp_path / "b.nii.gz").unlink()
    choose(window, tmp_path)  # where the same file lies
    window.pretrain.train()
    asked = window.worker.asked(Pretrain)[-1]
    assert asked.files == (str(tmp_path / "a.nii.gz"),)
    labels = window.place.desk.labels.reshape(-1)
    np.testing.assert_array_equal(asked.voxels, np.flatnonzero(labels))
    np.testing.assert_array_equal(asked.values, labels[asked.voxels])


# -- pictures --


def test_pictures_come_and_go_with_the_image(window):
    window.pretrain.train()
    window.answer(make_pictures())
    assert window.state.pictured
    assert len(window.pictures) == 3
    assert window.viewer.layers.selection.active == window.viewer.layers["labels of scan"]
    assert window.session.images == ("scan",)  # pictures are no images to work on
    window.pretrain.clear_pictures()
    assert not window.pictures
    assert window.state.why_no_clear_pictures
    window.answer(make_pictures(seed=1))
    assert len(window.pictures) == 3
    for layer in window.pictures:
        window.viewer.layers.remove(layer)
    assert not window.state.pictured
    window.answer(make_pictures(seed=2))
    window.viewer.dims.set_point(0, 30)
    window.coordinator.annotate.turn(2)
    settle()
    assert all(layer.extent.world[0][2] < 48 for layer in window.pictures)  # turned, x goes into the depth
    window.viewer.layers.remove("scan")
    wait_for(lambda: window.session.image is None)
    assert not window.pictures
    assert (window.state.pictured, window.state.running) == (False, "")


# -- encoders --


def test_an_encoder_in_use_is_told_of_wherever_networks_learn(window, projects):
    window.label()
    used = window.learn()
    window.pretrain.use_encoder(used)
    window.pretrain.train()
    window.pretrain.cancel()
    kinds = [type(request) for request in window.worker.requests]
    after = kinds[len(kinds) - 1 - kinds[::-1].index(OpenImage) :]
    assert after[:3] == [OpenImage, Configure, StartFrom]
    window.coordinator.cam.add_volume_label(True)
    window.coordinator.cam.train()
    assert window.worker.asked(TrainClassifier)[-1].encoder == used
    window.coordinator.cam.cancel()
    hints, case = window.place.desk.hints()
    hints.add_box(case, 2, (2, 8, 8), (8, 30, 30))
    window.session.boxes.records = hints.boxes(case)
    window.coordinator.boxes.run()
    assert window.worker.asked(LabelBoxes)[-1].encoder == used
    window.coordinator.boxes.cancel()

    # one of another network is kept in mind, and not used
    training = window.session.training
    window.coordinator.predict.change_settings(training, NetworkConfig(size="medium"))
    assert window.worker.requests[-1] == StartFrom("")
    assert train_state(window.session).start.startswith("random weights, not from")
    window.coordinator.boxes.run()
    assert window.worker.asked(LabelBoxes)[-1].encoder == ""
    window.coordinator.boxes.cancel()
    window.coordinator.predict.change_settings(training, NetworkConfig())
    assert window.worker.requests[-1] == StartFrom(used)


def test_settings_figures_and_the_encoder_in_use_survive_their_project(window, projects):
    window.pretrain.change_settings(
        replace(window.session.pretraining, task="jigsaw", seconds=30),
        replace(window.session.pretext, tiles=3),
    )
    used = window.learn()
    window.pretrain.use_encoder(used)
    window.label()
    window.compare(0.25, 0.5)
    moved = window.project.folder.with_name("moved")
    window.coordinator.projects.begin()
    wait_for(lambda: window.session.image == "scan")
    assert (window.state.encoders, window.state.used, window.state.probes) == ((), "", ())
    moved.parent.joinpath(Path(used).parts[-3]).rename(moved)
    window.coordinator.projects.open(moved)
    wait_for(lambda: window.session.image)
    state = window.state
    assert (state.config.task, state.config.seconds, state.pretext.tiles) == ("jigsaw", 30, 3)
    assert state.used == state.chosen == str(moved / "encoders" / "jigsaw-1")
    assert state.probes == (("", 0.25), ("jigsaw-1", 0.5))
    assert window.worker.asked(StartFrom)[-1] == StartFrom(state.used)


def test_a_deleted_encoder_is_used_no_longer(window):
    folders = [window.learn(), window.learn()]
    window.pretrain.use_encoder(folders[0])
    window.pretrain.choose_encoder("nowhere")
    assert window.state.chosen == folders[1]
    assert window.state.sentence  # of what has learnt last
    window.pretrain.delete_encoder(folders[0])
    assert window.state.sentence == ""
    assert window.worker.requests[-1] == StartFrom("")
    assert not Path(folders[0]).exists()
    assert [row.folder for row in window.state.encoders] == folders[1:]
    assert window.project.setting("encoder") == ""
    window.pretrain.delete_encoder(folders[0])
    assert window.told == ["There is no encoder to delete."]
    window.pretrain.delete_encoder(folders[1])
    assert (window.state.encoders, window.state.chosen) == ((), "")


def test_encoders_are_compared_and_the_figures_kept(window):
    first, second = window.learn(), window.learn()
    window.learn(channels=2)  # it cannot look at this image
    window.pretrain.probe()
    assert window.told[-1].startswith("Label some voxels")
    window.label()
    window.compare(0.25, 0.5, 0.75)
    asked = window.worker.asked(ProbeEncoders)[-1]
    assert asked.folders == (first, second)
    assert len(asked.voxels) == len(asked.values) > 0
    names = [Path(folder).name for folder in (first, second)]
    state = window.state
    assert state.probes == (("", 0.25), (names[0], 0.5), (names[1], 0.75))
    assert [row.dice for row in state.encoders] == [0.5, 0.75, None]
    assert state.running == ""
    assert state.sentence == "Fill in hidden blocks 2 did best: Dice 0.75, +0.50 against random weights."
    assert json.loads(Path(second, "probe.json").read_text())["dice"] == 0.75


def test_a_comparison_that_is_stopped_keeps_its_bars(window):
    folder = window.learn()
    window.label()
    window.pretrain.probe()
    window.pretrain.probe()
    assert len(window.worker.asked(ProbeEncoders)) == 1
    window.answer(WorkDone(0.0, "Measuring"), EncoderProbed("", 0.5, {}))
    assert (window.state.running, window.state.probes) == ("probe", (("", 0.5),))
    window.pretrain.cancel()
    assert (window.state.running, window.state.sentence) == ("", "Stopped.")
    assert window.state.probes == (("", 0.5),)
    window.compare(0.5, 0.25)
    assert window.state.sentence.startswith("Random weights did best")
    window.pretrain.probe()
    window.answer(
        EncoderProbed("", float("nan"), {}),
        Noted(f"{folder} cannot be measured."),
        WorkDone(1.0, "Measuring"),
    )
    assert window.state.sentence == "Nothing could be measured: see the notes."
