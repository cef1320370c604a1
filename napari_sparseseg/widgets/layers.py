"""The layers of one image: annotation, prediction, uncertainty, and labels that the user did not paint."""

import numpy as np
from napari import Viewer
from napari.layers import Image, Layer
from napari.layers import Labels as PlainLabels
from napari.utils import DirectLabelColormap
from napari.utils.color import ColorValue
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_sparseseg.annotation import BACKGROUND, ClassTable
from napari_sparseseg.widgets.annotation_layer import Labels
from napari_sparseseg.widgets.image_source import ImageSource
from napari_sparseseg.widgets.outline_layer import Labels as OutlinedLabels
from napari_sparseseg.widgets.placement import Placement

OWN_KEY = "sparseseg_role"
"""Marks in a layer's ``metadata`` which of these layers it is."""

_REFRESH_MS = 100  # ten pictures a second are enough, and leave time to paint
_TRANSPARENT = (0.0, 0.0, 0.0, 0.0)
_FAINT = 0.35
_APART_NAMES = {
    "interpolated": "interpolated labels",
    "box": "labels from boxes",
    "cam": "labels from class maps",
    "point": "labels from points",
}
_Region = tuple[tuple[int, int], ...]


class CaseLayers:
    """Puts the layers of one image into a viewer, keeps them up to date, and takes them out again.

    Parameters
    ----------
    viewer
        Where.
    source
        The image.
    prediction, uncertainty
        ``(Z, Y, X)`` uint8, shown as they are; the worker writes into them.
    table
        Colors and names of the classes.
    """

    removed = Signal(str)
    """Role of a layer that the user has taken out of the viewer."""

    def __init__(
        self,
        viewer: Viewer,
        source: ImageSource,
        prediction: NDArray[np.uint8],
        uncertainty: NDArray[np.uint8],
        table: ClassTable,
    ) -> None:
        self._viewer = viewer
        self._placement = source.placement
        self._shape = source.shape if source.placement.ndim == 3 else source.shape[1:]
        self._hidden: frozenset[int] = frozenset()
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REFRESH_MS)
        self._timer.timeout.connect(self._show_picture)
        place = source.placement.transform()
        self.uncertainty = Image(
            uncertainty.reshape(self._shape), name=f"uncertainty of {source.name}", visible=False,
            opacity=0.6, colormap="inferno", contrast_limits=(0, 255), blending="additive",
            metadata={OWN_KEY: "uncertainty"}, **place,
        )  # fmt: skip
        self.prediction = PlainLabels(
            prediction.reshape(self._shape), name=f"prediction of {source.name}", opacity=0.5,
            metadata={OWN_KEY: "prediction"}, **place,
        )  # fmt: skip
        self.annotation = Labels(
            np.zeros(self._shape, np.uint8), source.placement, name=f"labels of {source.name}", opacity=0.8,
            metadata={OWN_KEY: "annotation"},
        )  # fmt: skip
        self.annotation.n_edit_dimensions = 2
        self.apart: dict[str, PlainLabels] = {}
        self.round: PlainLabels | None = None
        self.prediction.editable = False
        self.show_classes(table)
        for layer in (self.uncertainty, self.prediction, self.annotation):
            viewer.add_layer(layer)
        viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Take the layers out of the viewer."""
        self._timer.stop()
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        for layer in self._own():
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    @property
    def is_complete(self) -> bool:
        """Whether annotation, prediction and uncertainty are all in the viewer."""
        return all(
            layer in self._viewer.layers for layer in (self.annotation, self.prediction, self.uncertainty)
        )

    def place(self, placement: Placement) -> None:
        """Lie elsewhere, as the image does that was moved."""
        self._placement = self.annotation.placement = placement
        for layer in self._own():
            for name, value in placement.transform().items():
                setattr(layer, name, value)

    def show_classes(self, table: ClassTable, hidden: frozenset[int] | None = None) -> None:
        """Color labels and prediction by the table; painted values in `hidden` are not shown as predicted."""
        if hidden is not None:
            self._hidden = hidden
        self._table = table
        self.annotation.colormap = color_labels(table, faint_background=True)
        self.prediction.colormap = color_labels(table, hidden=self._hidden)
        for source, layer in self.apart.items():
            layer.colormap = self._color_apart(source)
        if self.round is not None:
            self.round.colormap = color_labels(table)

    def show_apart(self, source: str, labels: NDArray[np.uint8] | None) -> None:
        """Show the labels ``(Z, Y, X)`` of a source as outlines in a layer of their own, or none."""
        there = self.apart.get(source)
        if labels is None or not labels.any():
            self.apart.pop(source, None)
            self._take_out(there)
        elif there is not None and there in self._viewer.layers:
            there.data = labels.reshape(self._shape)
        else:
            name = self.annotation.name.replace("labels", _APART_NAMES[source], 1)
            self.apart[source] = self._add_labels(
                labels, name, source, self._color_apart(source), OutlinedLabels
            )

    def show_round(self, labels: NDArray[np.uint8] | None, words: str = "") -> None:
        """Show what a round has made of boxes, ``(Z, Y, X)`` painted values, in a layer; or none."""
        name = self.annotation.name.replace("labels", words, 1)
        if labels is None:
            there, self.round = self.round, None
            self._take_out(there)
        elif self.round is not None and self.round in self._viewer.layers:
            self.round.data = labels.reshape(self._shape)
            self.round.name = name
        else:
            self.round = self._add_labels(labels, name, "round", color_labels(self._table))

    def _color_apart(self, source: str) -> DirectLabelColormap:
        return color_labels(self._table, faint_background=source == "interpolated")

    def _add_labels(
        self,
        labels: NDArray[np.uint8],
        name: str,
        role: str,
        colormap: DirectLabelColormap,
        kind: type[PlainLabels] = PlainLabels,
    ) -> PlainLabels:
        """Add labels that cannot be painted, below those of the user."""
        layer = kind(
            labels.reshape(self._shape), name=name, opacity=0.5, metadata={OWN_KEY: role},
            colormap=colormap, **self._placement.transform(),
        )  # fmt: skip
        layer.editable = False
        add_beneath(self._viewer, layer, self.annotation)  # strokes lie over what follows from them
        return layer

    def _take_out(self, layer: PlainLabels | None) -> None:
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def picture_changed(self, region: _Region, axis: int | None, index: int) -> None:
        """Show the prediction anew, soon, if the box `region` meets the visible slice."""
        seen = axis is None or region[axis][0] <= index < region[axis][1]
        if seen and not self._timer.isActive():
            self._timer.start()

    def picture_completed(self) -> None:
        """Show prediction and uncertainty anew, soon."""
        if not self._timer.isActive():
            self._timer.start()

    def _show_picture(self) -> None:
        for layer in (self.prediction, self.uncertainty):
            if layer.visible and layer in self._viewer.layers:
                layer.refresh(thumbnail=False, highlight=False, extent=False)

    def _own(self) -> list[Layer]:
        layers = [self.uncertainty, self.prediction, self.annotation, *self.apart.values(), self.round]
        return [layer for layer in layers if layer is not None]

    def _on_removed(self, event: object) -> None:
        layer = getattr(event, "value", None)
        if layer is not None and layer == self.round:
            self.round = None
        for source in [source for source, own in self.apart.items() if own == layer]:
            del self.apart[source]
        if layer in (self.annotation, self.prediction, self.uncertainty):
            self.removed.emit(layer.metadata[OWN_KEY])


def add_beneath(viewer: Viewer, layer: Layer, top: Layer) -> None:
    """Add a layer below `top`, if that is in the viewer; the active layer stays the active one."""
    layers, active = viewer.layers, viewer.layers.selection.active
    viewer.add_layer(layer)
    if top in layers:
        layers.move(layers.index(layer), layers.index(top))
    if active is not None:
        layers.selection.active = active


def color_labels(
    table: ClassTable, *, faint_background: bool = False, hidden: frozenset[int] = frozenset()
) -> DirectLabelColormap:
    """Return the colors of painted values; what is not in the table, or hidden, is transparent."""
    colors: dict[int | None, object] = {None: _TRANSPARENT, 0: _TRANSPARENT, BACKGROUND: _TRANSPARENT}
    for entry in table.classes[1:]:
        colors[entry.value] = _TRANSPARENT if entry.value in hidden else ColorValue(entry.color)
    if faint_background:
        red, green, blue, _ = ColorValue(table.classes[0].color)
        colors[BACKGROUND] = (red, green, blue, _FAINT)
    return DirectLabelColormap(color_dict=colors)


def is_own(layer: Layer) -> bool:
    """Tell whether a layer was made here."""
    return OWN_KEY in layer.metadata
