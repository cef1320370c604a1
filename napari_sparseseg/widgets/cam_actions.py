"""What the Class maps panel asks for: what is where in words, a classifier, class maps, labels from them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from qtpy.QtCore import Signal

from napari_sparseseg.errors import InputError
from napari_sparseseg.events import (
    ClassifierScored,
    ClassifierTrained,
    ClassMapChecked,
    ClassMapMade,
    ModelSaved,
)
from napari_sparseseg.image_label_files import (
    NamedImageLabel,
    find_image_labels,
    load_image_labels,
    match_label_classes,
    place_image_labels,
    save_image_labels,
)
from napari_sparseseg.requests import MapClass, SaveModel, TrainClassifier
from napari_sparseseg.settings import CamConfig, ClassifierConfig, CrfConfig, SeedConfig
from napari_sparseseg.shared_array import SharedArray
from napari_sparseseg.widgets.cam_states import (
    find_subject,
    find_subjects,
    labelled_class,
    why_no_map_here,
    why_no_slice,
)
from napari_sparseseg.widgets.class_maps import ClassMaps
from napari_sparseseg.widgets.job_actions import JobActions
from napari_sparseseg.widgets.network_copies import NetworkCopies
from napari_sparseseg.widgets.place_click import PlaceClick
from napari_sparseseg.widgets.pretrain_states import find_encoder
from napari_sparseseg.widgets.read_classes import with_classes
from napari_sparseseg.widgets.told_labels import to_image_labels
from napari_sparseseg.widgets.work import CamWork
from napari_sparseseg.widgets.workplace import Workplace, tells

_CLASSIFIER = "classifier"  # folder in that of the case
_PAINTED = range(2, 256)


class CamActions(JobActions):
    """Carries out what the user asks for of image-level labels and class maps."""

    settings_changed = Signal()
    """Settings of the Class maps panel have changed."""

    def __init__(self, place: Workplace) -> None:
        super().__init__(place)
        self.maps = ClassMaps(place)
        self._copies = NetworkCopies()
        self._target: SharedArray | None = None
        self._asked: MapClass | None = None
        self._waits = False
        """Whether the live session must write its network before it can be asked."""
        self._made: dict[int, tuple[str, MapClass, float]] = {}
        """Subject, request and score of each map that is there, by the painted value of its class."""
        self._click = PlaceClick(place.viewer, self)
        self._click.clicked.connect(self._map_at)
        self._click.changed.connect(self._take_waiting)
        self.maps.removed.connect(self._forget_map)
        place.closing.connect(self._image_closing)
        place.class_deleted.connect(self._class_deleted)

    @property
    def job(self) -> CamWork:
        """What was said of the image, and the class maps that came of it."""
        return self.place.session.cam

    def close(self) -> None:
        """Leave no file behind; to be called when the worker has ended."""
        self._copies.close()

    # -- the image --

    def image_opened(self) -> None:
        """Take over what the project has of the image."""
        self._take_labels()
        kept = bool(self.place.desk.state_folder)  # there is none before there is a project
        self.job.has_classifier = kept and Path(self._classifier_folder, "classifier.json").is_file()

    def _image_closing(self) -> None:
        self._click.end()
        self._asked, self._waits, self._made = None, False, {}
        target, self._target = self._target, None
        if target is not None:
            target.close()

    def _class_deleted(self, value: int) -> None:
        self.job.begun.pop(value, None)
        self.maps.remove(value)
        self._take_labels()

    # -- what is where, in words --

    @tells
    def add_volume_label(self, present: bool) -> None:
        """Say that the selected class is in the image, or is not."""
        hints, case = self.place.ensure_hints()
        hints.set_image_label(case, labelled_class(self.place.session), present)
        self._labels_changed()

    @tells
    def begin_range(self) -> None:
        """Say that the selected class begins on the visible slice."""
        session = self.place.session
        if why := why_no_slice(session):
            raise InputError(why)
        self.job.begun[labelled_class(session)] = (session.orientation, session.slice_index)

    @tells
    def end_range(self) -> None:
        """Say that the selected class ends on the visible slice, be it before or after its beginning."""
        session = self.place.session
        value = labelled_class(session)
        axis, index = self.job.begun.get(value, (None, 0))
        if why := why_no_slice(session):
            raise InputError(why)
        if axis != session.orientation:
            raise InputError("Say first on a slice of this orientation where it begins.")
        first, last = sorted((index, session.slice_index))
        hints, case = self.place.ensure_hints()
        hints.set_image_label(case, value, True, axis, first, last)
        del self.job.begun[value]
        self._labels_changed()

    @tells
    def delete_label(self, number: int) -> None:
        """Take back what was said."""
        hints, case = self.place.desk.hints()
        hints.remove_image_label(case, number)
        self._labels_changed()

    @tells
    def load_labels(self, path: str) -> None:
        """Add what a file says of this image; classes that are not known are added too."""
        place = self.place
        source = place.require_case().source
        rows = find_image_labels(load_image_labels(path), source.path or source.name)
        read = place_image_labels(rows, source.volume)
        known = {entry.value: entry.name for entry in place.session.table.classes[1:]}
        values, names = match_label_classes(read, known, _PAINTED)
        if len(names) > len(known):
            place.set_table(with_classes(place.session.table, names))
        hints, case = place.ensure_hints()
        before = len(self.job.labels)
        try:
            for label, value in zip(read, values, strict=True):
                hints.set_image_label(case, value, label.present, label.axis, label.first, label.last)
        finally:
            self._labels_changed()
        place.session.folder = str(Path(path).parent)
        count, new = len(read), len(self.job.labels) - before
        words = "1 label was" if count == 1 else f"{count} labels were"
        rest = "" if new == count else f"; {new or 'none'} of them {'is' if new == 1 else 'are'} new"
        place.inform(f"{words} read from {Path(path).name}{rest}.")

    @tells
    def save_labels(self, path: str) -> None:
        """Write what was said to a file, in mm of the patient."""
        case, session = self.place.require_case(), self.place.session
        if not self.job.labels:
            raise InputError("There is nothing to save: nothing was said of this image yet.")
        names = {entry.value: entry.name for entry in session.table.classes[1:]}
        volume = Path(case.source.path).name
        labels = [
            NamedImageLabel(names.get(r.value, ""), r.value, r.present, r.axis, r.first, r.last, volume)
            for r in self.job.labels
        ]
        save_image_labels(path, labels, {volume: case.source.volume})
        session.folder = str(Path(path).parent)
        self.place.inform(f"{path} was saved.")

    def _labels_changed(self) -> None:
        self._take_labels()
        self.place.send_image_labels()

    def _take_labels(self) -> None:
        """Take over what the project has."""
        self.job.labels = self.place.desk.image_labels()
        self.maps.preview_soon()
        self.place.touch()

    # -- settings --

    @tells
    def change_settings(
        self, classifier: ClassifierConfig, cam: CamConfig, seeds: SeedConfig, crf: CrfConfig
    ) -> None:
        """Do all of it otherwise from now on."""
        session = self.place.session
        outside = session.classifier_config.outside
        session.classifier_config, session.cam_config = classifier, cam
        session.seed_config, session.crf = seeds, crf
        self.place.desk.save_settings(session)
        if classifier.outside != outside and self.job.labels:
            self.place.send_image_labels()
        self.maps.preview_soon()
        self.settings_changed.emit()

    @tells
    def choose_subject(self, subject: str) -> None:
        """Ask the classifier, or the segmentation network, from now on."""
        if subject not in find_subjects(self.place.session):
            raise InputError("This network has not learnt yet; let it learn first.")
        self.job.subject = subject

    # -- the worker --

    def announce(self, name: str, doing: str) -> None:
        """Say that a job called `name` begins, with `doing`; no place is waited for any more."""
        super().announce(name, doing)
        self._click.end()

    @tells
    def train(self) -> None:
        """Let a classifier learn from the image-level labels; learning from strokes rests meanwhile."""
        place, session = self.place, self.place.session
        if self.job.running == "classifier":
            return  # a second click came before the panel showed the first
        opened = place.require_case().request(session.table, "")
        labels = to_image_labels(place.desk.image_labels(), session.table)
        if not labels:
            raise InputError("Say first where a class is, and where it is not.")
        request = TrainClassifier(
            opened.image, opened.spacing, session.table, opened.name, labels, session.classifier_config,
            session.network, self._classifier_folder, find_encoder(session),
        )  # fmt: skip
        self.begin(request, "classifier", "Looking at the slices…")
        self.job.scores = None

    @tells
    def make_map(self) -> None:
        """Show where the network looks for the selected class."""
        self._ask(find_subject(self.place.session), labelled_class(self.place.session), None)

    @tells
    def map_here(self) -> None:
        """Show why the segmentation network sees the selected class where the user clicks next; or do not."""
        if self._click.waiting:
            self._click.end()
        elif why := why_no_map_here(self.place.session):
            raise InputError(why)
        else:
            self._click.begin()

    def map_under_mouse(self) -> None:
        """Show why the segmentation network sees the selected class where the mouse is."""
        self._map_at(self.place.viewer.cursor.position)

    @tells
    def check(self) -> None:
        """Compare the map shown with those of networks that have learnt nothing."""
        if self.job.mapped is None:
            raise InputError("There is no class map to check; show where the network looks first.")
        subject, request, _ = self._made[self.job.mapped]
        self._ask(subject, request.value, request.voxel, check=True)

    @tells
    def cancel(self) -> None:
        """Stop what is being done; maps made before stay."""
        self.end("Stopped.")

    def take_event(self, event: object) -> bool:
        """Take in what the worker says of this work; return False for what is not of it."""
        if isinstance(event, ModelSaved) and self._copies.hold(event.folder):
            self._network_saved(event.folder)
            return True
        if self._waits or not self.job.running:
            return False  # it is of the live session
        if super().take_event(event):
            return True
        if isinstance(event, ClassifierScored):
            self.job.scores = event
        elif isinstance(event, ClassifierTrained):
            self.job.has_classifier, self.job.subject = True, "classifier"
            self.end("The classifier has learnt; now show where it looks.")
        elif isinstance(event, ClassMapMade):
            self.end(self._show_map(event))
        elif isinstance(event, ClassMapChecked):
            self.job.check, self.job.check_passed = event.text, event.depends
            self.end("")
        else:
            return False
        return True

    @tells
    def _map_at(self, position: Sequence[float]) -> None:
        """Show why the segmentation network sees the selected class at a world position."""
        session = self.place.session
        if why := why_no_map_here(session):
            raise InputError(why)
        voxel = self.place.require_case().voxel_at(position)
        if voxel is None:
            raise InputError("There is no image at this place; point at the image.")
        self._ask("network", labelled_class(session), voxel)

    def _take_waiting(self, waiting: bool) -> None:
        self.job.asking = waiting
        self.place.touch()

    def _ask(self, subject: str, value: int, voxel: tuple[int, int, int] | None, check: bool = False) -> None:
        place, session, name = self.place, self.place.session, "check" if check else "map"
        if self.job.running == name:
            return
        opened = place.require_case().request(session.table, "")
        if subject not in find_subjects(session):
            raise InputError("There is no network to ask yet; let one learn first.")
        self.announce(name, "Asking the classifier…" if subject == "classifier" else "Asking the network…")
        of_classifier = subject == "classifier"
        self._asked = request = MapClass(
            opened.image, opened.spacing, opened.name, self._require_target().handle, value,
            self._classifier_folder if of_classifier else self._copies.make(), voxel, check,
            session.cam_config, session.crf,
        )  # fmt: skip
        self.job.check, self.job.check_passed = "", None
        self._waits = not of_classifier
        if self._waits:
            place.send(SaveModel(request.folder))
        else:
            self._send(request)

    def _network_saved(self, folder: str) -> None:
        """Go on with the network that the live session has written; or delete it, if nobody waits for it."""
        if self._waits and self._asked is not None and self._asked.folder == folder:
            self._waits = False
            self._send(self._asked)
        else:
            self._copies.remove(folder)

    def _stop(self, outcome: str) -> None:
        self._waits = False
        if self._asked is not None:
            self._copies.remove(self._asked.folder)
        super()._stop(outcome)

    @property
    def _classifier_folder(self) -> str:
        return str(Path(self.place.desk.state_folder, _CLASSIFIER))

    def _require_target(self) -> SharedArray:
        if self._target is None:
            self._target = SharedArray.create(self.place.require_case().source.shape, np.uint8)
        return self._target

    # -- maps, and labels from them --

    def _show_map(self, event: ClassMapMade) -> str:
        """Show the map that was made; return what came of it, in words."""
        asked = self._asked
        names = {entry.value: entry.name for entry in self.place.session.table.classes[1:]}
        if asked is None or asked.value not in names:
            return "The class was deleted; there is no map of it."
        name = names[asked.value]
        if event.is_empty:
            self.maps.remove(asked.value)
            return f"The map of {name} is empty: nothing speaks for it. Try another method or layer."
        subject = "network" if self._copies.hold(asked.folder) else "classifier"
        self._made[asked.value] = subject, asked, event.score
        self.job.mapped, self.job.score = asked.value, event.score
        self.maps.show(asked.value, self._require_target().array.copy())
        return f"The map of {name} is shown."

    def _forget_map(self, value: int) -> None:
        """Take in that the map of a class is gone."""
        self._made.pop(value, None)
        if self.job.mapped == value:
            shown = next(iter(self.maps.values[::-1]), None)
            self.job.mapped, self.job.score = shown, None if shown is None else self._made[shown][2]
            self.job.check, self.job.check_passed = "", None
        self.place.touch()

    @tells
    def make_seeds(self) -> None:
        """Keep what the maps are sure of as labels to learn from, with a low weight; strokes always win."""
        labels = self.maps.find_labels()
        if labels is None:
            raise InputError("There is no class map to make labels of; show where the network looks first.")
        if not self.place.replace_labels(labels, "cam"):
            raise InputError("Nothing was changed: the maps add nothing to the labels that are there.")

    @tells
    def clear_seeds(self) -> None:
        """Take all labels from class maps out again."""
        self.place.clear_labels("cam")
