"""Strokes by a real mouse and real keys land where the user points, however the image lies."""

import warnings

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QKeyEvent, QMouseEvent
from qtpy.QtWidgets import QApplication, QWidget
from scipy.spatial.transform import Rotation

from napari_sparseseg.widgets.placement import find_camera
from tests.widgets.conftest import settle, wait_for


@pytest.fixture
def shown():
    """A viewer on the screen."""
    import napari

    made = napari.Viewer(show=True)
    settle(0.1)
    yield made
    made.close()
    QApplication.processEvents()


def find_canvas(viewer):
    """Return the widget that napari draws on."""
    (canvas,) = (
        widget
        for widget in QApplication.allWidgets()
        if type(widget).__name__.startswith("CanvasBackend") and widget.window().isVisible()
    )
    assert isinstance(canvas, QWidget)
    return canvas


class Hand:
    """A mouse and a keyboard over the canvas."""

    def __init__(self, viewer):
        self.viewer = viewer
        self.canvas = find_canvas(viewer)

    def point(self, row, column):
        """Return where on the canvas a world position of the two shown axes is."""
        camera = find_camera(self.viewer)
        _, center_row, center_column = camera.center
        size = self.canvas.size()
        x = size.width() / 2 + (column - center_column) * camera.zoom
        down = 1 if str(camera.orientation2d[0]).endswith("down") else -1
        y = size.height() / 2 + down * (row - center_row) * camera.zoom
        return QPoint(round(x), round(y))

    def drag(self, *places):
        points = [self.point(*place) for place in places]
        self._mouse(QEvent.Type.MouseMove, points[0], pressed=False)
        self._mouse(QEvent.Type.MouseButtonPress, points[0])
        for point in points[1:]:
            self._mouse(QEvent.Type.MouseMove, point)
        self._mouse(QEvent.Type.MouseButtonRelease, points[-1], pressed=False)
        settle()

    def press(self, key, text="", modifiers=Qt.KeyboardModifier.NoModifier):
        for kind in (QEvent.Type.KeyPress, QEvent.Type.KeyRelease):
            QApplication.sendEvent(self.canvas, QKeyEvent(kind, key, modifiers, text))
        settle()

    def _mouse(self, kind, point, pressed=True):
        button = Qt.MouseButton.LeftButton if kind != QEvent.Type.MouseMove else Qt.MouseButton.NoButton
        buttons = Qt.MouseButton.LeftButton if pressed else Qt.MouseButton.NoButton
        place = QPointF(point)
        where = QPointF(self.canvas.mapToGlobal(point))
        event = QMouseEvent(kind, place, where, button, buttons, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(self.canvas, event)
        settle()


def turned(degrees, spacing):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = -20, 13, 40
    return affine


IMAGES = {
    "plain": {},
    "anisotropic": {"scale": (4, 0.7, 0.7)},
    "oblique": {"affine": turned((8, -6, 10), (3, 1, 1))},
    "strongly oblique": {"affine": turned((20, 15, -25), (2, 1, 1))},
}


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("lies", IMAGES)
def test_a_stroke_lies_in_the_visible_slice_under_the_mouse(shown, make_coordinator, image, lies, axis):
    warnings.filterwarnings("ignore", "Non-orthogonal slicing")
    shown.add_image(image, name="scan", **IMAGES[lies])
    coordinator = make_coordinator(shown)
    wait_for(lambda: coordinator.session.image == "scan")
    hand = Hand(shown)
    coordinator.annotate.turn(axis)
    coordinator.annotate.go_to_slice(axis, image.shape[axis] // 2)
    index = coordinator.session.slice_index  # of a strongly turned image napari does not reach every slice
    find_camera(shown).zoom = 4
    coordinator.annotate.set_brush_size(1)
    settle(0.05)
    layer = shown.layers["labels of scan"]
    start = [size // 2 for size in image.shape]
    start[axis] = index
    end = list(start)
    along = 2 if axis != 2 else 1
    end[along] += 6
    affine = layer.placement.affine
    others = [other for other in range(3) if other != axis]

    def drawn(voxel):
        return affine[others][:, others] @ np.array(voxel)[others] + affine[others, 3]

    camera = find_camera(shown)
    camera.center = (camera.center[0], *drawn(start))
    settle(0.05)
    hand.press(Qt.Key.Key_2, "2")
    hand.drag(drawn(start), drawn(end))
    assert coordinator._place.case.voxel_at(shown.cursor.position) == tuple(end)
    painted = np.argwhere(layer.data)
    assert len(painted)
    assert set(painted[:, axis]) == {index}
    places = np.repeat([start], end[along] - start[along] + 1, axis=0)
    places[:, along] += np.arange(len(places))
    expected = {tuple(place) for place in places.tolist()}
    assert expected <= {tuple(place) for place in painted.tolist()}
    assert np.abs(painted - np.clip(painted, start, end)).max() <= 1
    assert coordinator.session.voxels == {2: len(painted)}


def test_keys_choose_classes_turn_the_view_and_undo(shown, make_coordinator, image):
    shown.add_image(image, name="scan")
    coordinator = make_coordinator(shown)
    wait_for(lambda: coordinator.session.image == "scan")
    coordinator.annotate.add_class()
    hand, layer = Hand(shown), shown.layers["labels of scan"]
    settle(0.05)
    hand.press(Qt.Key.Key_1, "1")
    assert layer.selected_label == coordinator.session.selected == 1
    hand.press(Qt.Key.Key_3, "3")
    assert layer.selected_label == coordinator.session.selected == 3
    hand.press(Qt.Key.Key_9, "9")  # no such class
    assert layer.selected_label == 3
    hand.press(Qt.Key.Key_O, "o")
    assert coordinator.session.orientation == 1
    for _ in range(2):
        hand.press(Qt.Key.Key_O, "o")
    assert coordinator.session.orientation == 0
    hand.press(Qt.Key.Key_E, "e")  # napari's own keys still work
    assert coordinator.session.tool == "erase"
    hand.press(Qt.Key.Key_P, "p")
    assert coordinator.session.tool == "paint"
    hand.drag((20, 20), (20, 26))
    assert coordinator.session.changes == 1
    hand.press(Qt.Key.Key_Z, "", Qt.KeyboardModifier.ControlModifier)
    assert not layer.data.any()
    assert coordinator.session.changes == 0
    hand.press(Qt.Key.Key_Q, "q")
    assert not shown.layers["prediction of scan"].visible


def test_flat_and_many_channel_images_are_painted(shown, make_coordinator):
    shown.add_image(np.zeros((40, 48), np.uint16), name="scan")
    coordinator = make_coordinator(shown)
    wait_for(lambda: coordinator.session.image == "scan")
    hand = Hand(shown)
    settle(0.05)
    hand.drag((20, 20), (20, 26))
    layer = shown.layers["labels of scan"]
    assert layer.data.shape == (40, 48)
    assert layer.data[20, 20:27].all()
    shown.add_image(np.random.default_rng(0).random((2, 6, 40, 48)), name="two")
    coordinator.images.choose("two")
    wait_for(lambda: coordinator.session.image == "two")
    settle(0.05)
    hand.drag((20, 20), (20, 26))
    layer = shown.layers["labels of two"]
    assert layer.data.shape == (6, 40, 48)
    assert layer.data[coordinator.session.slice_index, 20, 20:27].all()
    assert coordinator.session.voxels == {2: int(np.count_nonzero(layer.data))}
