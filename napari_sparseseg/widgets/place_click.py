"""Waiting for a click in the canvas that says a place, whatever tool is in the user's hand."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from napari import Viewer
from napari.layers import Layer
from qtpy.QtCore import QObject, Signal

_CLICK_PIXELS = 4.0  # farther, it is a drag, which moves the picture


class PlaceClick(QObject):
    """Waits for clicks, and lays the tool of the active layer down meanwhile, so that they draw nothing.

    It gives up when another layer, or another tool, is taken up.

    Parameters
    ----------
    viewer
        Where.
    parent
        Owner.
    """

    clicked = Signal(object)
    """World position of a click; it goes on waiting until `end`."""
    changed = Signal(bool)
    """Whether it waits now."""

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: Layer | None = None
        self._tool = ""
        self.waiting = False

    def begin(self) -> None:
        """Wait from now on."""
        if self.waiting:
            return
        self.waiting = True
        self._layer = layer = self._viewer.layers.selection.active
        if layer is not None:
            self._tool = str(layer.mode)
            layer.mode = "pan_zoom"
            layer.events.mode.connect(self.end)
        self._viewer.layers.selection.events.active.connect(self.end)
        self._viewer.mouse_drag_callbacks.append(self._follow_drag)
        self.changed.emit(True)

    def end(self) -> None:
        """Wait no longer; the tool is taken up again, unless the user has taken up another one."""
        if not self.waiting:
            return
        self.waiting = False
        viewer, layer, self._layer = self._viewer, self._layer, None
        viewer.mouse_drag_callbacks.remove(self._follow_drag)
        viewer.layers.selection.events.active.disconnect(self.end)
        if layer is not None:
            layer.events.mode.disconnect(self.end)
            if layer == viewer.layers.selection.active and layer.mode == "pan_zoom":
                layer.mode = self._tool
        self.changed.emit(False)

    def _follow_drag(self, _: Viewer, event: Any) -> Iterator[None]:
        if event.button != 1:
            return
        begun, dragged = np.array(event.pos), False
        yield
        while event.type == "mouse_move":
            dragged |= bool(np.abs(np.subtract(event.pos, begun)).max() > _CLICK_PIXELS)
            yield
        if self.waiting and not dragged:
            self.clicked.emit(tuple(event.position))
