"""The layer in which points are set with the mouse, moved and deleted by napari's own tools."""

from collections.abc import Sequence
from typing import Any

import napari.layers
import numpy as np
from napari import Viewer
from napari.utils.color import ColorValue
from numpy.typing import NDArray
from psygnal import Signal

from napari_sparseseg.annotation import BACKGROUND, ClassTable
from napari_sparseseg.project_records import PointRecord
from napari_sparseseg.widgets.image_source import ImageSource
from napari_sparseseg.widgets.layer_edits import LayerEdits
from napari_sparseseg.widgets.layers import OWN_KEY
from napari_sparseseg.widgets.placed_layer import PlacedLayer
from napari_sparseseg.widgets.placement import Placement

Triple = tuple[int, int, int]

_NUMBER = "number"  # name of the feature that says which point of the project a point is
_PIXELS = 11.0  # on the screen
_SHARE = 40  # of the image's longest side, from which a click on a point counts as one


class Points(PlacedLayer, napari.layers.Points):
    """A Points layer whose points lie where the user points, on oblique images too.

    Its name is that of its base, since napari finds icons, menus and controls by it.

    Parameters
    ----------
    placement
        Where the voxels lie.
    arguments
        As of `napari.layers.Points`, without ``ndim``, ``features``, ``affine`` and ``scale``.
    """

    def __init__(self, placement: Placement, **arguments: Any) -> None:
        self.placement = placement
        features = {_NUMBER: np.zeros(0, int)}
        super().__init__(ndim=placement.ndim, features=features, **placement.transform(), **arguments)

    @property
    def numbers(self) -> list[int]:
        """Number in the project of each point; 0 for what the user has added."""
        known = np.nan_to_num(np.asarray(self.features[_NUMBER], float)).astype(int).tolist()
        return [*known, *[0] * len(self.data)][: len(self.data)]

    @numbers.setter
    def numbers(self, numbers: list[int]) -> None:
        self.features = {_NUMBER: np.array(numbers, int)}
        self.feature_defaults = {_NUMBER: 0}


class PointLayer:
    """Shows the points of one image in a viewer, and tells what the user adds, moves and deletes.

    Parameters
    ----------
    viewer
        Where.
    source
        The image.
    table
        Colors of the classes.
    """

    edited = Signal(tuple, tuple, tuple)
    """Voxels of new points, pairs of a number and a voxel of those moved, and numbers of those deleted."""

    removed = Signal()
    """The user has taken the layer out of the viewer."""

    def __init__(self, viewer: Viewer, source: ImageSource, table: ClassTable) -> None:
        self._viewer, self._table = viewer, table
        self._drawn: dict[int, PointRecord] = {}
        self._missed = False
        active = viewer.layers.selection.active
        self._size = max(1.0, max(source.shape) / _SHARE)
        self.layer = Points(
            source.placement, name=f"points of {source.name}", size=self._size,
            canvas_size_limits=(_PIXELS, _PIXELS), border_color="white", border_width=0.15,
            metadata={OWN_KEY: "points"},
        )  # fmt: skip
        viewer.add_layer(self.layer)
        if active is not None:
            viewer.layers.selection.active = active
        self._edits = LayerEdits(viewer, self.layer, self._take_in, self._on_release)
        self._edits.listen(
            (self.layer.events.data, self._on_data), (viewer.layers.events.removed, self._on_removed)
        )

    def close(self) -> None:
        """Take the layer out of the viewer."""
        self._edits.close()

    @property
    def marking(self) -> bool:
        """Whether a click sets a point."""
        active = self._viewer.layers.selection.active
        return bool(self.layer.mode == "add" and active == self.layer)  # napari may give a proxy

    def mark(self, on: bool) -> None:
        """Take up the tool that sets points, or that which selects them."""
        if self.layer not in self._viewer.layers:
            return
        if on:
            self.layer.visible = True
            self._viewer.layers.selection.active = self.layer
        self.layer.mode = "add" if on else "select"

    def show_points(self, records: Sequence[PointRecord], table: ClassTable, value: int) -> None:
        """Show these points and no others; the next one gets the color of the class `value`."""
        self._table = table
        self._drawn = {record.number: record for record in records}
        layer = self.layer
        with self._edits.changing():
            chosen = {number for place, number in enumerate(layer.numbers) if place in layer.selected_data}
            layer.selected_data = set()
            layer.data = np.array([record.voxel for record in records], float).reshape(-1, 3)[
                :, -layer.ndim :
            ]
            layer.numbers = list(self._drawn)
            if records:
                layer.size = self._size
                layer.face_color = np.array([self._color(record.value) for record in records])
                layer.border_color = "white"
            layer.selected_data = {p for p, number in enumerate(self._drawn) if number in chosen}
            with layer.block_update_properties():
                layer.current_face_color = self._color(value)
                layer.current_border_color = "white"
                layer.current_size = self._size

    def show_slice(self, axis: int | None) -> None:
        """Take points where they are seen in slices across `axis`."""
        self.layer.slice_axis = axis

    def place(self, placement: Placement) -> None:
        """Lie elsewhere, as the image does that was moved."""
        if placement is not self.layer.placement:
            self.layer.placement = placement
            for name, value in placement.transform().items():
                setattr(self.layer, name, value)

    def _color(self, value: int) -> NDArray[np.float64]:
        colors = {entry.value: entry.color for entry in self._table.classes[1:]}
        colors[BACKGROUND] = self._table.classes[0].color
        return np.array(ColorValue(colors.get(value, colors[BACKGROUND])), float)

    def _on_release(self) -> None:
        if self._missed:
            self._edits.read_soon()

    def _on_data(self, event: Any) -> None:
        action = str(getattr(event.action, "value", event.action))
        if not self._edits.own and not action.endswith("ing"):
            self._edits.read_soon()

    def _on_removed(self, event: Any) -> None:
        if event.value == self.layer:
            self._edits.stop()
            self.removed.emit()

    def _take_in(self) -> None:
        """Read what the user did since the points were last shown, and tell."""
        self._missed = self._edits.pressed
        if self._edits.pressed:  # comes again when the mouse is let go
            return
        added, moved = [], []
        found: set[int] = set()
        for number, place in zip(self.layer.numbers, self.layer.data, strict=True):
            voxel = _round(place)
            record = None if number in found else self._drawn.get(number)
            if record is None:
                added.append(voxel)
                continue
            found.add(number)
            if voxel != record.voxel:
                moved.append((number, voxel))
        deleted = tuple(number for number in self._drawn if number not in found)
        self.edited.emit(tuple(added), tuple(moved), deleted)


def _round(place: NDArray[Any]) -> Triple:
    """Return the voxel at a place ``(N,)``; that of a 2D image lies in slice 0."""
    z, y, x = np.rint([*np.zeros(3 - len(place)), *place]).astype(int).tolist()
    return z, y, x
