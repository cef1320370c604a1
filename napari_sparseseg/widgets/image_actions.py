"""Choosing the image to work on, and following what happens to it in napari's layer list."""

from napari.layers import Image
from qtpy.QtCore import QObject, QTimer

from napari_sparseseg.errors import InputError
from napari_sparseseg.napari_hooks import VOLUME_KEY
from napari_sparseseg.requests import CloseImage
from napari_sparseseg.widgets.image_source import ImageSource, prepare_reading
from napari_sparseseg.widgets.layers import is_own
from napari_sparseseg.widgets.opened_case import Shared, share_source
from napari_sparseseg.widgets.placement import Placement
from napari_sparseseg.widgets.shortcuts import release_shortcuts
from napari_sparseseg.widgets.workplace import Workplace, tells

PROJECT_KEY = "sparseseg_project"
"""Where an image layer's ``metadata`` keeps the folder of the project that it was last worked on in."""


class ImageActions(QObject):
    """Keeps the list of images, opens one, and notices when it is renamed, moved or taken away."""

    def __init__(self, place: Workplace) -> None:
        super().__init__(place)
        self.place = place
        self._layer: Image | None = None
        self._tried: Image | None = None
        self._reading = 0
        events = place.viewer.layers.events
        events.inserted.connect(self._on_layers)
        events.removed.connect(self._on_layers)
        events.renamed.connect(self._on_layers)
        self._on_layers()

    def close(self) -> None:
        """Stop following the layer list."""
        events = self.place.viewer.layers.events
        for emitter in (events.inserted, events.removed, events.renamed):
            emitter.disconnect(self._on_layers)
        self._follow(None)

    @property
    def layer(self) -> Image | None:
        """The layer of the image in work."""
        return self._layer

    @tells
    def choose(self, name: str) -> None:
        """Work on the image of the layer `name`; its values are read beside the window."""
        place = self.place
        if name not in place.viewer.layers or not isinstance(place.viewer.layers[name], Image):
            raise InputError(f"There is no image called {name}; choose another one.")
        layer = place.viewer.layers[name]
        if layer == self._layer and place.case is not None:
            self._bring_back()
            return
        read = prepare_reading(layer)
        self._find_project(layer)
        self._reading += 1
        reading = self._reading
        self.place.session.reading = True

        def opened(result: tuple[ImageSource, Shared]) -> None:
            if reading == self._reading and layer in place.viewer.layers:
                self._open(layer, *result)
            else:
                for array in result[1]:
                    array.close()

        place.background.run(f"Reading {name}…", lambda: share_source(read), opened, self._stop_reading)

    def choose_only_one(self) -> None:
        """Choose the image where there is only one volume to choose, channels counted as one."""
        place = self.place
        if place.case is not None or place.session.reading:
            return
        images = self._images()
        volumes = {id(layer.metadata.get(VOLUME_KEY, layer)) for layer in images}
        if len(volumes) == 1 and images[0] != self._tried:  # `is` fails: napari may give proxies
            self._tried = images[0]  # one that cannot be used is told of once
            self.choose(images[0].name)

    def keep_project_in_mind(self) -> None:
        """Remember in the layer which project it is worked on in, for when the panel is opened again."""
        if self._layer is not None and self.place.desk.project is not None:
            self._layer.metadata[PROJECT_KEY] = str(self.place.desk.project.folder)

    def leave(self) -> None:
        """Stop working on the image."""
        self._reading += 1
        self._stop_reading()
        self._follow(None)
        if self.place.case is not None:
            if not self.place.session.worker_is_taken:
                self.place.send(CloseImage())
            self.place.close_case()
            self.place.describe()

    def _open(self, layer: Image, source: ImageSource, shared: Shared) -> None:
        place = self.place
        self._stop_reading()
        self._follow(None)
        case = place.open_case(source, shared)
        self._follow(layer)
        place.session.paintable = True
        place.session.folder = source.path.rpartition("/")[0]
        case.layers.removed.connect(self._on_own_removed)
        place.viewer.layers.selection.active = case.layers.annotation
        place.view_changed()
        place.opened.emit()

    def _stop_reading(self) -> None:
        self.place.session.reading = False
        self.place.touch()

    def _bring_back(self) -> None:
        place = self.place
        case = place.case
        if case is None:
            return
        if not case.layers.is_complete:
            case.bring_back_layers(place.session.table)
            case.layers.removed.connect(self._on_own_removed)
            place.show_labels()
            place.session.paintable = True
            place.opened.emit()
        place.viewer.layers.selection.active = case.layers.annotation

    def _find_project(self, layer: Image) -> None:
        """Open the project that the image was worked on in, unless one is open."""
        folder = layer.metadata.get(PROJECT_KEY)
        if folder and self.place.desk.project is None:
            try:
                self.place.desk.open(folder)
            except InputError as error:
                self.place.tell(str(error))
            else:
                self.place.desk.restore_settings(self.place.session)
                self.place.describe()

    def _images(self) -> list[Image]:
        return [layer for layer in self.place.viewer.layers if isinstance(layer, Image) and not is_own(layer)]

    def _on_layers(self) -> None:
        session = self.place.session
        if self._layer is not None and self._layer not in self.place.viewer.layers:
            QTimer.singleShot(0, self._leave_if_gone)  # later: napari may be taking out several layers
        elif self._layer is not None:
            session.image = self._layer.name
        images = tuple(layer.name for layer in self._images())
        if images != session.images:
            appeared = len(images) > len(session.images)
            session.images = images
            if appeared and len(images) == 1:
                # The layer is still being inserted, and its neighbours (channels, labels) come with it.
                QTimer.singleShot(0, self.choose_only_one)
        self.place.touch()

    def _leave_if_gone(self) -> None:
        if self._layer is not None and self._layer not in self.place.viewer.layers:
            release_shortcuts(self._layer)
            self.leave()
            self.place.touch()

    def _follow(self, layer: Image | None) -> None:
        """Let the own layers move with the image's."""
        for name in ("scale", "translate", "rotate", "shear", "affine"):
            if self._layer is not None:
                getattr(self._layer.events, name).disconnect(self._on_moved)
            if layer is not None:
                getattr(layer.events, name).connect(self._on_moved)
        self._layer = layer

    def _on_moved(self) -> None:
        case, layer = self.place.case, self._layer
        if case is None or layer is None:
            return
        placement = Placement.of_layer(layer)
        try:
            placement.check(layer.name)
        except InputError as error:
            self.place.tell(str(error))
            return
        case.place(placement)
        self.place.view_changed()

    def _on_own_removed(self, role: str) -> None:
        self.place.session.paintable &= role != "annotation"
        self.place.touch()
        QTimer.singleShot(0, self._explain_removal)  # later: the whole viewer may be closing

    def _explain_removal(self) -> None:
        there, case = self._layer is not None and self._layer in self.place.viewer.layers, self.place.case
        if there and case is not None and not case.layers.is_complete:
            self.place.inform(
                "Labels and prediction are kept; choose the image again to bring the layer back."
            )
