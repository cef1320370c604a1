"""Hearing what the user does to a layer, apart from what the program does to it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from napari import Viewer
from napari.layers import Layer
from qtpy.QtCore import QTimer


class LayerEdits:
    """Gathers what the user does to a layer, and has it read once when nothing more happens at that moment.

    Parameters
    ----------
    viewer, layer
        The layer, which lies in the viewer until `close`.
    read
        Reads what was done; called by a timer after `read_soon`.
    released
        Called when the mouse is let go over the layer, while that is still there; by default `read_soon`.

    Attributes
    ----------
    own
        Whether the program changes the layer at this moment.
    pressed
        Whether the mouse is held down on it.
    """

    def __init__(
        self,
        viewer: Viewer,
        layer: Layer,
        read: Callable[[], None],
        released: Callable[[], None] | None = None,
    ) -> None:
        self._viewer, self._layer, self._released = viewer, layer, released or self.read_soon
        self.own = self.pressed = False
        self._connections: list[tuple[Any, Callable[[Any], None]]] = []
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(read)

    def listen(self, *connections: tuple[Any, Callable[[Any], None]]) -> None:
        """Follow the mouse, and hand events of emitters to callbacks, until `close`."""
        self._layer.mouse_drag_callbacks.append(self.follow_drag)
        for emitter, callback in connections:
            emitter.connect(callback)
            self._connections.append((emitter, callback))

    def close(self) -> None:
        """Listen no longer, and take the layer out of the viewer."""
        self.stop()
        for emitter, callback in self._connections:
            emitter.disconnect(callback)
        if self.follow_drag in self._layer.mouse_drag_callbacks:
            self._layer.mouse_drag_callbacks.remove(self.follow_drag)
        if self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)

    def read_soon(self) -> None:
        """Have what was done read when this event is over."""
        self._timer.start()

    def stop(self) -> None:
        """Read nothing any more of what was done."""
        self._timer.stop()

    @property
    def unread(self) -> bool:
        """Whether something will be read in a moment."""
        return bool(self._timer.isActive())

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Take what happens to the layer meanwhile for an act of the program, not of the user."""
        before, self.own = self.own, True
        try:
            yield
        finally:
            self.own = before

    def follow_drag(self, layer: Layer, event: Any) -> Iterator[None]:
        """Know that the mouse is down until it is let go; for napari's `mouse_drag_callbacks`."""
        self.pressed = True
        try:
            yield
            while event.type == "mouse_move":
                yield
        finally:  # napari drops this where it never hears of the release
            self.pressed = False
            if layer in self._viewer.layers:
                self._released()
