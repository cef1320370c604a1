"""A hand at the mouse and the keyboard of a real napari window, for tests, benchmarks and pictures."""

import time

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication


class Robot:
    """Paints, presses and waits as a user does.

    Parameters
    ----------
    viewer
        A shown napari viewer.
    """

    def __init__(self, viewer):
        self.viewer = viewer
        self.settle(0.3)
        canvases = [w for w in QApplication.allWidgets() if "CanvasBackend" in type(w).__name__]
        self.canvas = next(w for w in canvases if w.isVisible() and w.window() is self.window)

    @property
    def window(self):
        widget = next(iter(self.viewer.window.dock_widgets.values()))
        return getattr(widget, "native", widget).window()

    def settle(self, seconds=0.05):
        """Let the window work."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.002)

    def wait(self, condition, seconds=60.0, what="what was waited for"):
        """Let the window work until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what} did not come within {seconds} s"
            QApplication.processEvents()
            time.sleep(0.002)

    def canvas_position(self, layer, position):
        """Return the pixel at which a layer shows the voxel at ``(z, y, x)``."""
        world = np.asarray(layer.data_to_world(position))
        shown = list(self.viewer.dims.displayed)
        offset = len(world) - self.viewer.dims.ndim
        y, x = (world[axis + offset] for axis in shown)
        camera = self.viewer.scene.camera if hasattr(self.viewer, "scene") else self.viewer.camera
        centre, zoom = camera.center[-2:], camera.zoom
        ratio = self.canvas.devicePixelRatioF()
        size = self.canvas.size()
        return QPoint(
            round(size.width() / 2 + (x - centre[1]) * zoom / ratio),
            round(size.height() / 2 + (y - centre[0]) * zoom / ratio),
        )

    def stroke(self, layer, positions):
        """Press the left button at the first voxel, move over the others, and let go at the last."""
        points = [self.canvas_position(layer, position) for position in positions]
        QTest.mouseMove(self.canvas, points[0])
        QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=points[0])
        for point in points:
            QTest.mouseMove(self.canvas, point)
            QApplication.processEvents()
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=points[-1])
        QApplication.processEvents()

    def key(self, key, modifier=Qt.KeyboardModifier.NoModifier):
        """Press a key while the canvas has the keyboard."""
        self.canvas.setFocus()
        QTest.keyClick(self.canvas, key, modifier)
        QApplication.processEvents()

    def click(self, widget):
        """Click a widget in its middle."""
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton, pos=widget.rect().center())
        QApplication.processEvents()

    def find(self, kind, text):
        """Return the visible widget of a kind that says, or is called, `text`."""
        for widget in self.window.findChildren(kind):
            words = [widget.accessibleName(), getattr(widget, "text", str)()]
            if widget.isVisible() and text in words:
                return widget
        raise AssertionError(f"no {kind.__name__} says {text!r}")
