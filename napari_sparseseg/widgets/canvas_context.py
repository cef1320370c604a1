"""Keeps napari 0.9 from ending the process where layers go out of a shown window."""

from napari import Viewer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QApplication, QWidget


class CanvasContext:
    """Makes the canvas's OpenGL context the current one before each removal of a layer.

    napari deletes shaders then, in whatever context is current: after any picture was shown that is Qt's own.
    Where the canvas still uses one of them, the next picture ends the process (seen with Mesa's drivers).

    Parameters
    ----------
    viewer
        Whose layers.
    """

    def __init__(self, viewer: Viewer) -> None:
        self.window: QWidget | None = None
        """Where the canvas is; None for any window."""
        self._removing = viewer.layers.events.removing
        self._removing.connect(self.take)

    def close(self) -> None:
        """Leave removals alone."""
        self._removing.disconnect(self.take)

    def take(self) -> None:
        """Make the canvas's context the current one."""
        for widget in QApplication.allWidgets():
            if isinstance(widget, QOpenGLWidget) and self.window in (None, widget.window()):
                widget.makeCurrent()
