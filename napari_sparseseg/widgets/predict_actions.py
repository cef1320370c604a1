"""What the Train and Predict panels ask for: learning, what is shown, where to label next, files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from qtpy.QtCore import QObject

from napari_sparseseg.errors import InputError
from napari_sparseseg.requests import Restart, SaveModel, Train
from napari_sparseseg.settings import InferenceConfig, NetworkConfig, TrainingConfig
from napari_sparseseg.suggestion import Suggestion, most_uncertain_slice, suggest_slice
from napari_sparseseg.volume import check_writable, save_labels, save_map
from napari_sparseseg.widgets.job_words import why_wait
from napari_sparseseg.widgets.mask import count_millilitres, merge_mask
from napari_sparseseg.widgets.session import Learning, Region
from napari_sparseseg.widgets.workplace import Workplace, tells


class PredictActions(QObject):
    """Carries out what the user asks for of network and prediction."""

    def __init__(self, place: Workplace) -> None:
        super().__init__(place)
        self.place = place

    # -- learning --

    @tells
    def train(self, running: bool) -> None:
        """Start learning, or pause it."""
        place = self.place
        if running:
            place.require_case()
        place.session.running = running
        place.session.learning.run(running and place.session.learning.slices > 0)
        place.desk.save_settings(place.session)
        if running and not place.link.alive:
            place.session.worker = "starting"
            place.link.revive()
            place.send_image()
        else:
            place.send(Train(running))

    @tells
    def restart(self) -> None:
        """Forget the network and learn anew."""
        if why := why_wait(self.place.session):
            raise InputError(why)
        self.place.session.learning = Learning()
        self.place.send(Restart())

    @tells
    def change_settings(self, training: TrainingConfig, network: NetworkConfig) -> None:
        """Train otherwise."""
        self.place.session.training, self.place.session.network = training, network
        self._settings_changed()

    @tells
    def change_inference(self, inference: InferenceConfig) -> None:
        """Process the prediction otherwise."""
        self.place.session.inference = inference
        self._settings_changed()

    def _settings_changed(self) -> None:
        self.place.desk.save_settings(self.place.session)
        self.place.send_settings()

    # -- what is shown --

    @tells
    def set_opacity(self, opacity: float) -> None:
        """Show the prediction so strongly, 0 to 1."""
        self.place.session.opacity = min(max(0.0, opacity), 1.0)
        self.show_choices()

    @tells
    def set_class_visible(self, value: int, visible: bool) -> None:
        """Show or hide a class in the prediction."""
        session = self.place.session
        session.hidden = session.hidden - {value} if visible else session.hidden | {value}
        if self.place.case is not None:
            self.place.case.layers.show_classes(session.table, session.hidden)

    @tells
    def set_uncertainty_visible(self, visible: bool) -> None:
        """Show or hide the uncertainty."""
        self.place.session.uncertainty_visible = visible
        self.show_choices()

    @tells
    def toggle_prediction(self) -> None:
        """Show or hide the whole prediction."""
        layer = self.place.require_case().layers.prediction
        layer.visible = not layer.visible

    def show_choices(self) -> None:
        """Let the layers follow what the panel says."""
        case, session = self.place.case, self.place.session
        if case is not None:
            case.layers.prediction.opacity = session.opacity
            case.layers.uncertainty.visible = session.uncertainty_visible
            case.layers.show_classes(session.table, session.hidden)

    def picture_completed(self) -> None:
        """Measure the prediction."""
        case, session = self.place.case, self.place.session
        if case is not None:
            case.layers.picture_completed()
            session.volumes_ml = count_millilitres(
                case.prediction, session.region, session.table, case.source.voxel_ml
            )

    # -- where to label next --

    @tells
    def go_to_most_uncertain(self) -> None:
        """Show the most uncertain slice of this orientation."""
        case, session = self.place.require_case(), self.place.session
        axis, region = session.orientation, self._require_region()
        labelled = session.labelled_slices[axis]
        self._go_to(most_uncertain_slice(case.uncertainty, axis, region, labelled))

    @tells
    def suggest_slice(self) -> None:
        """Show the slice, of any orientation, that is best labelled next, and say why."""
        case, session = self.place.require_case(), self.place.session
        names = {entry.value: entry.name for entry in session.table.classes[1:]}
        suggestion = suggest_slice(
            case.uncertainty,
            case.prediction,
            self._require_region(),
            session.labelled_slices,
            case.source.volume.spacing,
            names,
        )
        self._go_to(suggestion)

    def _go_to(self, suggestion: Suggestion | None) -> None:
        if suggestion is None:
            raise InputError("The prediction is sure everywhere; look for mistakes by eye.")
        self.place.session.suggestion = suggestion.reason
        self.place.require_case().go_to(suggestion.axis, suggestion.index)

    def _require_region(self) -> Region:
        region = self.place.session.region
        if region is None:
            raise InputError("There is no whole prediction yet; wait a moment, or label more.")
        return region

    # -- files --

    @tells
    def save_mask(self, path: str) -> None:
        """Write prediction and labels as one mask on the grid of the image."""
        case, desk = self.place.require_case(), self.place.desk
        check_writable(path)
        labels, sources = (None if a is None else a.copy() for a in (desk.labels, desk.sources))
        parts = (case.prediction.copy(), labels, sources, self.place.session.table)
        volume = case.source.volume
        self._write(path, lambda: save_labels(path, merge_mask(*parts), volume))

    @tells
    def save_uncertainty(self, path: str) -> None:
        """Write the uncertainty, 0 to 1, on the grid of the image."""
        case = self.place.require_case()
        check_writable(path)
        values = case.uncertainty.astype(np.float32) / 255
        self._write(path, partial(save_map, path, values, case.source.volume))

    @tells
    def export_model(self, folder: str) -> None:
        """Let the worker write the network to `folder`."""
        self.place.require_case()
        self.place.send(SaveModel(folder))

    def _write(self, path: str, job: Callable[[], None]) -> None:
        name = Path(path).name
        self.place.session.folder = str(Path(path).parent)
        self.place.background.run(f"Saving {name}…", job, lambda _: self.place.inform(f"{path} was saved."))
