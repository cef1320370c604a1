"""The class maps of the image in work, and the labels that would be made of them, previewed."""

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_sparseseg.annotation import BACKGROUND
from napari_sparseseg.errors import InputError
from napari_sparseseg.image_labels import Presence
from napari_sparseseg.seeds import make_seeds
from napari_sparseseg.widgets.map_layers import MapLayers
from napari_sparseseg.widgets.told_labels import to_image_labels
from napari_sparseseg.widgets.workplace import Workplace

_PREVIEW_MS = 30


class ClassMaps(QObject):
    """Keeps the last map of each class in a layer, and previews the labels that all of them make.

    Parameters
    ----------
    place
        The workplace.
    """

    removed = Signal(int)
    """Painted value of a class whose map is gone."""

    def __init__(self, place: Workplace) -> None:
        super().__init__(place)
        self.place = place
        self._layers: MapLayers | None = None
        self._table = place.session.table
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PREVIEW_MS)
        self._timer.timeout.connect(self.preview)
        place.touched.connect(self._follow_classes)
        place.viewed.connect(self._follow_view)
        place.closing.connect(self._image_closing)

    @property
    def values(self) -> tuple[int, ...]:
        """Painted values of the classes that there are maps of, the newest last."""
        return () if self._layers is None else tuple(self._layers.maps)

    def show(self, value: int, values: NDArray[np.uint8]) -> None:
        """Show the map ``(Z, Y, X)``, 0 to 255, of a class."""
        case = self.place.require_case()
        if self._layers is None:
            self._layers = MapLayers(self.place.viewer, case.source, case.layers.annotation)
            self._layers.removed.connect(self._on_removed)
        names = {entry.value: entry.name for entry in self.place.session.table.classes[1:]}
        self._layers.show_map(value, values, names.get(value, f"class {value}"))
        self.preview_soon()

    def remove(self, value: int) -> None:
        """Forget the map of a class, if there is one."""
        if value in self.values and self._layers is not None:
            self._layers.remove_map(value)
            self._on_removed(value)

    def find_labels(self) -> NDArray[np.uint8] | None:
        """Return the painted values ``(Z, Y, X)`` that the maps are sure of; None where there is no map.

        Raises
        ------
        InputError
            If the thresholds contradict each other.
        """
        session, case = self.place.session, self.place.case
        if self._layers is None or case is None:
            return None
        values = session.table.mask_values
        maps = {
            values.index(value) + 1: np.divide(seen, 255, dtype=np.float32)
            for value, seen in self._layers.maps.items()
            if value in values[1:]
        }
        if not maps:
            return None
        words = to_image_labels(session.cam.labels, session.table)
        outside = session.classifier_config.outside == "absent"
        presence = Presence(words, case.source.shape, len(values), outside_absent=outside) if words else None
        painted = np.array([0, BACKGROUND, *values[1:]], np.uint8)
        labels: NDArray[np.uint8] = painted.take(make_seeds(maps, presence, session.seed_config))
        return labels

    def preview_soon(self) -> None:
        """Preview the labels that would be made, soon: a slider that is dragged asks again and again."""
        if not self._timer.isActive():
            self._timer.start()

    def preview(self) -> None:
        """Show the labels that would be made now."""
        if self._layers is None:
            return
        try:
            labels = self.find_labels()
        except InputError:  # it is told of where labels are asked for
            labels = None
        self._layers.show_seeds(labels, self.place.session.table)

    def _on_removed(self, value: int) -> None:
        self.preview_soon()
        self.removed.emit(value)

    def _image_closing(self) -> None:
        self._timer.stop()
        layers, self._layers = self._layers, None
        if layers is not None:
            layers.close()

    def _follow_view(self) -> None:
        if self._layers is not None and self.place.case is not None:
            self._layers.place(self.place.case.source.placement)

    def _follow_classes(self) -> None:
        table = self.place.session.table
        if table != self._table:
            self._table = table
            if self._layers is not None:
                self._layers.show_classes(table)
