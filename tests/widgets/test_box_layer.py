"""Boxes drawn and edited by a real mouse become voxels, however the image lies."""

import warnings

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.widgets.box_layer import BoxLayer, ShownBox
from napari_sparseseg.widgets.image_source import prepare_reading
from napari_sparseseg.widgets.placement import Placement, find_camera, move_to_slice, slice_axis, turn_to
from tests.robot import Robot
from tests.widgets.conftest import settle
from tests.widgets.test_painting import IMAGES, Hand

TABLE = ClassTable.from_values((2, 3))
BOX = ShownBox(7, 2, (3, 10, 12), (9, 26, 34))
NEAR = ShownBox(8, 3, (4, 14, 20), (6, 20, 28))  # inside the other


class Desk:
    """What the project's window does with a box layer: tells it what is visible, and notes what it says."""

    def __init__(self, viewer, values, **lies):
        self.viewer = viewer
        self.image = viewer.add_image(values, name="scan", **lies)
        self.source = prepare_reading(self.image)()
        self.boxes = BoxLayer(viewer, self.source, TABLE)
        self.layer = self.boxes.layer
        self.told = []
        for name in ("drawn", "changed", "deleted", "chosen", "removed"):
            signal = getattr(self.boxes, name)
            signal.connect(lambda *what, name=name: self.told.append((name, *what)), check_nargs=False)
        viewer.dims.events.connect(self.follow)
        self.follow()

    def follow(self, event=None):
        self.boxes.show_slice(*self.view())

    def close(self):
        self.viewer.dims.events.disconnect(self.follow)
        self.boxes.close()

    def view(self):
        if self.source.placement.ndim == 2:
            return (0 if self.viewer.dims.ndisplay == 2 else None), 0
        axis = slice_axis(self.viewer.dims, 3)
        if axis is None:
            return None, 0
        return axis, round(self.source.placement.slice_at(np.array(self.viewer.dims.point), axis))

    def go(self, axis, index):
        turn_to(self.viewer.dims, 3, axis)
        move_to_slice(self.viewer.dims, self.source.placement, axis, index)
        settle()

    def show(self, *boxes, value=2, chosen=None):
        self.boxes.show_boxes(boxes, TABLE, value, chosen)

    def said(self, name):
        return [what[1:] for what in self.told if what[0] == name]

    def seen(self):
        """Return the ranges in the visible slice of what the layer shows, in voxels, by number."""
        numbers = np.asarray(self.layer.features["number"])
        visible = [place for place in range(self.layer.nshapes) if place in self.layer._view_indices]
        units = self.layer.units_per_voxel
        return {
            int(numbers[place]): (
                (self.layer.data[place].min(0) / units).tolist(),
                (self.layer.data[place].max(0) / units).tolist(),
            )
            for place in visible
        }


@pytest.fixture(scope="module")
def screen():
    """A viewer on the screen, which takes a second to make."""
    import napari

    made = napari.Viewer(show=True)
    made.window.resize(800, 600)
    made.window.add_dock_widget(QWidget(), name="beside")  # the robot knows the window by it
    settle(0.1)
    yield made
    made.close()
    QApplication.processEvents()


@pytest.fixture
def make_desk(screen):
    made = []

    def make(values, **lies):
        made.append(Desk(screen, values, **lies))
        return made[-1]

    yield make
    for desk in made:
        desk.close()
    screen.layers.clear()
    screen.dims.ndisplay, screen.dims.order = 2, tuple(range(screen.dims.ndim))
    settle()


@pytest.fixture
def desk(make_desk, image):
    desk = make_desk(image)
    desk.go(0, 6)
    return desk


@pytest.fixture(scope="module")
def hand_of_robot(screen):
    return Robot(screen)


@pytest.fixture
def robot(hand_of_robot, desk):
    camera = find_camera(desk.viewer)
    camera.center, camera.zoom = (0, 20, 24), 8
    settle()
    return hand_of_robot


def pull(robot, start, stop, steps=3, held=lambda: None):
    """Drag the mouse between two pixels, and do something before it is let go."""
    QTest.mouseMove(robot.canvas, start)
    QTest.mousePress(robot.canvas, Qt.MouseButton.LeftButton, pos=start)
    for step in range(1, steps + 1):
        QTest.mouseMove(robot.canvas, start + (stop - start) * step / steps)
        QApplication.processEvents()
    held()
    QTest.mouseRelease(robot.canvas, Qt.MouseButton.LeftButton, pos=stop)
    settle()


def in_view(axis, index, row, column):
    place = [row, column]
    place.insert(axis, index)
    return place


@pytest.mark.parametrize("lies", IMAGES)
def test_a_rectangle_becomes_the_voxels_under_the_mouse(make_desk, image, lies):
    warnings.filterwarnings("ignore", "Non-orthogonal slicing")
    desk = make_desk(image, **IMAGES[lies])
    for axis in range(3):
        desk.told.clear()
        desk.show()
        draw_across(desk, axis)


def draw_across(desk, axis):
    desk.go(axis, desk.source.shape[axis] // 2)
    axis, index = desk.view()
    others = [other for other in range(3) if other != axis]
    first = [3 if other == 0 else 10 for other in others]
    last = [8 if other == 0 else 22 for other in others]
    affine = desk.source.placement.affine
    hand = Hand(desk.viewer)
    camera = find_camera(desk.viewer)
    camera.zoom = 4

    def drawn(row, column):
        place = np.array(in_view(axis, index, row, column), float)
        return affine[others][:, others] @ place[others] + affine[others, 3]

    camera.center = (camera.center[0], *drawn(*np.add(first, last) / 2))
    desk.boxes.draw(True)
    settle()
    assert desk.boxes.drawing
    hand.drag(drawn(*np.array(first) - 0.5), drawn(*np.add(first, last) / 2), drawn(*np.array(last) + 0.5))
    settle()
    ((told_axis, start, stop),) = desk.said("drawn")
    assert told_axis == axis
    assert (start[axis], stop[axis]) == (index, index + 1)
    assert np.abs(np.array(start)[others] - first).max() <= 1
    assert np.abs(np.array(stop)[others] - 1 - last).max() <= 1
    assert desk.layer.nshapes == 0
    desk.show(ShownBox(1, 2, start, stop))
    assert list(desk.seen()) == [1]
    assert [name for name, *_ in desk.told] == ["drawn"]


def test_the_robot_draws_two_boxes_of_two_classes(desk, robot):
    desk.boxes.draw(True)
    settle()
    robot.stroke(desk.image, [(6, 10, 12), (6, 15, 20), (6, 25, 33)])
    settle()
    ((axis, start, stop),) = desk.said("drawn")
    assert axis == 0
    assert np.abs(np.subtract(start, (6, 10, 12))).max() <= 1
    assert np.abs(np.subtract(stop, (7, 26, 34))).max() <= 1
    desk.show(ShownBox(1, 2, start, stop), value=3, chosen=1)
    assert desk.boxes.drawing
    pull(
        robot, robot.canvas_position(desk.image, (6, 32, 40)), robot.canvas_position(desk.image, (6, 28, 36)),
        held=lambda: np.testing.assert_allclose(
            desk.layer.edge_color[-1][:3], [0xE6 / 255, 0x9F / 255, 0], atol=1e-3
        ),
    )  # fmt: skip
    assert len(desk.said("drawn")) == 2
    assert list(desk.seen()) == [1]
    assert not desk.said("changed")


def test_other_shapes_become_rectangles(desk, robot):
    desk.viewer.layers.selection.active = desk.layer
    for tool in ("add_ellipse", "add_line", "add_polygon_lasso"):
        desk.told.clear()
        draw_shape(desk, robot, tool)


def draw_shape(desk, robot, tool):
    desk.layer.mode = tool
    settle()
    assert not desk.boxes.drawing
    path = [(6, 10, 12), (6, 10, 22), (6, 18, 33), (6, 25, 33), (6, 25, 22), (6, 25, 33)]
    robot.stroke(desk.image, path)
    settle()
    ((axis, start, stop),) = desk.said("drawn")
    assert axis == 0
    assert np.abs(np.subtract(start, (6, 10, 12))).max() <= 1
    assert np.abs(np.subtract(stop, (7, 26, 34))).max() <= 1
    assert desk.layer.nshapes == 0


def test_a_polygon_of_many_clicks_is_left_alone_until_it_is_done(desk, robot):
    desk.viewer.layers.selection.active = desk.layer
    desk.layer.mode = "add_polygon"
    settle()
    for place in [(6, 10, 12), (6, 10, 33), (6, 25, 33), (6, 25, 13)]:
        point = robot.canvas_position(desk.image, place)
        QTest.mouseMove(robot.canvas, point)
        QTest.mouseClick(robot.canvas, Qt.MouseButton.LeftButton, pos=point)
        settle()
        desk.show(BOX)
        assert desk.layer.nshapes == 1
        assert not desk.told
    robot.key(Qt.Key.Key_Escape)
    settle()
    assert len(desk.said("drawn")) == 1
    assert list(desk.seen()) == [7]


def test_clicks_and_lines_are_dropped(desk, robot):
    desk.boxes.draw(True)
    start = robot.canvas_position(desk.image, (6, 20, 20))
    for to in [(0, 0), (40, 0), (0, -40), (1, 2)]:
        pull(robot, start, start + QPoint(*to), steps=2)
        assert not desk.told
        assert desk.layer.nshapes == 0


def test_a_rectangle_is_cut_at_the_border_and_dropped_outside(desk, robot):
    desk.boxes.draw(True)
    find_camera(desk.viewer).zoom = 5
    settle()
    robot.stroke(desk.image, [(6, -6, -4), (6, 4, 4), (6, 50, 11)])
    settle()
    ((_, start, stop),) = desk.said("drawn")
    assert start == (6, 0, 0)
    assert stop[:2] == (7, 40)
    robot.stroke(desk.image, [(6, 10, -9), (6, 12, -6), (6, 20, -3)])
    settle()
    assert len(desk.said("drawn")) == 1
    assert desk.layer.nshapes == 0


def test_a_corner_handle_resizes_within_the_slice(desk, robot):
    for axis in range(3):
        desk.told.clear()
        pull_corner(desk, robot, axis)


def pull_corner(desk, robot, axis):
    desk.go(axis, BOX.start[axis] + 1)
    find_camera(desk.viewer).center = (0, *[(5, 20, 24)[other] for other in range(3) if other != axis])
    desk.boxes.draw(False)
    desk.viewer.layers.selection.active = desk.layer
    desk.show(BOX, chosen=7)
    settle()
    index = BOX.start[axis] + 1
    rows, columns = (other for other in range(3) if other != axis)
    corner = in_view(axis, index, BOX.stop[rows] - 0.5, BOX.stop[columns] - 0.5)
    goal = in_view(axis, index, BOX.stop[rows] - 0.5 + 2.2, BOX.stop[columns] - 0.5 - 3.2)
    pull(robot, robot.canvas_position(desk.image, corner), robot.canvas_position(desk.image, goal))
    ((number, start, stop),) = desk.said("changed")
    expected = list(BOX.stop)
    expected[rows] += 2
    expected[columns] -= 3
    assert (number, start) == (7, BOX.start)
    assert np.abs(np.subtract(stop, expected)).max() <= 1
    assert stop[axis] == BOX.stop[axis]
    low, high = desk.seen()[7]
    assert [low[rows], low[columns]] == [start[rows] - 0.5, start[columns] - 0.5]
    assert [high[rows], high[columns]] == [stop[rows] - 0.5, stop[columns] - 0.5]
    assert not desk.said("drawn") + desk.said("deleted") + desk.said("chosen")


def test_dragging_the_inside_moves_a_box_and_chooses_it(desk, robot):
    for axis in range(3):
        desk.told.clear()
        pull_inside(desk, robot, axis)


def pull_inside(desk, robot, axis):
    index = BOX.start[axis] + 1
    desk.go(axis, index)
    find_camera(desk.viewer).center = (0, *[(5, 20, 24)[other] for other in range(3) if other != axis])
    desk.viewer.layers.selection.active = desk.layer
    desk.show(BOX)
    settle()
    middle = np.add(BOX.start, BOX.stop) / 2
    middle[axis] = index
    rows, columns = (other for other in range(3) if other != axis)
    goal = middle.copy()
    goal[rows] += 1.1
    goal[columns] += 5.2 if columns == 2 else 4.9
    pull(robot, robot.canvas_position(desk.image, middle), robot.canvas_position(desk.image, goal))
    ((number, start, stop),) = desk.said("changed")
    shift = np.round(goal - middle).astype(int)
    assert number == 7
    assert np.subtract(start, BOX.start).tolist() == np.subtract(stop, BOX.stop).tolist() == shift.tolist()
    assert desk.said("chosen") == [(7,)]


@pytest.mark.parametrize("lies", ["anisotropic", "oblique"])
def test_boxes_of_coarse_and_oblique_images_are_moved(make_desk, image, lies):
    warnings.filterwarnings("ignore", "Non-orthogonal slicing")
    desk = make_desk(image, **IMAGES[lies])
    camera = find_camera(desk.viewer)
    hand = Hand(desk.viewer)
    desk.viewer.layers.selection.active = desk.layer
    for axis in range(3):
        desk.show(BOX)
        desk.go(axis, BOX.start[axis] + 1)
        others = [other for other in range(3) if other != axis]
        affine = desk.source.placement.affine
        middle = affine[others][:, others] @ (np.add(BOX.start, BOX.stop) / 2)[others] + affine[others, 3]
        camera.center, camera.zoom = (0, *middle), 4
        settle()
        step = affine[others][:, others] @ (1.2, 3.1)
        hand.drag(middle, middle + step / 2, middle + step)
        _, start, stop = desk.said("changed")[-1]
        shift = np.zeros(3, int)
        shift[others] = 1, 3
        assert np.abs(np.subtract(start, BOX.start) - shift).max() <= (0 if lies == "anisotropic" else 1)
        assert np.subtract(stop, start).tolist() == np.subtract(BOX.stop, BOX.start).tolist()
    assert len(desk.said("changed")) == 3


def test_a_turned_rectangle_becomes_its_bounding_box(desk, robot):
    desk.viewer.layers.selection.active = desk.layer
    desk.show(BOX, chosen=7)
    settle()
    box = desk.layer.interaction_box(desk.layer.selected_data)
    handle = robot.canvas_position(desk.image, (6, *box[9]))
    pull(robot, handle, handle + QPoint(90, 60), steps=6)
    ((number, start, stop),) = desk.said("changed")
    assert number == 7
    assert (start[0], stop[0]) == (3, 9)
    assert start[1] < 10
    assert stop[1] > 26
    corners = desk.layer.data[0][:, 1:]
    assert sorted(map(tuple, corners)) == sorted(
        (row - 0.5, column - 0.5) for row in (start[1], stop[1]) for column in (start[2], stop[2])
    )


def test_the_front_box_is_taken_and_the_delete_key_deletes_it(desk, robot):
    desk.go(0, 5)
    desk.viewer.layers.selection.active = desk.layer
    desk.show(NEAR, BOX)
    settle()
    point = robot.canvas_position(desk.image, (5, 17, 24))
    QTest.mouseMove(robot.canvas, point)
    QTest.mouseClick(robot.canvas, Qt.MouseButton.LeftButton, pos=point)
    settle()
    assert desk.told == [("chosen", 8)]
    robot.key(Qt.Key.Key_Delete)
    settle()
    assert desk.said("deleted") == [(8,)]
    assert desk.said("chosen") == [(8,), (None,)]
    assert list(desk.seen()) == [7]
    point = robot.canvas_position(desk.image, (5, 24, 14))
    QTest.mouseClick(robot.canvas, Qt.MouseButton.LeftButton, pos=point)
    settle()
    QTest.mouseClick(
        robot.canvas, Qt.MouseButton.LeftButton, pos=robot.canvas_position(desk.image, (5, 5, 5))
    )
    settle()
    assert desk.said("chosen")[2:] == [(7,), (None,)]


def test_a_pasted_box_is_a_new_one(desk, robot):
    desk.viewer.layers.selection.active = desk.layer
    desk.show(BOX, chosen=7)
    robot.key(Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    desk.go(0, 11)
    assert desk.seen() == {}
    robot.key(Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    settle()
    assert desk.told == [("drawn", 0, (11, 10, 12), (12, 26, 34))]


def test_a_drag_goes_on_while_the_project_shows_something_else(desk, robot):
    desk.viewer.layers.selection.active = desk.layer
    desk.show(BOX, chosen=7)
    settle()
    moved = ShownBox(7, 2, (2, 10, 12), (10, 26, 34))

    def meanwhile():
        desk.show(moved, NEAR, chosen=8)
        desk.boxes.show_slice(0, 5)
        assert list(desk.seen()) == [7]

    start = robot.canvas_position(desk.image, (6, 15, 15))
    pull(robot, start, start + QPoint(40, 24), held=meanwhile)
    assert desk.said("changed") == [(7, (2, 13, 17), (10, 29, 39))]
    assert not desk.said("deleted")
    numbers = np.asarray(desk.layer.features["number"]).tolist()
    assert sorted(numbers) == [7, 8]


def test_a_box_that_leads_out_of_the_volume_is_left_as_it_is_until_it_is_moved(desk, robot):
    desk.viewer.layers.selection.active = desk.layer
    desk.show(BOX, ShownBox(9, 3, (-3, -4, 30), (20, 8, 60)), chosen=7)
    settle()
    start = robot.canvas_position(desk.image, (6, 15, 15))
    pull(robot, start, start + QPoint(40, 28))  # an exact half of a voxel
    assert desk.said("changed") == [(7, (3, 14, 17), (9, 30, 39))]
    start = robot.canvas_position(desk.image, (6, 2, 40))
    pull(robot, start, start + QPoint(0, 16))
    assert desk.said("changed")[1:] == [(9, (-3, 0, 30), (20, 10, 48))]


def test_a_rectangle_is_finished_in_its_slice_when_the_view_moves_on(desk, robot):
    desk.boxes.draw(True)
    start = robot.canvas_position(desk.image, (6, 10, 10))
    pull(robot, start, start + QPoint(80, 80), held=lambda: desk.boxes.show_slice(0, 3))
    ((axis, start, stop),) = desk.said("drawn")
    assert (axis, start[0], stop[0]) == (0, 6, 7)


def test_each_slice_shows_the_boxes_that_reach_it(desk):
    desk.show(BOX, NEAR, chosen=8)
    for axis in range(3):
        sides = (BOX.start[axis], BOX.stop[axis], NEAR.start[axis], NEAR.stop[axis])
        for index in (0, *(side - before for side in sides for before in (1, 0))):
            desk.go(axis, index)
            reached = [box for box in (BOX, NEAR) if box.start[axis] <= index < box.stop[axis]]
            seen = desk.seen()
            assert sorted(seen) == sorted(box.number for box in reached)
            for box in reached:
                low, high = (np.delete(side, axis) for side in seen[box.number])
                np.testing.assert_allclose(low, np.delete(box.start, axis) - 0.5)
                np.testing.assert_allclose(high, np.delete(box.stop, axis) - 0.5)
    settle()
    assert not desk.told


def test_showing_says_nothing_in_two_and_three_dimensions(desk, robot):
    desk.boxes.draw(True)
    desk.show(BOX, NEAR, value=3, chosen=8)
    desk.viewer.dims.ndisplay = 3
    settle(0.05)
    assert desk.layer.nshapes == 24
    assert set(desk.layer.shape_type) == {"path"}
    assert not desk.layer.editable
    assert desk.boxes.drawing
    ends = np.concatenate(desk.layer.data)
    np.testing.assert_allclose(ends.min(0), np.array(BOX.start) - 0.5)
    np.testing.assert_allclose(ends.max(0), np.array(BOX.stop) - 0.5)
    desk.viewer.dims.ndisplay = 2
    settle(0.05)
    assert desk.layer.mode == "add_rectangle"
    desk.boxes.draw(False)
    settle()
    assert desk.layer.mode == "select"
    assert len(desk.layer.selected_data) == 0  # box 8 is not in this slice
    desk.go(0, 5)
    assert len(desk.layer.selected_data) == 1
    desk.viewer.dims.ndisplay = 3
    desk.boxes.draw(True)
    desk.boxes.draw(False)
    desk.viewer.dims.ndisplay = 2
    find_camera(desk.viewer).zoom = 3
    assert np.allclose(sorted(desk.layer.edge_width), [0.5, 1])
    affine = np.diag([3.0, 2, 2, 1])
    desk.boxes.place(Placement(affine))
    np.testing.assert_allclose(desk.layer.data_to_world(desk.layer.data[0][0])[1:], np.array([9.5, 11.5]) * 2)
    settle(0.02)
    assert not desk.told


def test_edges_and_handles_are_as_wide_as_high_on_coarse_images(make_desk, image):
    desk = make_desk(image, scale=(4, 0.7, 0.7))
    desk.show(BOX)
    for axis in (0, 1, 2, 1, 0):
        desk.go(axis, 5 if axis == 0 else 15)
        shown = [other for other in range(3) if other != axis]
        assert np.ptp(desk.layer.scale) == 0
        corners = [np.array(desk.layer.data_to_world(vertex))[shown] for vertex in desk.layer.data[0]]
        spacing = np.array((4, 0.7, 0.7))[shown]
        np.testing.assert_allclose(np.min(corners, 0), (np.array(BOX.start)[shown] - 0.5) * spacing)
        np.testing.assert_allclose(np.max(corners, 0), (np.array(BOX.stop)[shown] - 0.5) * spacing)
        assert desk.viewer.dims.range[-3 + axis].step == pytest.approx((4, 0.7, 0.7)[axis])


def test_boxes_of_a_flat_image(make_desk, hand_of_robot):
    desk = make_desk(np.zeros((40, 48), np.float32), scale=(2, 1))
    robot = hand_of_robot
    desk.boxes.draw(True)
    robot.stroke(desk.image, [(10, 12), (15, 20), (25, 33)])
    settle()
    ((axis, start, stop),) = desk.said("drawn")
    assert (axis, start[0], stop[0]) == (0, 0, 1)
    assert np.abs(np.subtract(start[1:], (10, 12))).max() <= 1
    assert np.abs(np.subtract(stop[1:], (26, 34))).max() <= 1
    desk.show(ShownBox(1, 2, start, stop))
    desk.viewer.dims.ndisplay = 3
    settle()
    desk.show(ShownBox(1, 2, start, stop), ShownBox(2, 2, (0, 1, 1), (1, 3, 4)))
    assert desk.layer.nshapes == 1
    desk.viewer.dims.ndisplay = 2
    settle()
    assert list(desk.seen()) == [1, 2]
    assert desk.layer.mode == "add_rectangle"


def test_closing_leaves_nothing_and_taking_the_layer_out_is_told(viewer, image):
    viewer.add_image(image, name="other")
    camera = find_camera(viewer)

    def count():
        return len(viewer.layers.events.removed.callbacks), len(camera.events.zoom.callbacks)

    def make():
        return Desk(viewer, image)

    desk = make()
    viewer.layers.selection.active = viewer.layers["other"]
    before, active = count(), viewer.layers.selection.active
    second = BoxLayer(viewer, desk.source, TABLE)
    assert viewer.layers.selection.active is active
    assert count() != before
    second.close()
    assert count() == before
    assert (
        not second.layer.mouse_drag_callbacks
        or second._edits.follow_drag not in second.layer.mouse_drag_callbacks
    )
    assert second.layer not in viewer.layers
    viewer.layers.remove(desk.layer)
    assert desk.told == [("removed",)]
    desk.show(BOX)
    desk.boxes.draw(True)
    settle()
    desk.boxes.close()
    desk.boxes.close()
    assert desk.told == [("removed",)]
