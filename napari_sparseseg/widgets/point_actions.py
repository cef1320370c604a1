"""What the user does with points: sets, moves, deletes them; each change is in the project at once."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QObject

from napari_sparseseg.errors import InputError
from napari_sparseseg.project_records import PointRecord
from napari_sparseseg.seeds import grow_points
from napari_sparseseg.widgets.cam_states import why_no_slice
from napari_sparseseg.widgets.point_layer import PointLayer, Triple
from napari_sparseseg.widgets.work import CamWork
from napari_sparseseg.widgets.workplace import Workplace, tells

_MOST_REMEMBERED = 100  # as many as napari remembers strokes
_SOURCE = "point"


class PointActions(QObject):
    """Carries out what the user asks for of points.

    The labels grown around the points are made anew whenever the points or their radius change.

    Parameters
    ----------
    place
        The workplace.
    on_layer
        Called with each new layer of points, to bind keys to it.
    """

    def __init__(self, place: Workplace, on_layer: Callable[[PointLayer], None]) -> None:
        super().__init__(place)
        self.place = place
        self._on_layer = on_layer
        self._layer: PointLayer | None = None
        self._before: list[tuple[PointRecord, ...]] = []
        self._drawn: tuple[Any, ...] = ()
        self._radius = 0.0
        place.touched.connect(self._show)
        place.viewed.connect(self._follow_view)
        place.closing.connect(self._image_closing)
        place.class_deleted.connect(self._class_deleted)
        place.viewer.layers.selection.events.active.connect(self.follow_tool)

    @property
    def _work(self) -> CamWork:
        return self.place.session.cam

    def close(self) -> None:
        """Listen to the viewer no longer."""
        self.place.viewer.layers.selection.events.active.disconnect(self.follow_tool)

    # -- the layer --

    def image_opened(self) -> None:
        """Show the points that the project has of the image."""
        self._radius = self.place.session.seed_config.point_mm
        if self.place.case is not None:
            self._take_records()

    def follow_tool(self) -> None:
        """Take in whether a click sets a point."""
        marking = self._layer is not None and self._layer.marking
        if marking != self._work.marking:
            self._work.marking = marking
            self.place.touch()

    @tells
    def mark(self, on: bool) -> None:
        """Take up the tool that sets points, or lay it down."""
        if on and (why := why_no_slice(self.place.session)):
            raise InputError(why)
        if on or self._layer is not None:
            self._require_layer().mark(on)
            self.follow_tool()

    def _image_closing(self) -> None:
        layer, self._layer = self._layer, None
        self._before.clear()
        if layer is not None:
            layer.close()

    def _follow_view(self) -> None:
        case, layer = self.place.case, self._layer
        if layer is None or case is None:
            return
        layer.place(case.source.placement)
        layer.show_slice(case.layers.annotation.slice_axis)
        if self.place.session.axis is None and layer.marking:
            layer.mark(False)  # a click in 3D says nothing of how deep it is meant
            self.follow_tool()

    # -- points --

    @tells
    def edit(
        self, added: Sequence[Triple], moved: Sequence[tuple[int, Triple]], deleted: Sequence[int]
    ) -> None:
        """Take in what was done to the layer: voxels of new points, points moved, points deleted."""
        if not (added or moved or deleted):
            self._take_records()  # none left its voxel
            return
        session, shape = self.place.session, self.place.require_case().source.shape
        values = {record.number: record.value for record in self._work.points}
        new = [*((session.selected, v) for v in added), *((values[n], v) for n, v in moved if n in values)]
        try:
            if (added or moved) and session.axis is None:
                raise InputError("Show a slice to set points in; the view is in 3D.")
            if not all(0 <= at < size for _, v in new for at, size in zip(v, shape, strict=True)):
                raise InputError("A point must lie inside the image; click on the image.")
            self._change([number for number, _ in moved] + list(deleted), new)
        finally:
            self._take_records()  # what the layer shows goes back where it was refused

    @tells
    def clear(self) -> None:
        """Forget all points of the image, and the labels grown around them."""
        try:
            self._change([record.number for record in self._work.points], [])
        finally:
            self._take_records()

    @tells
    def undo(self) -> None:
        """Take back the last change of points."""
        while self._before and _places(self._before[-1]) == _places(self._work.points):
            self._before.pop()
        if not self._before:
            self.place.inform("There is no change of the points to take back.")
            return
        wanted, now = _places(self._before.pop()), _places(self._work.points)
        surplus, gone = now - wanted, []
        for record in self._work.points:
            if surplus[record.value, record.voxel] > 0:
                surplus[record.value, record.voxel] -= 1
                gone.append(record.number)
        try:
            self._change(gone, list((wanted - now).elements()), remember=False)
        finally:
            self._take_records()

    def follow_settings(self) -> None:
        """Grow the labels anew, if their radius has changed."""
        radius = self.place.session.seed_config.point_mm
        if radius != self._radius:
            self._radius = radius
            if self._work.points:
                self._grow()

    # -- inside --

    def _change(
        self, gone: Sequence[int], new: Sequence[tuple[int, Triple]], *, remember: bool = True
    ) -> None:
        """Let the project forget some points, and know others by painted value and voxel."""
        if not gone and not new:
            return
        hints, case = self.place.ensure_hints()
        before = hints.points(case)
        for number in gone:
            hints.remove_point(case, number)
        for value, voxel in new:
            hints.add_point(case, value, voxel)
        if remember:
            self._before.append(before)
            del self._before[:-_MOST_REMEMBERED]
        self._work.points = hints.points(case)
        self._grow()

    @tells
    def _grow(self) -> None:
        """Let the labels from points be balls around them; strokes always win."""
        source = self.place.require_case().source
        places = [(record.voxel, record.value) for record in self._work.points]
        labels = np.zeros(source.shape, np.uint8)
        if places:
            labels = grow_points(places, source.shape, source.volume.spacing, self._radius)
        self.place.replace_labels(labels, _SOURCE, undoable=False)

    def _class_deleted(self, _: int) -> None:
        self._before.clear()  # it would bring back points without a class
        self._take_records()

    def _take_records(self) -> None:
        """Take over the points that the project has."""
        self._work.points = self.place.desk.points()
        if self._work.points:
            self._require_layer()
        self._drawn = ()  # the user may have done something to the layer
        self._show()
        self.place.touch()

    def _require_layer(self) -> PointLayer:
        """Return the layer of points, made anew where there is none."""
        case, session = self.place.require_case(), self.place.session
        if self._layer is None:
            layer = self._layer = PointLayer(self.place.viewer, case.source, session.table)
            layer.edited.connect(self.edit)
            layer.removed.connect(self._forget_layer)
            layer.layer.events.mode.connect(self.follow_tool)
            layer.show_slice(case.layers.annotation.slice_axis)
            self._on_layer(layer)
            self._drawn = ()
            self._show()
        return self._layer

    def _forget_layer(self) -> None:
        self._layer = None
        self.follow_tool()

    def _show(self) -> None:
        """Show the points in the layer, if anything of them has changed."""
        session = self.place.session
        drawn = self._work.points, session.table, session.selected
        if self._layer is not None and drawn != self._drawn:
            self._drawn = drawn
            self._layer.show_points(*drawn)


def _places(records: Sequence[PointRecord]) -> Counter[tuple[int, Triple]]:
    return Counter((record.value, record.voxel) for record in records)
