"""Projects are offered, opened and brought back with everything in them."""

import numpy as np
import pytest

from napari_sparseseg.project import Project, recent_projects
from napari_sparseseg.requests import Paint, Train
from napari_sparseseg.settings import InferenceConfig
from napari_sparseseg.volume import load_labels, load_volume, save_map, volume_from_array
from napari_sparseseg.widgets.placement import find_camera
from napari_sparseseg.widgets.states import dock_state
from tests.widgets.conftest import settle, wait_for


def work(viewer, coordinator, name="scan"):
    """Label two classes, learn, and look at a certain place."""
    wait_for(lambda: coordinator.session.image == name)
    layer = viewer.layers[f"labels of {name}"]
    coordinator.annotate.add_class()
    coordinator.annotate.rename_class(3, "kidney")
    coordinator.annotate.set_brush_size(5)
    for place, value in (((6, 20, 24), 3), ((6, 2, 2), 1), ((3, 20, 24), 2)):
        with layer.block_history():
            layer.paint(place, value)
    layer.undo()
    coordinator.predict.change_inference(InferenceConfig(largest_component=True))
    coordinator.predict.train(True)
    for axis, index in ((0, 4), (2, 30), (1, 11)):
        coordinator.annotate.go_to_slice(axis, index)
    coordinator.annotate.use_tool("erase")
    find_camera(viewer).zoom = 3.5
    settle(0.05)
    return layer.data.copy()


def check(viewer, coordinator, worker, labels, name="scan"):
    wait_for(lambda: coordinator.session.image == name)
    settle(0.05)
    session = coordinator.session
    layer = viewer.layers[f"labels of {name}"]
    assert np.array_equal(layer.data.reshape(labels.shape), labels)
    assert session.changes == 2
    assert session.table.names == ("background", "class 2", "kidney")
    assert (session.orientation, session.slice_index) == (1, 11)
    assert session.selected == 3
    assert session.brush_size == 5
    assert session.tool == "erase"
    assert session.inference.largest_component
    assert find_camera(viewer).zoom == pytest.approx(3.5)
    assert session.running
    known = np.zeros(labels.size, np.uint8)
    for paint in worker.asked(Paint):
        known[paint.voxels] = paint.values
    assert np.array_equal(known.reshape(labels.shape), labels)
    assert worker.asked(Train)[-1] == Train(True)
    coordinator.annotate.turn(0)
    layer.redo()  # napari's history is new, the labels stay
    assert np.array_equal(layer.data.reshape(labels.shape), labels)


def kill(coordinator):
    """End a coordinator as a killed process would: the project is let go of, but not closed."""
    project = coordinator._place.desk.project
    project._store.close(clean=False)
    coordinator._place.desk.project = None
    coordinator._place.desk._case = coordinator._place.desk.recorder = None
    coordinator.close()


def test_an_unfinished_session_comes_back_without_its_file(viewer, make_coordinator, image, workers):
    viewer.add_image(image, name="scan", scale=(3, 1, 1), translate=(5, 6, 7))
    first = make_coordinator(viewer)
    labels = work(viewer, first)
    first._place.save_view()
    kill(first)
    viewer.layers.clear()
    second = make_coordinator(viewer)
    wait_for(lambda: dock_state(second.session).offer)
    offer = dock_state(second.session).offer
    assert offer.startswith("A session of today ")
    assert offer.endswith(" on scan with 2 strokes was not closed.")
    second.projects.restore_offered()
    assert not dock_state(second.session).offer
    check(viewer, second, workers[1], labels)
    layer = viewer.layers["scan"]
    assert np.array_equal(layer.data, image)
    assert layer.data_to_world((1, 1, 1)) == pytest.approx((8, 7, 8))


def test_an_image_with_a_file_is_read_from_it(viewer, make_coordinator, image, workers, tmp_path):
    path = tmp_path / "scan.nii.gz"
    save_map(path, image, volume_from_array(image, spacing=(3, 1, 1)))
    viewer.open(str(path), plugin="napari-sparseseg")
    first = make_coordinator(viewer)
    labels = work(viewer, first)
    first.close()
    viewer.layers.clear()
    (summary,) = recent_projects()
    assert not (summary.folder / "images").exists() or not any((summary.folder / "images").iterdir())
    second = make_coordinator(viewer)
    settle(0.05)
    assert not dock_state(second.session).offer  # it was closed on purpose
    second.projects.open(summary.folder)
    check(viewer, second, workers[1], labels)
    target = tmp_path / "mask.nii.gz"
    workers[1].picture(np.full(image.shape, 2, np.uint8))
    second.predict.save_mask(str(target))
    wait_for(target.exists)
    source = load_volume(path)
    assert load_volume(target).affine == pytest.approx(source.affine)
    mask = load_labels(target, source)
    assert np.array_equal(mask, np.where(labels == 0, 2, np.where(labels == 1, 0, labels)))


def test_a_file_that_is_gone_or_changed_is_told(viewer, make_coordinator, image, tmp_path, told):
    path = tmp_path / "scan.nii.gz"
    save_map(path, image, volume_from_array(image))
    viewer.open(str(path), plugin="napari-sparseseg")
    first = make_coordinator(viewer)
    work(viewer, first)
    first.close()
    viewer.layers.clear()
    folder = recent_projects()[0].folder
    path.rename(tmp_path / "moved.nii.gz")
    second = make_coordinator(viewer)
    second.projects.open(folder)
    wait_for(lambda: any("is not there any more" in sentence for sentence in told))
    second.close()
    save_map(path, image + 1, volume_from_array(image))
    third = make_coordinator(viewer)
    third.projects.open(folder)
    wait_for(lambda: any("holds another image now" in sentence for sentence in told))
    viewer.open(str(tmp_path / "moved.nii.gz"), plugin="napari-sparseseg")
    wait_for(lambda: third.session.image == "moved")  # opened by hand, it is known again
    assert third.session.changes == 2
    assert viewer.layers["labels of moved"].data.any()


def test_not_now_is_remembered(viewer, make_coordinator, image):
    viewer.add_image(image, name="scan")
    first = make_coordinator(viewer)
    work(viewer, first)
    kill(first)
    second = make_coordinator(viewer)
    wait_for(lambda: dock_state(second.session).offer)
    second.projects.dismiss_offered()
    assert not dock_state(second.session).offer
    second.close()
    third = make_coordinator(viewer)
    settle(0.05)
    assert not dock_state(third.session).offer
    assert len(third.projects.recent()) == 1


def test_a_project_in_use_is_told_so(viewer, make_coordinator, image, told, projects):
    import napari

    viewer.add_image(image, name="scan")
    first = make_coordinator(viewer)
    work(viewer, first)
    (summary,) = recent_projects()
    other = napari.Viewer(show=False)
    try:
        second = make_coordinator(other)
        second.projects.open(summary.folder)
        assert len(told) == 1
        assert "open" in told[0]
        second.close()
    finally:
        other.close()
    first.projects.open(summary.folder)
    assert "open already" in told[1]


def test_a_new_project_begins_without_labels(viewer, make_coordinator, image, tmp_path):
    viewer.add_image(image, name="scan")
    coordinator = make_coordinator(viewer)
    work(viewer, coordinator)
    coordinator.projects.begin()
    wait_for(lambda: coordinator.session.image == "scan")
    assert not viewer.layers["labels of scan"].data.any()
    assert coordinator.session.project == ""
    assert len(coordinator.session.table) == 2
    folder = tmp_path / "Prüfung 1" / "mine"
    coordinator.projects.begin(folder)
    wait_for(lambda: coordinator.session.image == "scan")
    assert coordinator.session.project == "mine"
    coordinator.close()
    assert [summary.clean for summary in recent_projects()] == [True]
    with Project.open(folder) as project:
        assert project.cases() == ()


def test_closing_and_opening_the_panel_goes_on(viewer, make_coordinator, image, workers):
    viewer.add_image(image, name="scan")
    first = make_coordinator(viewer)
    labels = work(viewer, first)
    first.close()
    second = make_coordinator(viewer)
    check(viewer, second, workers[1], labels)
