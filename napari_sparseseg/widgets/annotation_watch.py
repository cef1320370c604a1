"""Notices every change of the annotation layer, whoever made it: brush, undo, a script."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from napari.utils.events import Event
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_sparseseg.errors import InputError
from napari_sparseseg.widgets.annotation_layer import Labels

_SETTLE_MS = 250
_Box = tuple[slice, ...]


class AnnotationWatch:
    """Compares the layer with what was known of it, and says what is new.

    napari tells of a stroke by an event with the places that changed, and of undo by one without; a script
    that writes into the array tells at most by a refresh.  So the events say where and when to look, and a
    copy of the labels says what has changed.

    Parameters
    ----------
    layer
        The annotation; its array may be written to at any time.
    """

    changed = Signal(object, object, str, str)
    """Voxels ``(N,)`` int64, values ``(N,)`` uint8, how ("done", "undone", "redone"), and the source."""

    refused = Signal(str)
    """A sentence on labels that were put in and cannot be used; the layer has the ones before again."""

    def __init__(self, layer: Labels) -> None:
        self._layer = layer
        self._known = np.array(layer.data)
        self._source = "stroke"
        self._idle, self._soon = QTimer(), QTimer()
        for timer, milliseconds in ((self._idle, _SETTLE_MS), (self._soon, 0)):
            timer.setSingleShot(True)
            timer.setInterval(milliseconds)
            timer.timeout.connect(self._look_between_strokes)
        for emitter, callback in self._callbacks():
            emitter.connect(callback)

    def close(self) -> None:
        """Stop watching."""
        self._idle.stop()
        self._soon.stop()
        for emitter, callback in self._callbacks():
            emitter.disconnect(callback)

    def _callbacks(self) -> tuple[tuple[Any, Callable[..., None]], ...]:
        events = self._layer.events
        return (
            (events.paint, self._on_paint),
            (events.undone, self._on_undone),
            (events.redone, self._on_redone),
            (events.data, self._on_data),
            (events.set_data, self._on_refresh),
        )

    def look(self) -> None:
        """Compare all labels now."""
        self._compare((slice(None),) * self._layer.ndim, "done")

    def _look_between_strokes(self) -> None:
        if self._layer.is_painting:
            self._idle.start()  # a stroke is told of as a whole, when it ends
        else:
            self.look()

    def put(self, voxels: NDArray[np.int64], values: NDArray[np.uint8]) -> None:
        """Write values at flat indices, without a report and past napari's undo history."""
        self._layer.data.reshape(-1)[voxels] = values
        self._known.reshape(-1)[voxels] = values
        self._layer.refresh(extent=False)

    def paint(self, voxels: NDArray[np.int64], values: NDArray[np.uint8], source: str) -> None:
        """Write values at flat indices as a stroke does, so that undo takes them back; they are reported."""
        if len(voxels):
            with self._from(source), self._layer.block_history():
                self._layer.data_setitem(np.unravel_index(voxels, self._known.shape), values)

    def forget_history(self) -> None:
        """Empty napari's undo history, when what it would bring back must not return."""
        mode = self._layer.mode
        self._layer.editable = False
        self._layer.editable = True
        self._layer.mode = mode

    @contextmanager
    def _from(self, source: str) -> Iterator[None]:
        before, self._source = self._source, source
        try:
            yield
        finally:
            self._source = before

    def _on_paint(self, event: Event) -> None:
        # Of a brush stroke napari tells when it is done, of a polygon just before it is written.
        if not self._compare(_enclosing_box(event.value, self._known.shape), "done"):
            self._soon.start()

    def _on_undone(self) -> None:
        self._compare((slice(None),) * self._layer.ndim, "undone")

    def _on_redone(self) -> None:
        self._compare((slice(None),) * self._layer.ndim, "redone")

    def _on_refresh(self) -> None:
        self._idle.start()

    def _on_data(self) -> None:
        """Take in an array that replaces the one before."""
        data = self._layer.data
        if data is None or (data.shape == self._known.shape and data.dtype == np.uint8):
            self.look()
            return
        try:
            usable = _to_labels(data, self._known.shape)
        except InputError as error:
            usable = self._known.copy()
            self.refused.emit(str(error))
        self._layer.data = usable

    def _compare(self, box: _Box, how: str) -> bool:
        """Report what is new in a box; return whether anything is."""
        if self._layer.data.shape != self._known.shape:
            return False
        voxels: list[NDArray[np.int64]] = []
        for part in _planes(box, self._known.shape):
            now, before = self._layer.data[part], self._known[part]
            if np.array_equal(now, before):
                continue
            places = np.nonzero(now != before)
            offsets = [each.start for each in part]
            position = [place + offset for place, offset in zip(places, offsets, strict=True)]
            voxels.append(np.ravel_multi_index(position, self._known.shape).astype(np.int64))
            np.copyto(before, now)
        if voxels:
            found = np.concatenate(voxels)
            self.changed.emit(found, self._known.reshape(-1)[found], how, self._source)
        return bool(voxels)


def _planes(box: _Box, shape: tuple[int, ...]) -> Iterator[_Box]:
    """Cut a box along its first axis, so that comparing makes no large temporary arrays."""
    first, *others = [slice(*each.indices(size)[:2]) for each, size in zip(box, shape, strict=True)]
    if not others or len(shape) < 3:
        yield (first, *others)
        return
    for index in range(first.start, first.stop):
        yield (slice(index, index + 1), *others)


def _enclosing_box(atoms: Iterable[Any], shape: tuple[int, ...]) -> _Box:
    """Return a box around all places that an item of napari's history touches; everything if unclear."""
    low, high = list(shape), [0] * len(shape)
    for atom in atoms:
        place = getattr(atom, "slice_key", None)
        if place is None and isinstance(atom, tuple) and atom:
            place = atom[0]
        if not isinstance(place, tuple) or len(place) != len(shape):
            return (slice(None),) * len(shape)
        for axis, within in enumerate(place):
            if isinstance(within, slice):
                start, stop, _ = within.indices(shape[axis])
            else:
                indices = np.asarray(within)
                if indices.size == 0:
                    continue
                start, stop = int(indices.min()), int(indices.max()) + 1
            low[axis], high[axis] = min(low[axis], start), max(high[axis], stop)
    return tuple(slice(start, max(start, stop)) for start, stop in zip(low, high, strict=True))


def _to_labels(data: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an array put in by hand as labels, or raise `InputError`."""
    values = np.asarray(data)
    if values.shape != shape:
        raise InputError(
            f"labels of the shape {values.shape} do not fit the image, which has {shape}; "
            "the ones before were kept."
        )
    if values.min() < 0 or values.max() > 255:
        raise InputError("labels must be between 0 and 255; the ones before were kept.")
    return np.ascontiguousarray(values, np.uint8)
