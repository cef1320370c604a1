"""Makes a used napari viewer like new, and tells what a test or the plugin has left behind in it."""

import gc
import threading
import time

from napari.layers import Image, Labels, Points, Shapes
from napari.utils.events import EmitterGroup
from napari.viewer import Viewer
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from napari_sparseseg.widgets.canvas_context import CanvasContext

_KEPT_BY_LIBRARIES = ("ThreadPoolExecutor", "Dask-", "IO loop")  # of Dask, until the process ends

_WORDS = ("title", "help", "theme")
_SECONDS = 20.0


class ViewerReset:
    """A viewer, and how it was when this was made, but for its layers.

    What users set (layers, docks, the place and view) is put back; what only programs set (keys, callbacks,
    threads) must have gone by itself.
    """

    def __init__(self, viewer):
        self.viewer = viewer
        self._empty()
        self._models = {name: model.model_dump() for name, model in self._find_models().items()}
        self._words = {name: getattr(viewer, name) for name in _WORDS}
        self._put_back()
        self._left = self._look()

    def restore(self):
        """Put back what users set, and fail where something else is not as it was."""
        self._empty()
        self._put_back()
        end = time.monotonic() + _SECONDS
        while (left := self._look()) != self._left and time.monotonic() < end:
            time.sleep(0.01)
            gc.collect()  # of what is in cycles
            _settle()
        changed = {key for key in left.keys() | self._left.keys() if left.get(key) != self._left.get(key)}
        told = [f"{key}: {self._left.get(key)} -> {left.get(key)}" for key in sorted(changed)]
        self._left = left  # the next test is not to blame
        assert not told, "the viewer is not as it was: " + "; ".join(told)

    def _put_back(self):
        for name, model in self._find_models().items():
            model.update(self._models[name])
        for name, word in self._words.items():
            setattr(self.viewer, name, word)
        _settle()

    def _empty(self):
        viewer = self.viewer
        canvas = CanvasContext(viewer)
        viewer.layers.clear()
        canvas.close()
        for widget in list(viewer.window.dock_widgets.values()):
            viewer.window.remove_dock_widget(widget)
        _settle()

    def _find_models(self):
        viewer = self.viewer
        models = {
            "dims": viewer.dims,
            "camera": viewer.scene.camera,
            "cursor": viewer.cursor,
            "tooltip": viewer.tooltip,
            "grid": viewer.canvas.grid,
        }
        for place in ("canvas", "scene"):
            for name, overlay in getattr(viewer, place).overlays.items():
                models[f"{place}.{name}"] = overlay
        return models

    def _look(self):
        viewer = self.viewer
        models = self._find_models()
        found = {name: str(model.model_dump()) for name, model in models.items()}
        found |= {name: getattr(viewer, name) for name in _WORDS}
        found["keys"] = sorted(map(str, viewer.keymap))
        for kind in (Viewer, Image, Labels, Points, Shapes):
            found[f"keys of {kind.__name__}"] = sorted(map(str, kind.class_keymap))
        for name in ("move", "wheel", "drag", "double_click"):
            found[f"mouse {name}"] = len(getattr(viewer, f"mouse_{name}_callbacks"))
        found["docks"] = sorted(viewer.window.dock_widgets)
        groups = {"viewer": viewer, "layers": viewer.layers, "selection": viewer.layers.selection} | models
        for group, model in groups.items():
            for name, number in _count_callbacks(model.events).items():
                found[f"callbacks of {group}.{name}"] = number
        names = (thread.name for thread in threading.enumerate())
        found["threads"] = sorted(name for name in names if not name.startswith(_KEPT_BY_LIBRARIES))
        return found


def _count_callbacks(events):
    """Return how much each event calls, by the event's name: of napari's own kind or of psygnal's."""
    if not isinstance(events, EmitterGroup):
        return {name: len(events[name]) for name in events}
    emitters = {name: emitter for name, emitter in events.emitters.items() if emitter is not None}
    return {name: sum(map(_is_alive, emitter.callbacks)) for name, emitter in emitters.items()}


def _is_alive(callback):
    """Tell whether what is called is still there: napari holds methods by weak references to their object."""
    return not isinstance(callback, tuple) or callback[0]() is not None


def _settle():
    """Let Qt do what is due, and delete what has been given up; it would wait for an event loop with that."""
    for _ in range(2):
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
