"""Boxes, and masks made of them, in a real window with a worker that answers at once."""

import warnings

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_sparseseg.requests import LabelBoxes, OpenImage
from napari_sparseseg.widgets.boxes_panel import BoxesPanel
from napari_sparseseg.widgets.dock import BoxesDock
from napari_sparseseg.widgets.placement import find_camera
from napari_sparseseg.widgets.states import annotate_state
from tests.robot import Robot
from tests.widgets.box_window import Window
from tests.widgets.conftest import settle, wait_for


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

    made = napari.Viewer(show=True)
    made.window.resize(800, 600)
    made.window.add_dock_widget(QWidget(), name="beside")
    settle(0.1)
    yield made
    made.close()
    QApplication.processEvents()


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
    screen.layers.clear()
    settle()


def test_rounds_are_of_the_classes_and_boxes_that_they_were_made_of(window):
    window.annotate.add_class()
    window.annotate.select(2)
    window.draw()
    assert len(window.work.records) == 1
    labels = window.labels()
    labels[5, 22:24, 16:30] = 3
    window.make(labels)
    assert window.work.notes == ["box 1 is empty, so its middle is taken instead."]
    shown = next(layer for layer in window.viewer.layers if layer.metadata.get("sparseseg_role") == "round")
    assert set(np.unique(shown.data)) == {0, 1, 2, 3}
    assert window.state.sentence == "Done."
    window.drawing.delete(window.work.records[0].number)
    window.annotate.select(3)
    window.draw(low=(0, 0), high=(4, 4))
    assert window.state.sentence == "The boxes have changed; make the masks again to see it."
    window.annotate.delete_class(2)
    window.masks.show_round(0)
    assert set(np.unique(shown.data)) == {0, 1, 3}
    window.masks.keep(0)
    assert window.work.kept == 0
    assert window.work.shown is None
    assert window.state.why_no_keep == "Choose a round first."
    kept = window.place.desk.labels
    assert set(np.unique(kept)) == {0, 1, 3}
    assert kept[6, 11, 13] == 1
    assert kept[6, 0, 0] == 0
    window.masks.clear_kept()
    assert window.work.kept is None


def test_nothing_is_called_kept_where_nothing_was(window):
    window.draw()
    window.make(np.zeros((12, 40, 48), np.uint8))
    layer = window.viewer.layers["labels of scan"]
    layer.data = np.full(layer.data.shape, 1, np.uint8)
    settle()
    window.masks.keep(0)
    assert window.work.kept is None
    assert any("Nothing was kept" in sentence for sentence in window.told)


def test_undo_takes_kept_labels_out_of_their_layer_too(window):
    window.draw()
    window.make(window.labels())
    window.masks.keep(0)
    assert "labels from boxes of scan" in window.names()
    layer = window.viewer.layers["labels of scan"]
    layer.undo()
    assert "labels from boxes of scan" not in window.names()
    assert window.work.kept is None
    assert window.state.why_no_clear
    layer.redo()
    assert "labels from boxes of scan" in window.names()


def test_a_round_taken_out_by_hand_is_no_longer_shown(window):
    window.draw()
    window.make(window.labels())
    assert window.state.shown_round == 0
    window.viewer.layers.remove(
        next(layer for layer in window.viewer.layers if layer.metadata.get("sparseseg_role") == "round")
    )
    assert window.state.shown_round is None
    window.masks.show_round(0)
    assert window.state.shown_round == 0


@pytest.mark.parametrize(
    ("index", "low", "high", "joined"),
    [
        (9, (10, 12), (26, 34), True),  # 2 slices of 3 mm away
        (11, (11, 12), (27, 33), True),
        (9, (18, 20), (34, 42), False),  # overlaps too little
        (6, (10, 12), (26, 36), True),  # on a slice of the box
        (6, (10, 12), (16, 30), False),
    ],
)
def test_a_rectangle_belongs_to_a_box_that_is_near_and_alike(window, index, low, high, joined):
    window.draw()
    window.told.clear()
    window.draw(index=index, low=low, high=high)
    assert (len(window.work.records) == 1) == joined == bool(window.told)
    if joined:
        (record,) = window.work.records
        assert (record.start[0], record.stop[0]) == (6, index + 1)
        assert record.stop[1:] == tuple(np.maximum(high, (26, 34)))
        if index > 6:
            assert window.told == [f"Box {record.number} now reaches from slice 6 to {index}."]


def test_a_rectangle_far_along_the_axis_is_another_object(window):
    window.draw(low=(10, 12), high=(12, 14))
    window.draw(index=8, low=(10, 12), high=(12, 14))  # one slice of 3 mm lies between, twice the box is 4 mm
    assert len(window.work.records) == 1
    window.draw(index=11, low=(10, 12), high=(12, 14))  # two do
    assert len(window.work.records) == 2


def test_a_viewer_behind_a_proxy_will_do(viewer, make_coordinator, image, workers, told):
    from napari.utils._proxies import PublicOnlyProxy

    viewer.add_image(image, name="scan")
    proxy = PublicOnlyProxy(viewer)
    coordinator = make_coordinator(proxy)
    wait_for(lambda: coordinator.session.image == "scan" and coordinator.session.worker == "ready")
    settle()
    window = Window(proxy, coordinator, workers[0], told)
    coordinator.images.choose("scan")  # is open already
    coordinator.images.choose_only_one()
    settle(0.1)
    assert len(window.worker.asked(OpenImage)) == 1
    mask = viewer.add_labels(window.labels(), name="mask")
    window.masks.compare_with("mask")
    mask.name = "expert"
    assert window.state.truth == "expert"
    window.draw()
    window.make(window.labels())
    viewer.layers.remove("GrabCut with edges, before learning of scan")
    assert window.state.shown_round is None
    viewer.layers.remove(viewer.layers["boxes of scan"])
    window.drawing.choose(window.work.records[0].number)
    assert viewer.layers["boxes of scan"].nshapes == 1


def test_each_change_of_boxes_is_taken_back(window, tmp_path):
    states = []

    def step(change, *given):
        states.append(window.extents())
        change(*given)
        assert window.extents() != states[-1]

    def number():
        return window.work.records[0].number

    window.annotate.add_class()
    window.annotate.select(2)
    step(window.draw)
    window.drawing.save(str(tmp_path / "boxes.csv"))
    step(window.drawing.set_class, number(), 3)
    step(window.drawing.change, number(), (1, 2, 3), (5, 6, 7))
    step(window.drawing.delete, number())
    step(window.draw, 0, 3)
    step(window.drawing.load, str(tmp_path / "boxes.csv"))
    window.drawing.change(99, (1, 2, 3), (5, 6, 7))  # is refused, and leaves nothing to take back
    for before in reversed(states):
        window.drawing.undo()
        assert window.extents() == before
        assert window.work.chosen in {None, *(record.number for record in window.work.records)}
    window.told.clear()
    window.drawing.undo()
    assert window.told == ["There is no change of the boxes to take back."]


def test_the_same_file_adds_no_box_twice(window, tmp_path):
    path = str(tmp_path / "boxes.csv")
    window.draw()
    window.draw(index=1, low=(0, 0), high=(5, 5))
    window.drawing.save(path)
    window.drawing.delete(window.work.records[0].number)
    window.told.clear()
    window.drawing.load(path)
    window.drawing.load(path)
    assert len(window.work.records) == 2
    assert window.told == [
        "2 boxes were read from boxes.csv; 1 of them is new.",
        "2 boxes were read from boxes.csv; none of them are new.",
    ]


def test_rounds_are_compared_with_layers_of_the_shape_of_the_image(window):
    add = window.viewer.add_labels
    add(np.zeros((12, 48, 40), np.uint8), name="turned")
    add(np.zeros((12, 40, 48), np.uint8), name="strokes")
    add(np.zeros((12, 40, 48), np.uint8), name="empty")
    mask = add((window.labels() == 2).astype(np.uint8), name="mask")
    assert window.state.truths == ("strokes", "empty", "mask")
    window.draw()
    window.masks.compare_with("empty")
    window.told.clear()
    window.masks.run()
    assert not window.work.running
    assert window.told[0].startswith("The layer empty holds none of the classes")
    window.masks.compare_with("mask")
    mask.name = "expert"
    assert window.state.truth == "expert"
    window.masks.run()
    (request,) = window.worker.asked(LabelBoxes)
    voxels, values = request.truth_voxels, request.truth_values
    known = np.zeros(12 * 40 * 48, np.uint8)
    known[voxels] = values
    assert np.array_equal(known.reshape(12, 40, 48) == 2, window.labels() == 2)
    window.masks.cancel()
    window.viewer.layers.remove(mask)
    assert window.state.truth == "strokes"


def test_a_class_takes_its_boxes_with_it(window):
    window.annotate.add_class()
    window.draw()
    window.annotate.select(2)
    window.draw(index=1)
    assert annotate_state(window.session).boxes == {2: 1, 3: 1}
    window.told.clear()
    window.annotate.delete_class(3)
    assert [record.value for record in window.work.records] == [2]
    assert window.told == ["class 3 was deleted, and 1 box of it was deleted too."]
    window.drawing.undo()  # would bring back a box without a class
    assert [record.value for record in window.work.records] == [2]


def test_a_second_click_does_not_stop_what_the_first_began(window):
    window.draw()
    dock = BoxesDock(window.viewer, lambda _: window.coordinator)
    try:
        window.coordinator.show_all()
        panel = dock.findChild(BoxesPanel)
        window.told.clear()
        QTest.mouseClick(panel.run, Qt.MouseButton.LeftButton)
        assert panel.run.text() == "Stop"
        QTest.mouseDClick(panel.run, Qt.MouseButton.LeftButton)
        window.masks.run()
        assert window.work.running
        assert len(window.worker.asked(LabelBoxes)) == 1
        QTest.mouseClick(panel.run, Qt.MouseButton.LeftButton)
        assert panel.run.text() == "Make masks"
        assert not window.told
    finally:
        dock.deleteLater()


def test_a_box_warns_of_the_orientation_in_which_it_is_thin(window):
    window.draw(axis=1, index=5, low=(4, 10), high=(8, 20))
    (row,) = window.state.rows
    assert row.warning.startswith("Only one coronal slice deep: ")
    assert row.size == "10 × 1 × 12 mm"
    window.session.spacing = (0.5, 0.04, 0.02)
    assert window.state.rows[0].size == "0.2 × 0.04 × 2 mm"
    window.session.shape = (12, 1, 48)
    assert not window.state.rows[0].warning
    window.session.shape = (12, 40, 48)
    window.drawing.change(row.number, (4, 5, 10), (8, 9, 20))
    assert not window.state.rows[0].warning


def test_boxes_are_drawn_anew_only_where_something_changed(window, monkeypatch):
    window.draw()
    redrawn = []
    layer = window.drawing._layer
    monkeypatch.setattr(layer, "show_boxes", lambda *_: redrawn.append(1))
    window.annotate.go_to_slice(0, 2)
    window.annotate.go_to_slice(0, 6)
    settle()
    assert not redrawn
    window.annotate.recolor_class(2, "#102030")
    assert redrawn


def test_choosing_a_box_brings_its_layer_back(window):
    window.draw()
    window.viewer.layers.remove(window.layer)
    window.drawing.choose(window.work.records[0].number)
    assert window.layer.nshapes == 1


def test_no_warning_of_outlines_in_3d(window):
    window.draw()
    window.make(window.labels())
    window.masks.keep(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shown in (3, 2, 3, 2):
            window.viewer.dims.ndisplay = shown
            settle(0.02)
    assert window.viewer.layers["labels from boxes of scan"].contour == 1


def test_keys_while_boxes_are_drawn(hand):
    robot, session = hand.robot, hand.session
    hand.annotate.add_class()
    hand.annotate.select(2)
    robot.key(Qt.Key.Key_B)
    robot.wait(lambda: hand.work.drawing, 5)
    assert annotate_state(session).tool == ""
    robot.key(Qt.Key.Key_3)
    assert hand.work.drawing
    assert session.selected == 3
    hand.told.clear()
    robot.key(Qt.Key.Key_1)
    assert session.selected == 3
    assert len(hand.told) == 1
    robot.stroke(hand.viewer.layers["scan"], [(6, 10, 12), (6, 15, 20), (6, 25, 33)])
    robot.wait(lambda: hand.work.records, 5)
    assert hand.work.records[0].value == 3
    robot.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not hand.work.records
    for key, tool in ((Qt.Key.Key_E, "erase"), (Qt.Key.Key_F, "fill"), (Qt.Key.Key_P, "paint")):
        hand.drawing.draw(True)
        robot.key(key)
        assert not hand.work.drawing
        assert annotate_state(session).tool == tool


def test_no_box_is_drawn_in_3d(window):
    window.viewer.dims.ndisplay = 3
    press = next(action for key, action in window.viewer.layers["scan"].keymap.items() if str(key) == "B")
    press(window.viewer.layers["scan"])
    assert not window.work.drawing
    assert window.told == ["Show a slice first; the view is in 3D."]


def test_a_stroke_is_one_change_however_long_it_takes(hand):
    robot, layer = hand.robot, hand.viewer.layers["labels of scan"]
    layer.brush_size = 2
    points = [robot.canvas_position(layer, place) for place in ((6, 10, 12), (6, 20, 20), (6, 25, 33))]
    QTest.mouseMove(robot.canvas, points[0])
    QTest.mousePress(robot.canvas, Qt.MouseButton.LeftButton, pos=points[0])
    for point in points:
        QTest.mouseMove(robot.canvas, point)
        QApplication.processEvents()
        settle(0.3)
    assert hand.session.changes == 0
    QTest.mouseRelease(robot.canvas, Qt.MouseButton.LeftButton, pos=points[-1])
    settle()
    assert hand.session.changes == 1
