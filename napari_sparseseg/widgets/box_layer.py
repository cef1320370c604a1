"""The layer in which boxes are drawn with the mouse and edited by napari's own handles.

A box is 3D and napari's rectangles are flat: the layer holds the cross-section of each box with the visible
slice, made anew whenever another slice is shown, and reads back what the user did to it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari import Viewer
from napari.utils.color import ColorValue
from numpy.typing import NDArray
from psygnal import Signal

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.box_geometry import Triple
from napari_sparseseg.widgets.box_shapes import Shapes, snap_side
from napari_sparseseg.widgets.image_source import ImageSource
from napari_sparseseg.widgets.layer_edits import LayerEdits
from napari_sparseseg.widgets.layers import OWN_KEY
from napari_sparseseg.widgets.placement import Placement, find_camera

_EDGE_PIXELS, _CHOSEN_EDGE_PIXELS = 1.5, 3.0
_FACE, _CHOSEN_FACE = 0.1, 0.2
_CLICK_PIXELS = 4.0  # napari makes a rectangle of 2.5 pixels of a click
_SELECTING = ("select", "direct", "vertex_insert", "vertex_remove")


@dataclass(frozen=True)
class ShownBox:
    """A box as the layer shows it.

    Attributes
    ----------
    number
        What the project calls it, 1 or more.
    value
        Painted value of its class.
    start, stop
        First voxel and the one after the last, ``(Z, Y, X)``.
    """

    number: int
    value: int
    start: Triple
    stop: Triple


class BoxLayer:
    """Shows boxes of one image in a viewer, and tells what the user draws, moves, resizes and deletes.

    Signals are emitted after the mouse was let go, never by a call of the methods here.  What the user did
    to a box stays visible until `show_boxes` says what became of it.

    Parameters
    ----------
    viewer
        Where.
    source
        The image.
    table
        Colors of the classes.
    """

    drawn = Signal(int, tuple, tuple)
    """Axis of the slice, start and stop of a new rectangle: one voxel thick along the axis."""
    changed = Signal(int, tuple, tuple)
    """Number, start and stop of a box that the user moved or resized."""
    deleted = Signal(int)
    """Number of a box that the user deleted."""
    chosen = Signal(object)
    """Number of the box that the user selected alone, or None where none is selected any more."""
    removed = Signal()
    """The user has taken the layer out of the viewer."""

    def __init__(self, viewer: Viewer, source: ImageSource, table: ClassTable) -> None:
        self._viewer, self._camera = viewer, find_camera(viewer)
        self._shape, self._placement = source.shape, source.placement
        self._boxes: dict[int, ShownBox] = {}
        self._table, self._value = table, 0
        self._chosen: int | None = None
        self._axis: int | None = 0
        self._index = 0
        # What lies in the layer now; behind what shall be shown while the user holds the mouse button.
        self._drawn_boxes: dict[int, ShownBox] = {}
        self._drawn_axis: int | None = 0
        self._drawn_index = 0
        self._drawn_choice: int | None = None
        self._tool = "select"  # kept in 3D display, in which napari allows none
        self._creating = self._stale = False
        active = viewer.layers.selection.active
        self.layer = Shapes(
            source.placement, name=f"boxes of {source.name}", opacity=1.0, metadata={OWN_KEY: "boxes"}
        )
        self._edits = LayerEdits(viewer, self.layer, self._take_in)
        viewer.add_layer(self.layer)
        if active is not None:
            viewer.layers.selection.active = active
        self.layer.mode = self._tool
        self._redraw()
        self._edits.listen(
            (self.layer.events.data, self._on_data),
            (self.layer.events.features, self._on_features),
            (self.layer.events.highlight, self._on_highlight),
            (self.layer.events.mode, self._on_mode),
            (self._camera.events.zoom, self._on_zoom),
            (viewer.layers.events.removed, self._on_removed),
        )

    def close(self) -> None:
        """Take the layer out of the viewer."""
        self._edits.close()

    def show_boxes(
        self, boxes: Sequence[ShownBox], table: ClassTable, selected_value: int, chosen: int | None
    ) -> None:
        """Show these boxes, whose numbers differ, and no others.

        The next rectangle gets the color of `selected_value`; box number `chosen` has the handles.
        """
        self._boxes = {box.number: box for box in boxes}
        self._table, self._value, self._chosen = table, selected_value, chosen
        self._redraw_soon()

    def show_slice(self, axis: int | None, index: int) -> None:
        """Show what of the boxes lies in slice `index` across `axis`; all of them in 3D for None."""
        if (axis, index) == (self._axis, self._index):
            return
        self._axis, self._index = axis, index
        ready = axis == self._drawn_axis and not (self._busy or self._stale)
        if ready and self._find_seen() == [*self._drawn_boxes.values()]:
            self._drawn_index = index  # their rectangles are in the layer already
        else:
            self._redraw_soon()

    def draw(self, on: bool) -> None:
        """Take up the tool that draws rectangles, or that which selects and edits them."""
        self._tool = "add_rectangle" if on else "select"
        if self.layer not in self._viewer.layers:
            return
        with self._edits.changing():
            if on:
                self.layer.visible = True  # which lets go of any tool
                self._viewer.layers.selection.active = self.layer
            if self._axis is not None:
                self.layer.mode = self._tool
        self._redraw_soon()

    @property
    def drawing(self) -> bool:
        """Whether the next drag of the mouse draws a rectangle."""
        return self._tool == "add_rectangle"

    def place(self, placement: Placement) -> None:
        """Lie elsewhere, as the image does that was moved."""
        if placement is not self._placement:
            self._placement = placement
            self._redraw_soon()

    # -- what is shown ---------------------------------------------------------------------------------

    @property
    def _busy(self) -> bool:
        """Whether the user is in the middle of something that must not be pulled away."""
        active = self._viewer.layers.selection.active == self.layer  # napari may give a proxy
        return self._creating or (self._edits.pressed and active) or self._edits.unread

    def _redraw_soon(self) -> None:
        if not self._busy:
            self._redraw()

    def _redraw(self) -> None:
        """Put the boxes into the layer as they shall be shown now."""
        self._stale = True
        if self._axis is None and self._placement.ndim == 2:
            return  # napari cannot add flat shapes in 3D, and goes on showing those that it has
        while self._stale and not self._edits.own:  # napari may tell of another slice meanwhile
            self._stale = False
            with self._edits.changing():
                self._fill()

    def _fill(self) -> None:
        layer, axis = self.layer, self._axis
        selected = self._selected_numbers()
        layer.place(self._placement, None if self._placement.ndim == 2 else axis)
        if axis is not None:
            layer.editable = layer.editable or self._viewer.dims.ndisplay == 2
            if layer.mode != self._tool:
                layer.mode = self._tool
        if layer.nshapes:
            layer.selected_data = set()
            layer.data = []
        seen = self._find_seen()
        shapes = [(box, vertices) for box in seen for vertices in self._outlines(box)]
        if shapes:
            self._add(shapes, "path" if axis is None else "rectangle")
        layer.numbers = [box.number for box, _ in shapes]
        self._drawn_boxes = {box.number: box for box in seen}
        self._drawn_axis, self._drawn_index = axis, self._index
        self._select(selected)
        self._color_next()

    def _find_seen(self) -> list[ShownBox]:
        """Return the boxes that reach the visible slice; the smaller is in front, and taken by a click."""
        axis, index, boxes = self._axis, self._index, self._boxes.values()
        seen = [box for box in boxes if axis is None or box.start[axis] <= index < box.stop[axis]]
        return sorted(seen, key=lambda box: -math.prod(np.subtract(box.stop, box.start)))

    def _add(self, shapes: list[tuple[ShownBox, NDArray[np.float64]]], kind: str) -> None:
        boxes = [box for box, _ in shapes]
        colors = np.array([self._color(box.value) for box in boxes])
        faces = colors.copy()
        faces[:, 3] = [_CHOSEN_FACE if box.number == self._chosen else _FACE for box in boxes]
        self.layer.add(
            [vertices for _, vertices in shapes], shape_type=kind, edge_color=colors, face_color=faces,
            edge_width=[self._edge_width(box.number) for box in boxes], z_index=[*range(1, len(boxes) + 1)],
        )  # fmt: skip

    def _select(self, before: set[int]) -> None:
        """Select the chosen box, and what else was selected with it."""
        self._drawn_choice = None
        if self._axis is None or self.layer.mode not in _SELECTING or self._chosen not in self._drawn_boxes:
            return
        wanted = before if self._chosen in before else {self._chosen}
        numbers = list(self._drawn_boxes)
        self.layer.selected_data = {place for place, number in enumerate(numbers) if number in wanted}
        self._drawn_choice = self._chosen

    def _outlines(self, box: ShownBox) -> list[NDArray[np.float64]]:
        if self._axis is None:
            return self.layer.find_edges(box.start, box.stop)
        return [self.layer.frame_slice(box.start, box.stop, self._axis)]

    def _color(self, value: int) -> NDArray[np.float64]:
        entries = {entry.value: entry.color for entry in self._table.classes[1:]}
        return np.array(ColorValue(entries.get(value, self._table.classes[0].color)), float)

    def _color_next(self) -> None:
        """Give the next rectangle the color of its class."""
        color = self._color(self._value)
        with self.layer.block_update_properties():
            self.layer.current_edge_color = color
            self.layer.current_face_color = np.array([*color[:3], _FACE])
            self.layer.current_edge_width = self._edge_width(None)

    def _pixel(self) -> float:
        """Return the size of a pixel on the screen in coordinates of the layer."""
        return 1 / (float(self._camera.zoom) * self.layer.unit)

    def _edge_width(self, number: int | None) -> float:
        chosen = number is not None and number == self._chosen
        return (_CHOSEN_EDGE_PIXELS if chosen else _EDGE_PIXELS) * self._pixel()

    # -- what the user does ----------------------------------------------------------------------------

    def _on_data(self, event: Any) -> None:
        if self._edits.own:
            return
        action = str(getattr(event.action, "value", event.action))
        self._creating = action == "adding" or (self._creating and action not in ("added", "removed"))
        self._edits.read_soon()

    def _on_features(self, event: Any) -> None:
        if not self._edits.own:  # all that is heard of what was pasted
            self._edits.read_soon()

    def _on_highlight(self, event: Any) -> None:
        if not self._edits.own and self._choice() != self._drawn_choice:
            self._edits.read_soon()

    def _on_mode(self, event: Any) -> None:
        if not self._edits.own and self._viewer.dims.ndisplay == 2:
            self._tool = self.layer.mode
            self._color_next()
            self._edits.read_soon()

    def _on_zoom(self, event: Any) -> None:
        if self.layer.nshapes:
            self.layer.edge_width = [self._edge_width(number) for number in self.layer.numbers]
            self.layer.refresh(thumbnail=False, extent=False)
        with self._edits.changing(), self.layer.block_update_properties():
            self.layer.current_edge_width = self._edge_width(None)

    def _on_removed(self, event: Any) -> None:
        if event.value == self.layer:
            self._edits.stop()
            self._edits.pressed = self._creating = False
            self.removed.emit()

    def _take_in(self) -> None:
        """Read what the user did since the layer was last drawn, show it snapped to voxels, and tell."""
        if self._busy:  # comes again when the mouse is let go
            return
        axis, chosen, told = self._drawn_axis, self._choice(), self._drawn_choice
        if axis is None:
            self._redraw()
            return
        self._chosen = self._chosen if chosen == told else chosen
        changed, deleted, drawn = self._read(axis)
        for number, start, stop in changed:
            self._boxes[number] = replace(self._boxes[number], start=start, stop=stop)
        for number in deleted:
            del self._boxes[number]
        self._redraw()
        if chosen != told:
            self.chosen.emit(chosen)
        for number, start, stop in changed:
            self.changed.emit(number, start, stop)
        for number in deleted:
            self.deleted.emit(number)
        for start, stop in drawn:
            self.drawn.emit(axis, start, stop)

    def _read(
        self, axis: int
    ) -> tuple[list[tuple[int, Triple, Triple]], list[int], list[tuple[Triple, Triple]]]:
        """Return boxes changed, numbers deleted, and boxes drawn in the slice across `axis`."""
        changed, drawn = [], []
        found: set[int] = set()
        for number, vertices in zip(self.layer.numbers, self.layer.data, strict=True):
            box = None if number in found else self._drawn_boxes.get(number)
            if box is None:  # drawn, or pasted
                drawn.append(self._bounds(vertices, None))
                continue
            found.add(number)
            now = self._boxes.get(number)  # may have grown through the slice while its rectangle was held
            before = self._bounds(self.layer.frame_slice(box.start, box.stop, axis), box)
            new = self._bounds(vertices, now)
            if now and new and self._bounds(vertices, box) != before:
                changed.append((number, *new))
        deleted = [number for number in self._drawn_boxes if number not in found and number in self._boxes]
        return changed, deleted, [new for new in drawn if new]

    def _bounds(self, vertices: NDArray[np.float64], box: ShownBox | None) -> tuple[Triple, Triple] | None:
        """Return the voxels that a shape ``(M, N)`` frames, as deep as `box`; None for a click or outside."""
        start, stop = [0, 0, 0], [0, 0, 0]
        low, high = self.layer.find_sides(vertices)
        least = _CLICK_PIXELS * self._pixel() / self.layer.units_per_voxel
        for axis, length in enumerate(self._shape):
            if axis == self._drawn_axis:
                start[axis] = box.start[axis] if box else self._drawn_index
                stop[axis] = box.stop[axis] if box else self._drawn_index + 1
                continue
            outside = high[axis] <= -0.5 or low[axis] >= length - 0.5
            if box is None and (outside or high[axis] - low[axis] < least[axis - 3]):
                return None
            start[axis], stop[axis] = snap_side(low[axis], high[axis], length)
        return (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])

    def _selected_numbers(self) -> set[int]:
        numbers = self.layer.numbers
        selected = {numbers[place] for place in self.layer.selected_data if place < len(numbers)}
        return selected & set(self._drawn_boxes)

    def _choice(self) -> int | None:
        """Return the one box that is selected; of several, or with another tool, what was chosen before."""
        if self._drawn_axis is None or self.layer.mode not in _SELECTING:
            return self._drawn_choice
        selected = self._selected_numbers()
        return self._drawn_choice if len(selected) > 1 else next(iter(selected), None)
