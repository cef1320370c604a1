"""The loop in one viewer: choose, paint, see, correct, save, come back."""

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_sparseseg.annotation import source_code
from napari_sparseseg.events import Failed
from napari_sparseseg.project import Project, recent_projects
from napari_sparseseg.requests import (
    CloseImage,
    Configure,
    KeepState,
    Look,
    OpenImage,
    Paint,
    SetClasses,
    Train,
)
from napari_sparseseg.widgets.states import annotate_state, dock_state, predict_state, train_state
from tests.widgets.conftest import settle, wait_for


@pytest.fixture
def loop(viewer, make_coordinator, image, workers, told):
    """A coordinator that works on an image, and its worker."""
    viewer.add_image(image, name="scan", scale=(3, 1, 1))
    coordinator = make_coordinator(viewer)
    wait_for(lambda: coordinator.session.image == "scan")
    settle()
    return coordinator, workers[0]


def annotation(viewer):
    return viewer.layers["labels of scan"]


def stroke(viewer, place, value):
    layer = annotation(viewer)
    with layer.block_history():
        layer.paint(place, value)


def test_the_only_image_is_opened_with_its_layers(viewer, loop):
    coordinator, worker = loop
    assert {"labels of scan", "prediction of scan", "uncertainty of scan"} <= {
        layer.name for layer in viewer.layers
    }
    assert viewer.layers.selection.active is annotation(viewer)
    assert str(annotation(viewer).mode) == "paint"
    assert not viewer.layers["uncertainty of scan"].visible
    (opened,) = worker.asked(OpenImage)
    assert opened.spacing == (3, 1, 1)
    assert opened.image.shape == (1, 12, 40, 48)
    assert worker.asked(Configure)
    assert worker.asked(Look)
    assert recent_projects() == []  # nothing is made before the first stroke
    state = annotate_state(coordinator.session)
    assert (state.image, state.slice_count, state.why_no_paint) == ("scan", 12, "")


def test_each_stroke_is_saved_and_reaches_the_worker(viewer, loop):
    coordinator, worker = loop
    stroke(viewer, (6, 20, 24), 2)
    stroke(viewer, (6, 2, 2), 1)
    (summary,) = recent_projects()
    assert summary.labels == 2
    assert summary.in_use
    labels = annotation(viewer).data
    assert coordinator.session.voxels == {v: int((labels == v).sum()) for v in (1, 2)}
    paints = worker.asked(Paint)
    known = np.zeros(labels.size, np.uint8)
    for paint in paints:
        known[paint.voxels] = paint.values
    assert np.array_equal(known.reshape(labels.shape), labels)
    (kept,) = worker.asked(KeepState)
    assert kept.state_folder.startswith(str(summary.folder))
    assert len(worker.asked(OpenImage)) == 1
    assert dock_state(coordinator.session).saved == "2 changes saved"


def test_undo_and_redo_follow_the_journal(viewer, loop):
    coordinator, worker = loop
    stroke(viewer, (6, 20, 24), 2)
    stroke(viewer, (6, 22, 24), 1)
    layer, before = annotation(viewer), annotation(viewer).data.copy()
    layer.undo()
    assert coordinator.session.changes == 1
    layer.undo()
    assert coordinator.session.changes == 0
    assert coordinator.session.voxels == {}
    layer.redo()
    layer.redo()
    assert coordinator.session.changes == 2
    assert np.array_equal(layer.data, before)
    last = worker.asked(Paint)[-1]
    assert np.array_equal(last.values, before.reshape(-1)[last.voxels])


def test_what_a_script_writes_is_saved_too(viewer, loop, told):
    coordinator, _ = loop
    layer = annotation(viewer)
    layer.data = np.where(np.indices(layer.data.shape)[0] == 3, 2, 0)
    assert coordinator.session.voxels == {2: 40 * 48}
    layer.data[4, :5, :5] = 1
    layer.refresh()
    wait_for(lambda: coordinator.session.voxels.get(1) == 25)
    layer.data = np.zeros((3, 3), np.uint8)
    assert layer.data.shape == (12, 40, 48)
    assert any("do not fit" in sentence for sentence in told)
    assert coordinator.session.voxels == {1: 25, 2: 40 * 48}


def test_a_value_painted_by_napari_becomes_a_class(viewer, loop):
    coordinator, worker = loop
    stroke(viewer, (6, 20, 24), 7)
    assert coordinator.session.table.mask_values == (0, 2, 7)
    assert worker.asked(SetClasses)[-1].table.mask_values == (0, 2, 7)


def test_the_picture_is_shown_measured_and_accepted_on_request_only(viewer, loop):
    coordinator, worker = loop
    stroke(viewer, (6, 20, 24), 2)
    stroke(viewer, (6, 2, 2), 1)
    labels = annotation(viewer).data.copy()
    prediction = np.full(labels.shape, 1, np.uint8)
    prediction[:, 10:30, 10:30] = 2
    worker.picture(prediction)
    wait_for(lambda: coordinator.session.volumes_ml)
    assert coordinator.session.volumes_ml == {2: pytest.approx(12 * 20 * 20 * 3 / 1000)}
    assert np.array_equal(viewer.layers["prediction of scan"].data, prediction)
    assert np.array_equal(annotation(viewer).data, labels)
    assert "preview" in train_state(coordinator.session).shown
    coordinator.annotate.go_to_slice(0, 5)
    assert coordinator.session.slice_index == 5
    coordinator.annotate.accept_slice()
    assert np.array_equal(annotation(viewer).data[5], np.where(labels[5] > 0, labels[5], prediction[5]))
    assert worker.asked(Paint)[-1].source == "accepted"
    annotation(viewer).undo()
    assert np.array_equal(annotation(viewer).data, labels)
    assert coordinator.session.changes == 2


def test_interpolated_labels_are_apart_and_go_on_request(viewer, loop):
    coordinator, worker = loop
    for z in (3, 8):
        stroke(viewer, (z, 20, 24), 2)
        stroke(viewer, (z, 2, 2), 1)
    own = annotation(viewer).data.copy()
    coordinator.annotate.go_to_slice(0, 5)
    wait_for(lambda: not annotate_state(coordinator.session).why_no_interpolation)
    coordinator.annotate.interpolate()
    assert np.array_equal(annotation(viewer).data, own)
    layer = viewer.layers["interpolated labels of scan"]
    assert layer.data[4:8].any()
    assert not layer.data[[3, 8]].any()
    assert worker.asked(Paint)[-1].source == "interpolated"
    assert viewer.layers.selection.active is annotation(viewer)
    place = tuple(np.argwhere(layer.data)[0])
    stroke(viewer, place, 1)
    assert viewer.layers["interpolated labels of scan"].data[place] == 0  # a stroke wins
    coordinator.annotate.clear_interpolated()
    assert "interpolated labels of scan" not in viewer.layers
    assert annotate_state(coordinator.session).why_no_clear
    assert annotation(viewer).data[place] == 1


def test_classes_are_added_renamed_recolored_and_deleted(viewer, loop, told):
    coordinator, _ = loop
    annotate = coordinator.annotate
    annotate.add_class()
    value = coordinator.session.selected
    assert annotation(viewer).selected_label == value == 3
    annotate.rename_class(3, "  left   kidney ")
    annotate.recolor_class(3, "#102030")
    assert coordinator.session.table.classes[2].name == "left kidney"
    assert annotation(viewer).colormap.color_dict[3][:3] == pytest.approx(
        np.array([16, 32, 48]) / 255, abs=1e-3
    )
    stroke(viewer, (6, 20, 24), 3)
    stroke(viewer, (6, 2, 2), 1)
    annotate.delete_class(3)
    assert coordinator.session.table.mask_values == (0, 2)
    assert set(np.unique(annotation(viewer).data)) == {0, 1}
    assert coordinator.session.selected == 2
    annotation(viewer).undo()  # the deleted labels do not come back
    assert set(np.unique(annotation(viewer).data)) == {0, 1}
    annotate.delete_class(2)
    annotate.delete_class(1)
    annotate.rename_class(2, " ")
    assert len(told) == 3
    assert len(coordinator.session.table) == 2


def test_learning_is_told_in_words_and_kept(viewer, loop):
    coordinator, _ = loop
    assert train_state(coordinator.session).why_not_start
    stroke(viewer, (6, 20, 24), 2)
    assert "ackground" in train_state(coordinator.session).why_not_start
    stroke(viewer, (6, 2, 2), 1)
    assert not train_state(coordinator.session).why_not_start
    coordinator.predict.train(True)
    session = coordinator.session
    wait_for(lambda: session.learning.agreement is not None and session.labelled_slices[0] == (6,))
    state = train_state(coordinator.session)
    assert state.running
    assert state.sentence.startswith("learning from 1 slice · 0 s · agreement on held-out strokes 0.88")
    assert state.losses == ((1, 0.7),)
    assert not predict_state(coordinator.session).why_no_model
    folder = recent_projects()[0].folder
    coordinator.predict.train(False)
    wait_for(lambda: not coordinator.session.busy)
    assert train_state(coordinator.session).sentence.startswith("paused after")
    coordinator.close()
    with Project.open(folder) as project:
        (round_,) = project.rounds(1)
        assert round_.figures["dice"] == 0.875
        assert project.setting("running") is False


def test_work_that_an_error_has_ended_is_begun_again_once(viewer, loop, told):
    _, worker = loop
    stroke(viewer, (6, 20, 24), 2)
    before = len(worker.asked(OpenImage))
    for _ in range(3):
        worker.on_event(Failed("the work was stopped by an error.", ended=True))
        settle()
    assert len(worker.asked(OpenImage)) == before + 1
    assert any("stopped by an error" in sentence for sentence in told)


def test_a_dead_worker_is_told_all_again(viewer, loop, told):
    coordinator, worker = loop
    stroke(viewer, (6, 20, 24), 2)
    stroke(viewer, (6, 2, 2), 1)
    coordinator.predict.train(True)
    before = len(worker.requests)
    worker.on_exit("The computing process was killed.")
    wait_for(lambda: worker.asked(OpenImage)[-1] in worker.requests[before:])
    assert worker.starts == 2
    again = [r for r in worker.requests[before:] if isinstance(r, Paint)]
    labels = annotation(viewer).data
    known = np.zeros(labels.size, np.uint8)
    for paint in again:
        known[paint.voxels] = paint.values
    assert np.array_equal(known.reshape(labels.shape), labels)
    assert Train(True) in worker.requests[before:]
    assert len(told) == 1
    for _ in range(3):
        worker.on_exit("The computing process was killed.")
    wait_for(lambda: coordinator.session.worker == "gone")
    assert worker.starts == 4
    assert not coordinator.session.running
    coordinator.predict.train(True)
    assert worker.starts == 5
    wait_for(lambda: coordinator.session.worker == "ready")


def test_orientations_keep_their_slices(viewer, loop):
    coordinator, worker = loop
    coordinator.annotate.go_to_slice(0, 4)
    coordinator.annotate.go_to_slice(1, 11)
    coordinator.annotate.go_to_slice(2, 30)
    assert coordinator.session.orientation == 2
    for axis, index in ((0, 4), (1, 11), (2, 30)):
        coordinator.annotate.next_orientation()
        assert (coordinator.session.orientation, coordinator.session.slice_index) == (axis, index)
        look = Look(axis, index)
        wait_for(lambda look=look: worker.asked(Look)[-1] == look)
        stroke(viewer, tuple(index if a == axis else 8 for a in range(3)), 2)
        assert annotation(viewer).data.take(index, axis).any()


def test_layers_taken_out_come_back_with_their_labels(viewer, loop, told):
    coordinator, worker = loop
    stroke(viewer, (6, 20, 24), 2)
    labels = annotation(viewer).data.copy()
    viewer.layers.remove(annotation(viewer))
    assert annotate_state(coordinator.session).why_no_paint
    wait_for(lambda: told)
    coordinator.images.choose("scan")
    assert np.array_equal(annotation(viewer).data, labels)
    stroke(viewer, (6, 2, 2), 1)
    assert coordinator.session.changes == 2
    viewer.layers.remove("scan")
    settle()
    assert coordinator.session.image is None
    assert len(viewer.layers) == 0
    assert isinstance(worker.requests[-1], CloseImage)


def test_two_images_are_two_cases_of_a_project(viewer, loop, image):
    coordinator, _ = loop
    stroke(viewer, (6, 20, 24), 2)
    viewer.add_image(image[::-1].copy(), name="other")
    coordinator.images.choose("other")
    wait_for(lambda: coordinator.session.image == "other")
    assert coordinator.session.voxels == {}
    other = viewer.layers["labels of other"]
    with other.block_history():
        other.paint((3, 3, 3), 1)
    assert "labels of scan" not in viewer.layers
    coordinator.images.choose("scan")
    wait_for(lambda: coordinator.session.image == "scan")
    assert set(np.unique(annotation(viewer).data)) == {0, 2}
    assert [summary.cases for summary in recent_projects()] == [("scan", "other")]


def test_a_stroke_that_cannot_be_saved_is_not_shown_as_if(viewer, loop, told, projects):
    coordinator, _ = loop
    projects.write_text("a file where the folder should be")
    stroke(viewer, (6, 20, 24), 2)
    assert not annotation(viewer).data.any()
    assert len(told) == 1
    projects.unlink()
    stroke(viewer, (6, 20, 24), 2)
    assert annotation(viewer).data.any()
    assert coordinator.session.changes == 1


def test_closing_leaves_labels_in_the_project_and_nothing_running(viewer, loop):
    coordinator, worker = loop
    stroke(viewer, (6, 20, 24), 2)
    labels = annotation(viewer).data.copy()
    coordinator.close()
    coordinator.close()
    assert worker.closed
    assert [layer.name for layer in viewer.layers] == ["scan"]
    (summary,) = recent_projects()
    assert summary.clean
    with Project.open(summary.folder) as project:
        assert np.array_equal(project.labels(1), labels)
        assert set(np.unique(project.sources(1))) == {0, source_code("stroke")}
    QApplication.processEvents()


def test_undo_takes_interpolation_back_before_the_strokes_before_it(viewer, loop):
    coordinator, _ = loop
    for index in (2, 8):
        stroke(viewer, (index, 20, 24), 2)
    coordinator.annotate.go_to_slice(0, 5)
    settle()
    coordinator.annotate.interpolate()
    layer, desk = annotation(viewer), coordinator._place.desk
    both, three = layer.data.copy(), desk.labels.copy()
    assert desk.apart().any()
    layer.undo()
    assert not desk.apart().any()
    assert np.array_equal(layer.data, both)
    layer.undo()
    assert coordinator.session.changes == 1
    layer.redo()
    layer.redo()
    assert np.array_equal(desk.labels, three)
    assert coordinator.session.changes == 3
    coordinator.annotate.clear_interpolated()
    assert not desk.apart().any()
    layer.undo()
    assert np.array_equal(desk.labels, three)


def test_a_restarted_worker_leaves_the_picture_and_the_figures(viewer, loop, told):
    coordinator, worker = loop
    stroke(viewer, (6, 20, 24), 2)
    stroke(viewer, (6, 2, 2), 1)
    coordinator.predict.train(True)
    settle()
    worker.picture(np.full((12, 40, 48), 2, np.uint8))
    settle(0.2)
    before = coordinator.session.learning.agreement
    worker.on_exit("The background worker ended.")
    settle(0.2)
    assert coordinator.session.pictured
    assert (viewer.layers["prediction of scan"].data == 2).all()
    assert coordinator.session.learning.agreement == before
    assert coordinator.session.training.precision == "auto"
    worker.on_exit("The background worker ended.")
    settle(0.2)
    assert coordinator.session.training.precision == "float32"
    assert any("float32" in sentence for sentence in told)


def test_keys_pick_classes_whatever_layer_of_ours_is_active(viewer, loop):
    coordinator, _ = loop
    for name in ("prediction of scan", "scan"):
        layer = viewer.layers[name]
        viewer.layers.selection.active = layer
        next(action for key, action in layer.keymap.items() if str(key) == "1")(layer)
        assert viewer.layers.selection.active is annotation(viewer)
        assert coordinator.session.selected == 1
        coordinator.annotate.select(2)
