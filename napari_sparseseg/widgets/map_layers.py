"""The layers of class maps: one image per class, and a preview of the labels that would be made of them."""

import numpy as np
from napari import Viewer
from napari.layers import Image, Labels, Layer
from numpy.typing import NDArray
from psygnal import Signal

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.widgets.image_source import ImageSource
from napari_sparseseg.widgets.layers import OWN_KEY, add_beneath, color_labels
from napari_sparseseg.widgets.placement import Placement


class MapLayers:
    """Shows the class maps of one image, keeps them, and takes them out again.

    Parameters
    ----------
    viewer
        Where.
    source
        The image.
    top
        The layer below which these lie.
    """

    removed = Signal(int)
    """Painted value of the class whose map the user has taken out of the viewer."""

    def __init__(self, viewer: Viewer, source: ImageSource, top: Layer) -> None:
        self._viewer, self._name, self._top = viewer, source.name, top
        self._placement = source.placement
        self._full = source.shape
        self._shape = source.shape if source.placement.ndim == 3 else source.shape[1:]
        self._maps: dict[int, Image] = {}
        self._seeds: Labels | None = None
        viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Take the layers out of the viewer."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        for layer in self._own():
            self._take_out(layer)
        self._maps, self._seeds = {}, None

    @property
    def maps(self) -> dict[int, NDArray[np.uint8]]:
        """The map ``(Z, Y, X)``, 0 to 255, of each class by its painted value, the newest last."""
        return {value: np.asarray(layer.data).reshape(self._full) for value, layer in self._maps.items()}

    def show_map(self, value: int, values: NDArray[np.uint8], class_name: str) -> None:
        """Show the map ``(Z, Y, X)``, 0 to 255, of a class, in place of its last one, and hide the others."""
        name = f"class map of {self._name} ({class_name})"
        there = self._maps.pop(value, None)  # to be the newest
        for other in self._maps.values():
            other.visible = False
        if there is not None:
            self._maps[value] = there
            there.data, there.name, there.visible = values.reshape(self._shape), name, True
            return
        layer = Image(
            values.reshape(self._shape), name=name, colormap="magma", contrast_limits=(0, 255),
            blending="additive", opacity=0.7, metadata={OWN_KEY: "map"}, **self._placement.transform(),
        )  # fmt: skip
        add_beneath(self._viewer, layer, self._top)
        self._maps[value] = layer

    def remove_map(self, value: int) -> None:
        """Take the map of a class out of the viewer, if there is one."""
        layer = self._maps.pop(value, None)
        if layer is not None:
            self._take_out(layer)
            self._show_newest()

    def show_seeds(self, labels: NDArray[np.uint8] | None, table: ClassTable) -> None:
        """Show the labels ``(Z, Y, X)`` of painted values that would be made of the maps; or none."""
        if labels is None:
            layer, self._seeds = self._seeds, None
            if layer is not None:
                self._take_out(layer)
        elif self._seeds is None:
            self._seeds = Labels(
                labels.reshape(self._shape), name=f"preview of labels of {self._name}", opacity=0.4,
                metadata={OWN_KEY: "seeds"}, colormap=color_labels(table, faint_background=True),
                **self._placement.transform(),
            )  # fmt: skip
            self._seeds.editable = False
            add_beneath(self._viewer, self._seeds, self._top)
        else:
            self._seeds.data[...] = labels.reshape(self._shape)
            self._seeds.refresh(thumbnail=False, highlight=False, extent=False)

    def show_classes(self, table: ClassTable) -> None:
        """Take over names and colors of the classes."""
        names = {entry.value: entry.name for entry in table.classes[1:]}
        for value, layer in self._maps.items():
            layer.name = f"class map of {self._name} ({names.get(value, f'class {value}')})"
        if self._seeds is not None:
            self._seeds.colormap = color_labels(table, faint_background=True)

    def place(self, placement: Placement) -> None:
        """Lie elsewhere, as the image does that was moved."""
        if placement is not self._placement:
            self._placement = placement
            for layer in self._own():
                for name, value in placement.transform().items():
                    setattr(layer, name, value)

    def _own(self) -> list[Layer]:
        return [*self._maps.values(), *([] if self._seeds is None else [self._seeds])]

    def _take_out(self, layer: Layer) -> None:
        if layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _on_removed(self, event: object) -> None:
        layer = getattr(event, "value", None)
        if self._seeds is not None and layer == self._seeds:
            self._seeds = None
        for value in [value for value, own in self._maps.items() if own == layer]:
            del self._maps[value]
            self._show_newest()
            self.removed.emit(value)

    def _show_newest(self) -> None:
        if self._maps:
            next(reversed(self._maps.values())).visible = True
