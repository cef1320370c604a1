"""Points and the Class maps dock in a real window: the mouse, the keys, undo, projects."""

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_sparseseg.annotation import source_code
from napari_sparseseg.requests import MapClass, TrainClassifier
from napari_sparseseg.seeds import grow_points
from napari_sparseseg.widgets.canvas_context import CanvasContext
from napari_sparseseg.widgets.class_maps_panel import ClassMapsPanel
from napari_sparseseg.widgets.dock import ClassMapsDock
from napari_sparseseg.widgets.placement import find_camera
from napari_sparseseg.widgets.states import annotate_state
from tests.robot import Robot
from tests.widgets.cam_window import SHAPE, Window
from tests.widgets.conftest import settle, wait_for

CONTROL = Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def window(viewer, make_coordinator, image, workers, told):
    viewer.add_image(image, name="scan", scale=(3, 1, 1))
    coordinator = make_coordinator(viewer)
    wait_for(lambda: coordinator.session.image == "scan" and coordinator.session.worker == "ready")
    settle()
    return Window(viewer, coordinator, workers[0], told)


@pytest.fixture(scope="module")
def screen():
    import napari

    made = napari.Viewer()
    made.window.resize(800, 600)
    made.window.add_dock_widget(QWidget(), name="beside")
    settle(0.1)
    yield made
    made.close()
    settle()


@pytest.fixture
def hand(screen, make_coordinator, image, workers, told):
    """A window on the screen, and a hand at its mouse and keys."""
    screen.add_image(image, name="scan", scale=(1, 1, 1))
    coordinator = make_coordinator(screen)
    wait_for(lambda: coordinator.session.image == "scan" and coordinator.session.worker == "ready")
    camera = find_camera(screen)
    camera.center, camera.zoom = (0, 20, 24), 8
    screen.dims.set_current_step(0, 6)
    settle(0.1)
    made = Window(screen, coordinator, workers[0], told)
    made.robot = Robot(screen)
    yield made
    coordinator.close()
    canvas = CanvasContext(screen)
    screen.layers.clear()
    canvas.close()
    settle(0.5)  # or the next click is a double click


def voxels(window):
    return [(record.value, record.voxel) for record in window.work.points]


def point_labels(window):
    """Return the labels ``(Z, Y, X)`` that come from points, 0 elsewhere."""
    desk = window.place.desk
    return np.where(desk.sources == source_code("point"), desk.labels, 0)


def expected(window):
    places = [(record.voxel, record.value) for record in window.work.points]
    spacing = window.place.case.source.volume.spacing
    return grow_points(places, SHAPE, spacing, window.session.seed_config.point_mm)


def test_clicks_are_labels_until_another_tool_is_taken_up(hand):
    robot, scan = hand.robot, hand.viewer.layers["scan"]
    robot.key(Qt.Key.Key_K)
    robot.wait(lambda: hand.work.marking, 5)
    assert annotate_state(hand.session).tool == ""
    for place in ((6, 20, 24), (6, 8, 30)):
        robot.stroke(scan, [place])
        robot.wait(lambda place=place: (2, place) in voxels(hand), 5)
    assert np.array_equal(point_labels(hand), expected(hand))
    (apart,) = hand.layers("point")
    assert apart.name == "labels from points of scan"
    assert hand.state.points == 2
    robot.key(Qt.Key.Key_1)  # background
    assert hand.work.marking
    robot.stroke(scan, [(6, 35, 10)])
    robot.wait(lambda: (1, (6, 35, 10)) in voxels(hand), 5)
    hand.told.clear()
    robot.stroke(scan, [(6, -3, 10)])
    robot.wait(lambda: hand.told, 5)
    assert hand.told == ["A point must lie inside the image; click on the image."]
    assert len(hand.layers("points")[0].data) == 3
    robot.key(Qt.Key.Key_Z, CONTROL)
    assert hand.state.points == 2
    assert np.array_equal(point_labels(hand), expected(hand))
    robot.key(Qt.Key.Key_B)
    robot.wait(lambda: not hand.work.marking, 5)
    assert hand.session.boxes.drawing
    robot.key(Qt.Key.Key_K)
    robot.wait(lambda: hand.work.marking, 5)
    assert not hand.session.boxes.drawing
    robot.key(Qt.Key.Key_P)
    assert not hand.work.marking
    assert annotate_state(hand.session).tool == "paint"


def test_points_are_moved_and_deleted_with_the_mouse(hand):
    robot, scan = hand.robot, hand.viewer.layers["scan"]
    hand.points.edit(((6, 20, 24), (6, 8, 30)), (), ())
    hand.points.mark(True)
    hand.points.mark(False)
    hand.viewer.layers.selection.active = hand.layers("points")[0]
    assert not hand.work.marking
    robot.stroke(scan, [(6, 20, 24), (6, 22, 25), (6, 26, 28), (6, 30, 30)])
    robot.wait(lambda: (2, (6, 20, 24)) not in voxels(hand), 5)
    assert len(voxels(hand)) == 2
    moved = next(voxel for _, voxel in voxels(hand) if voxel != (6, 8, 30))
    assert np.abs(np.subtract(moved, (6, 30, 30))).max() <= 1
    assert np.array_equal(point_labels(hand), expected(hand))
    robot.stroke(scan, [(6, 8, 30)])
    robot.key(Qt.Key.Key_Delete)
    robot.wait(lambda: len(voxels(hand)) == 1, 5)
    assert np.array_equal(point_labels(hand), expected(hand))
    for count in (2, 2, 0):
        robot.key(Qt.Key.Key_Z, CONTROL)
        assert len(voxels(hand)) == count
    assert not point_labels(hand).any()


def test_strokes_win_over_points_and_their_undo_leaves_points_alone(window):
    layer = window.viewer.layers["labels of scan"]
    with layer.block_history():
        layer.paint((6, 20, 24), 1)
    stroke = window.place.desk.voxels_of("stroke")
    window.points.edit(((6, 20, 30), (3, 5, 5)), (), ())
    labels = window.place.desk.labels
    assert (labels.reshape(-1)[stroke] == 1).all()
    grown = expected(window)
    inside = point_labels(window) > 0
    assert np.array_equal(inside, (grown > 0) & ~(labels == 1))
    layer.undo()
    assert window.state.points == 2
    assert labels[3, 5, 5] == 2
    assert not (labels == 1).any()
    window.points.clear()
    assert not labels.any()
    assert not window.state.points
    assert window.state.why_no_clear_points
    window.points.undo()
    assert np.array_equal(point_labels(window), grown)


def test_the_radius_grows_all_points(window):
    window.points.edit(((6, 20, 24), (3, 5, 5)), (), ())
    before = (point_labels(window) > 0).sum()
    session = window.session
    window.cam.change_settings(
        session.classifier_config, session.cam_config, replace(session.seed_config, point_mm=6.0), session.crf
    )
    assert np.array_equal(point_labels(window), expected(window))
    assert (point_labels(window) > 0).sum() > before


def test_points_are_there_again_with_their_project(window):
    window.points.edit(((6, 20, 24), (3, 5, 5)), (), ())
    folder, before, grown = window.place.desk.project.folder, voxels(window), expected(window)
    window.coordinator.projects.begin()
    wait_for(lambda: window.session.image == "scan")
    assert not window.layers("points")
    window.coordinator.projects.open(folder)
    wait_for(lambda: window.state.points)
    assert voxels(window) == before
    assert np.array_equal(point_labels(window), grown)
    assert len(window.layers("points")[0].data) == 2
    window.points.undo()
    assert window.told[-1] == "There is no change of the points to take back."


def test_no_points_in_3d(window):
    window.points.mark(True)
    assert window.work.marking
    window.viewer.dims.ndisplay = 3
    settle()
    assert not window.work.marking
    window.told.clear()
    window.points.mark(True)
    window.layers("points")[0].add((1, 2, 3))  # as napari's own tool would
    settle()
    assert len(window.told) == 2
    assert not window.state.points
    assert not len(window.layers("points")[0].data)


def test_marking_brings_a_layer_back_that_was_taken_out(window):
    window.points.edit(((6, 20, 24),), (), ())
    window.viewer.layers.remove(window.layers("points")[0])
    assert window.state.points == 1
    window.points.mark(True)
    assert len(window.layers("points")[0].data) == 1
    window.viewer.layers.remove("scan")
    wait_for(lambda: window.session.image is None)
    assert not window.layers("points")
    assert not window.state.marking


@pytest.mark.parametrize("active", ["box", "image", "points", "all"])
def test_what_goes_out_of_a_shown_window_is_not_drawn_any_more(hand, active):
    if active == "box":
        hand.robot.key(Qt.Key.Key_B)
        hand.robot.stroke(hand.viewer.layers["scan"], [(6, 10, 10), (6, 15, 15), (6, 20, 20)])
        assert hand.session.boxes.drawing
    elif active == "image":
        hand.viewer.add_image(np.ones(SHAPE), name="other")
    elif active == "points":
        hand.viewer.add_points(np.zeros((1, 3)))
    hand.robot.settle(0.1)
    if active == "all":
        hand.viewer.layers.clear()
    else:
        hand.coordinator.close()
    hand.robot.settle(0.2)
    assert not any("sparseseg_role" in layer.metadata for layer in hand.viewer.layers)


def asked_places(window):
    return [request.voxel for request in window.worker.asked(MapClass)]


def point_at(window, voxel):
    QTest.mouseMove(window.robot.canvas, window.robot.canvas_position(window.viewer.layers["scan"], voxel))
    window.robot.settle(0.05)


def test_the_network_is_asked_about_the_place_under_the_mouse(hand):
    robot, scan = hand.robot, hand.viewer.layers["scan"]
    robot.key(Qt.Key.Key_W)
    assert hand.told == [hand.state.why_no_map_here]
    hand.learn_network()
    point_at(hand, (6, 8, 30))
    robot.key(Qt.Key.Key_W)
    robot.wait(lambda: asked_places(hand) == [(6, 8, 30)], 5)
    hand.cam.cancel()
    for active in (scan, hand.viewer.layers["prediction of scan"]):
        hand.viewer.layers.selection.active = active
        point_at(hand, (6, 35, 10))
        robot.key(Qt.Key.Key_W)
        robot.wait(lambda: asked_places(hand)[-1] == (6, 35, 10), 5)
        hand.cam.cancel()
    hand.told.clear()
    point_at(hand, (6, -3, 10))
    robot.key(Qt.Key.Key_W)
    assert hand.told == ["There is no image at this place; point at the image."]
    assert hand.work.running == ""


@pytest.mark.parametrize("tool", ["paint", "polygon", "box", "points", "none"])
def test_a_click_says_about_which_place_the_network_is_asked(hand, tool):
    robot, scan, layers = hand.robot, hand.viewer.layers["scan"], hand.viewer.layers
    hand.learn_network()
    if tool == "none":
        layers.selection.active = None
    elif tool == "box":
        hand.coordinator.box_drawing.draw(True)
    elif tool == "points":
        hand.points.mark(True)
    else:
        hand.annotate.use_tool(tool)
    active = layers.selection.active
    mode = None if active is None else active.mode
    hand.cam.map_here()
    assert hand.state.sentence == "Click the place in the image."
    robot.stroke(scan, [(6, 30, 30), (6, 25, 25), (6, 20, 20)])  # moves the picture
    robot.settle(0.1)
    assert hand.state.asking
    camera = find_camera(hand.viewer)
    camera.center = (0, 20, 24)
    robot.settle(0.1)
    robot.stroke(scan, [(6, -3, 10)])
    robot.wait(lambda: hand.told, 5)
    assert hand.state.asking
    robot.stroke(scan, [(6, 20, 15)])
    robot.wait(lambda: asked_places(hand) == [(6, 20, 15)], 5)
    assert not hand.state.asking
    assert hand.told == ["There is no image at this place; point at the image."]
    assert layers.selection.active == active
    assert mode == (None if active is None else active.mode)
    assert not hand.place.desk.labels.any() if hand.place.desk.labels is not None else True
    assert not hand.work.points
    assert not hand.session.boxes.records
    hand.cam.cancel()
    robot.settle(0.5)  # or the next one is a double click
    if tool == "paint":
        robot.stroke(scan, [(6, 10, 10)])
        assert layers["labels of scan"].data[6, 10, 10]


def test_asking_about_a_place_is_given_up(hand):
    robot, callbacks = hand.robot, list(hand.viewer.mouse_drag_callbacks)
    hand.learn_network()
    dock = ClassMapsDock(hand.viewer, lambda _: hand.coordinator)
    hand.viewer.window.add_dock_widget(dock, name="Class maps")
    robot.settle(0.2)
    hand.coordinator.show_all()
    robot.window.activateWindow()  # Qt hears of keys that work anywhere in an active window only
    robot.wait(lambda: QApplication.activeWindow() is not None, 5)
    view = dock.findChild(ClassMapsPanel).map
    for give_up in (
        lambda: robot.key(Qt.Key.Key_Escape),
        lambda: QTest.keyClick(view.here, Qt.Key.Key_Escape),
        view.here.click,
        lambda: robot.key(Qt.Key.Key_E),
        lambda: robot.key(Qt.Key.Key_K),
        lambda: setattr(hand.viewer.layers.selection, "active", hand.viewer.layers["scan"]),
    ):
        hand.annotate.use_tool("paint")
        view.here.click()
        assert hand.work.asking
        assert view.here.isChecked()
        assert view.work.isVisible()
        robot.settle(0.2)
        give_up()
        robot.wait(lambda: not hand.work.asking and not view.here.isChecked(), 5)
    assert not asked_places(hand)
    hand.annotate.use_tool("paint")
    view.here.click()
    hand.viewer.layers.remove("scan")
    robot.wait(lambda: hand.session.image is None, 5)
    assert not hand.work.asking
    assert hand.viewer.mouse_drag_callbacks == callbacks
    hand.viewer.window.remove_dock_widget(dock)


def test_a_second_click_does_not_stop_what_the_first_began(window):
    window.cam.add_volume_label(True)
    dock = ClassMapsDock(window.viewer, lambda _: window.coordinator)
    try:
        window.coordinator.show_all()
        panel = dock.findChild(ClassMapsPanel)
        panel.train_requested.emit()
        panel.train_requested.emit()
        assert window.state.running == "classifier"
        assert panel._state.running == "classifier"
        assert len(window.worker.asked(TrainClassifier)) == 1
        panel.cancel_requested.emit()
        assert panel._state.running == ""
        assert not window.told
        panel.mark_requested.emit(True)
        wait_for(lambda: panel._state.marking)
        QTest.keyClick(dock, Qt.Key.Key_Escape)
    finally:
        dock.deleteLater()
