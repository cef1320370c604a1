"""What the user does to boxes: draws, moves, reads and writes them; each change is in the project at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QObject

from napari_sparseseg.annotation import BACKGROUND
from napari_sparseseg.box_classes import match_classes
from napari_sparseseg.box_files import NamedBox, load_boxes, save_boxes
from napari_sparseseg.box_geometry import Box, Triple, box_overlap
from napari_sparseseg.errors import InputError
from napari_sparseseg.project import BoxRecord
from napari_sparseseg.widgets.box_history import BoxHistory
from napari_sparseseg.widgets.box_layer import BoxLayer, ShownBox
from napari_sparseseg.widgets.box_states import class_of_new_box, why_no_draw
from napari_sparseseg.widgets.read_classes import with_classes
from napari_sparseseg.widgets.work import BoxWork
from napari_sparseseg.widgets.workplace import Workplace, tells

_SAME_OBJECT = 0.3  # overlap in the plane by which a rectangle on another slice belongs to a box
_SAME_SLICES = 0.5  # and by which one on a slice of the box does
_FARTHEST = 2.0  # times the box's larger side in the plane: what lies beyond is another object
_PAINTED = range(2, 256)


class BoxDrawing(QObject):
    """Carries out what the user asks for of boxes.

    Parameters
    ----------
    place
        The workplace.
    on_layer
        Called with each new layer of boxes, to bind keys to it.
    """

    def __init__(self, place: Workplace, on_layer: Callable[[BoxLayer], None]) -> None:
        super().__init__(place)
        self.place = place
        self._on_layer = on_layer
        self._layer: BoxLayer | None = None
        self._history = BoxHistory()
        self._drawn: tuple[Any, ...] = ()
        place.touched.connect(self._show)
        place.viewer.layers.selection.events.active.connect(self.follow_tool)

    @property
    def _work(self) -> BoxWork:
        return self.place.session.boxes

    def close(self) -> None:
        """Listen to the viewer no longer."""
        self.place.viewer.layers.selection.events.active.disconnect(self.follow_tool)

    # -- the layer --

    def image_opened(self) -> None:
        """Show the boxes that the project has of the image."""
        if self.place.case is not None:
            source = self.place.case.source
            self.place.session.spacing, self.place.session.shape = source.volume.spacing, source.shape
            self.take_records()

    def image_closing(self) -> None:
        """Take the layer of boxes out."""
        layer, self._layer = self._layer, None
        self._history.forget()
        if layer is not None:
            layer.close()

    def follow_view(self) -> None:
        """Show the boxes of the slice that is visible now, in the colors of the moment."""
        session = self.place.session
        if self._layer is not None:
            if self.place.case is not None:
                self._layer.place(self.place.case.source.placement)
            self._layer.show_slice(session.axis, session.slice_index)
            self._show()

    def follow_tool(self) -> None:
        """Take in whether the rectangle tool is in the user's hand."""
        layer, active = self._layer, self.place.viewer.layers.selection.active
        drawing = layer is not None and layer.drawing and bool(active == layer.layer)  # may be a proxy
        if drawing != self._work.drawing:
            self._work.drawing = drawing
            self.place.touch()

    @tells
    def draw(self, on: bool) -> None:
        """Take up the rectangle tool, or lay it down."""
        if on and (why := why_no_draw(self.place.session)):
            raise InputError(why)
        if on or self._layer is not None:
            self._require_layer().draw(on)
            self.follow_tool()

    # -- boxes --

    @tells
    def add(self, axis: int, start: Triple, stop: Triple) -> None:
        """Take in a rectangle: a new box, or another slice of the box that it lies over or under."""
        value = class_of_new_box(self.place.session)
        same = self._find_continued(axis, start, stop, value)
        if same is None:
            try:
                hints, case = self.place.ensure_hints()
                self._history.remember(hints.boxes(case))
                self._work.chosen = hints.add_box(case, value, start, stop)
            finally:
                self.take_records()
            return
        low = _triple(min(a, b) for a, b in zip(start, same.start, strict=True))
        high = _triple(max(a, b) for a, b in zip(stop, same.stop, strict=True))
        self._work.chosen = same.number
        self._change(same.number, start=low, stop=high)
        if (low[axis], high[axis]) != (same.start[axis], same.stop[axis]):
            reach = f"slice {low[axis]} to {high[axis] - 1}"
            self.place.inform(f"Box {same.number} now reaches from {reach}.")
        elif (low, high) != (same.start, same.stop):
            self.place.inform(f"Box {same.number} was widened by what you drew.")

    @tells
    def change(self, number: int, start: Triple, stop: Triple) -> None:
        """Move or resize a box."""
        self._change(number, start=start, stop=stop)

    @tells
    def set_class(self, number: int, value: int) -> None:
        """Change the class of a box."""
        self._change(number, value=value)

    @tells
    def set_range(self, number: int, first: int, last: int) -> None:
        """Let a box reach from slice `first` to `last` of the visible orientation."""
        axis, record = self.place.session.orientation, self._record(number)
        most = self.place.session.slice_count - 1
        low, high = sorted(min(max(0, index), most) for index in (first, last))
        start, stop = list(record.start), list(record.stop)
        start[axis], stop[axis] = low, high + 1
        self._change(number, start=_triple(start), stop=_triple(stop))

    @tells
    def delete(self, number: int) -> None:
        """Forget a box."""
        hints, case = self.place.desk.hints()
        self._history.remember(hints.boxes(case))
        hints.remove_box(case, number)
        if self._work.chosen == number:
            self._work.chosen = None
        self.take_records()

    @tells
    def choose(self, number: int) -> None:
        """Mark a box, and show a slice of it."""
        record, session = self._record(number), self.place.session
        self._work.chosen = number
        axis = session.orientation
        if not record.start[axis] <= session.slice_index < record.stop[axis]:
            self.place.require_case().go_to(axis, (record.start[axis] + record.stop[axis] - 1) // 2)
        self._require_layer()
        self._show()

    @tells
    def undo(self) -> None:
        """Take back the last change of boxes."""
        renamed = None
        if not self._history.is_empty:
            try:
                renamed = self._history.undo(*self.place.desk.hints())
            finally:
                self.take_records()
        if renamed is None:
            self.place.inform("There is no change of the boxes to take back.")
            return
        chosen = self._work.chosen
        numbers = {record.number for record in self._work.records}
        chosen = renamed.get(chosen, chosen) if chosen is not None else next(iter(renamed.values()), None)
        self._work.chosen = chosen if chosen in numbers else None

    def class_deleted(self) -> None:
        """Take in that boxes went with their class, and that nothing shall bring them back."""
        self._history.forget()
        self.take_records()

    # -- files --

    @tells
    def load(self, path: str) -> None:
        """Add the boxes of a file; classes that are not known are added too."""
        place = self.place
        read = load_boxes(path, place.require_case().source.volume)
        table = place.session.table
        known = {entry.value: entry.name for entry in table.classes[1:]}
        there = {(record.value, record.start, record.stop) for record in self._work.records}
        values, names = match_classes(read, known, _PAINTED)
        if len(names) > len(known):
            place.set_table(with_classes(table, names))
        try:
            hints, case = self.place.ensure_hints()
            self._history.remember(hints.boxes(case))
            known_before = len(there)
            for box, value in zip(read, values, strict=True):
                if (value, box.start, box.stop) not in there:
                    there.add((value, box.start, box.stop))
                    self._work.chosen = hints.add_box(case, value, box.start, box.stop)
        finally:
            self.take_records()
        place.session.folder = str(Path(path).parent)
        count, new = "1 box was" if len(read) == 1 else f"{len(read)} boxes were", len(there) - known_before
        rest = "" if new == len(read) else f"; {new or 'none'} of them {'is' if new == 1 else 'are'} new"
        place.inform(f"{count} read from {Path(path).name}{rest}.")

    @tells
    def save(self, path: str) -> None:
        """Write the boxes to a file, in mm of the patient."""
        case, session = self.place.require_case(), self.place.session
        if not self._work.records:
            raise InputError("There is no box to save; draw one first.")
        names = {entry.value: entry.name for entry in session.table.classes[1:]}
        boxes = [NamedBox(r.start, r.stop, names.get(r.value, ""), r.value) for r in self._work.records]
        save_boxes(path, boxes, case.source.volume)
        session.folder = str(Path(path).parent)
        self.place.inform(f"{path} was saved.")

    # -- inside --

    def take_records(self) -> None:
        """Take over the boxes that the project has."""
        self._work.records = self.place.desk.boxes()
        if self._work.records:
            self._require_layer()
        self._drawn = ()  # what the user did to the layer may have been refused
        self._show()
        self.place.touch()

    def _require_layer(self) -> BoxLayer:
        """Return the layer of boxes, made anew where there is none."""
        case, session = self.place.require_case(), self.place.session
        if self._layer is None:
            layer = self._layer = BoxLayer(self.place.viewer, case.source, session.table)
            layer.drawn.connect(self.add)
            layer.changed.connect(self.change)
            layer.deleted.connect(self.delete)
            layer.chosen.connect(self._follow_choice)
            layer.removed.connect(self._forget_layer)
            layer.layer.events.mode.connect(self.follow_tool)
            layer.show_slice(session.axis, session.slice_index)
            self._on_layer(layer)
            self._drawn = ()
            self._show()
        return self._layer

    def _forget_layer(self) -> None:
        self._layer = None
        self.follow_tool()

    def _follow_choice(self, number: int | None) -> None:
        self._work.chosen = number
        self.place.touch()

    def _show(self) -> None:
        """Show the boxes in the layer, if anything of them has changed."""
        session, work = self.place.session, self._work
        drawn = work.records, session.table, class_of_new_box(session), work.chosen
        if self._layer is not None and drawn != self._drawn:
            self._drawn = drawn
            shown = [ShownBox(r.number, r.value, r.start, r.stop) for r in work.records]
            self._layer.show_boxes(shown, *drawn[1:])

    def _change(self, number: int, **changes: Any) -> None:
        hints, case = self.place.desk.hints()
        try:
            self._history.remember(hints.boxes(case))
            hints.change_box(case, number, **changes)
        finally:
            self.take_records()  # what the layer shows goes back where it was refused

    def _record(self, number: int) -> BoxRecord:
        record = next((each for each in self._work.records if each.number == number), None)
        if record is None:
            raise InputError("This box is no longer there.")
        return record

    def _find_continued(self, axis: int, start: Triple, stop: Triple, value: int) -> BoxRecord | None:
        """Return the box that a rectangle belongs to, None where it shows a new object.

        On a slice beyond a box it belongs to it where they overlap in the plane and lie near each other: no
        further apart than the box is wide twice over.  On a slice of the box it has to overlap more.
        """
        best, most = None, 0.0
        for record in self._work.records:
            if record.value != value:
                continue
            overlap = box_overlap(_flat(axis, start, stop), _flat(axis, record.start, record.stop))
            gap = max(record.start[axis] - stop[axis], start[axis] - record.stop[axis], -1)
            sides = np.subtract(record.stop, record.start) * self.place.session.spacing
            near = gap * self.place.session.spacing[axis] <= _FARTHEST * np.delete(sides, axis).max()
            if near and overlap >= (_SAME_SLICES if gap < 0 else _SAME_OBJECT) and overlap > most:
                best, most = record, overlap
        return best


def _flat(axis: int, start: Triple, stop: Triple) -> Box:
    """Return the cross-section of a box, as a box one voxel thick."""
    low, high = list(start), list(stop)
    low[axis], high[axis] = 0, 1
    return Box(_triple(low), _triple(high), BACKGROUND)


def _triple(numbers: Any) -> Triple:
    z, y, x = numbers
    return z, y, x
