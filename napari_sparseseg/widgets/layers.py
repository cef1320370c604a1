"""The layers of one image: annotation, interpolated labels, prediction, uncertainty."""

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
from napari_sparseseg.widgets.placement import Placement

OWN_KEY = "sparseseg_role"
"""Marks in a layer's ``metadata`` which of these layers it is."""

_REFRESH_MS = 100  # ten pictures a second are enough, and leave time to paint
_TRANSPARENT = (0.0, 0.0, 0.0, 0.0)
_FAINT = 0.35
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
        self.interpolated: PlainLabels | None = None
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
        if self.interpolated is not None:
            self.interpolated.colormap = color_labels(table, faint_background=True)

    def show_interpolated(self, labels: NDArray[np.uint8] | None) -> None:
        """Show interpolated labels ``(Z, Y, X)`` in a layer of their own, or none."""
        if labels is None or not labels.any():
            layer, self.interpolated = self.interpolated, None
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
            return
        if self.interpolated is not None and self.interpolated in self._viewer.layers:
            self.interpolated.data = labels.reshape(self._shape)
            return
        active = self._viewer.layers.selection.active
        self.interpolated = PlainLabels(
            labels.reshape(self._shape),
            name=self.annotation.name.replace("labels", "interpolated labels", 1),
            opacity=0.5, metadata={OWN_KEY: "interpolated"}, **self._placement.transform(),
            colormap=color_labels(self._table, faint_background=True),
        )  # fmt: skip
        self.interpolated.editable = False
        self.interpolated.contour = 1
        self._viewer.add_layer(self.interpolated)
        if self.annotation in self._viewer.layers:  # strokes lie over what follows from them
            layers = self._viewer.layers
            layers.move(layers.index(self.interpolated), layers.index(self.annotation))
        if active is not None:
            self._viewer.layers.selection.active = active

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
        layers = [self.uncertainty, self.prediction, self.annotation, self.interpolated]
        return [layer for layer in layers if layer is not None]

    def _on_removed(self, event: object) -> None:
        layer = getattr(event, "value", None)
        if layer is self.interpolated and layer is not None:
            self.interpolated = None
            self.removed.emit("interpolated")
        elif layer in (self.annotation, self.prediction, self.uncertainty):
            self.removed.emit(layer.metadata[OWN_KEY])


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
