"""The list of cases: adding to it, opening a case, marking one as done, and what is known of each."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from napari.layers import Image
from qtpy.QtCore import QObject, QTimer

from napari_sparseseg.batch_inputs import find_inputs
from napari_sparseseg.batch_records import BatchInput
from napari_sparseseg.cohort_records import CohortCase
from napari_sparseseg.errors import InputError
from napari_sparseseg.project import CaseRecord, Project
from napari_sparseseg.project_cohort import (
    add_cases,
    count_labels,
    keep_count,
    kept_image,
    last_dice,
    list_cases,
    mark_done,
    network_hash,
    note_fingerprint,
    read_quality,
    remove_cases,
)
from napari_sparseseg.project_store import DATABASE_NAME
from napari_sparseseg.volume import Volume, is_readable
from napari_sparseseg.widgets.case_pictures import CasePictures
from napari_sparseseg.widgets.case_reading import (
    CASE_KEY,
    CaseReader,
    find_layer,
    layers_of,
    opened_layers,
    show_volume,
)
from napari_sparseseg.widgets.cohort_snapshots import FILTERS, MINUTES
from napari_sparseseg.widgets.cohort_states import step_from, why_no_step
from napari_sparseseg.widgets.image_actions import ImageActions
from napari_sparseseg.widgets.recording import APART
from napari_sparseseg.widgets.work import CohortWork
from napari_sparseseg.widgets.workplace import Workplace, tells

MINUTES_KEY = "cohort_minutes"
"""Under which a project keeps how long the network of all its cases learns."""

_COUNT_MS = 30


class CaseBrowsing(QObject):
    """Keeps `session.cohort` in line with the project, and carries out what the user asks of the list."""

    def __init__(self, place: Workplace, images: ImageActions) -> None:
        super().__init__(place)
        self.place = place
        self._images = images
        self._project: Project | None = None
        self._opening = 0
        self._is_chosen = False
        """Whether the image that `CohortWork.opening` is about is in the viewer, and its values are read."""
        self.pictures = CasePictures(
            lambda: self.work, place.touch, lambda: place.session.reading or bool(self.work.opening), self
        )
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_COUNT_MS)
        self._timer.timeout.connect(self._count_one)
        place.touched.connect(self._follow_project)
        place.opened.connect(self._image_opened)
        place.closing.connect(self._image_closing)

    @property
    def work(self) -> CohortWork:
        """The list."""
        return self.place.session.cohort

    def close(self) -> None:
        """Make no more pictures, count no more labels."""
        self._timer.stop()
        self._leave_project()
        self.pictures.close()

    # -- the list --

    @tells
    def add(self, texts: Sequence[str]) -> None:
        """Add files, folders with all volumes below them, patterns and manifests."""
        place, work = self.place, self.work
        if work.looking:
            raise InputError("Volumes are being looked for already; wait for that.")
        work.looking = f"Looking for volumes in {Path(texts[0]).name or texts[0]}…"

        def found(inputs: tuple[BatchInput, ...]) -> None:
            work.looking = ""
            if not inputs:
                raise InputError(f"{texts[0]} holds no volume that can be read; choose another folder.")
            added = add_cases(place.desk.ensure_project(place.session), inputs)
            place.describe()
            self.refresh()
            if not added:
                place.inform("These cases are in the list already.")

        def failed() -> None:
            work.looking = ""
            place.touch()

        place.background.run(work.looking, lambda: _find_volumes(texts), found, failed)

    @tells
    def remove(self, keys: Collection[str]) -> None:
        """Take cases from the list; neither files nor labels are deleted."""
        if self._project is None:
            return
        if stay := remove_cases(self._project, keys):
            self.place.inform(
                f"{'One case stays' if stay == 1 else f'{stay} cases stay'} in the list, for something is "
                "labelled there: no label is ever deleted with a case."
            )
        self.refresh()

    @tells
    def mark_done(self, keys: Collection[str], done: bool) -> None:
        """Mark cases as done, or as not done."""
        if self._project is not None:
            mark_done(self._project, keys, done)
            self.work.cases = tuple(
                replace(case, done=done) if case.key in keys else case for case in self.work.cases
            )

    @tells
    def show_only(self, name: str) -> None:
        """Show the cases of one state, an entry of `FILTERS`."""
        if name in FILTERS:
            self.work.filter = name

    @tells
    def search(self, text: str) -> None:
        """Show the cases whose names have these words."""
        self.work.search = text

    def want_pictures(self, keys: Sequence[str]) -> None:
        """Make small pictures of these cases, which are visible."""
        self.pictures.want(keys)

    # -- opening --

    @tells
    def open(self, key: str) -> None:
        """Work on a case; the image before it goes, its labels and its view are kept."""
        place, work = self.place, self.work
        case, project = work.find(key), self._project
        if case is None or project is None:
            raise InputError("This case is not in the list any more; choose another one.")
        self._opening += 1
        self._is_chosen, work.opening = False, key
        record = None if case.number is None else project.case(case.number)
        layer = self._images.layer if key == work.opened else find_layer(place.viewer, case.files, record)
        if layer is not None:
            self._choose(layer, [] if key == work.opened else self._before(layer))
            return
        opening = self._opening
        kept = None if record is None else kept_image(project, record.number)

        def show(volume: Volume) -> None:
            if opening == self._opening and project is self._project:
                self._show(volume, case, record)

        def failed() -> None:
            if opening == self._opening:
                work.opening = ""
                self.pictures.look_again(case)
            place.touch()

        place.background.run(f"Opening {case.name}…", CaseReader(case.files, record, kept), show, failed)

    @tells
    def open_next(self) -> None:
        """Open the next case that the list shows."""
        self._step(1)

    @tells
    def open_previous(self) -> None:
        """Open the case before."""
        self._step(-1)

    @tells
    def open_advised(self) -> None:
        """Open the case that should be labelled next."""
        advice = self.work.advice
        if advice is None or not advice.key:
            raise InputError("No case is recommended yet; ask which one is next.")
        self.open(advice.key)

    def _step(self, step: int) -> None:
        session = self.place.session
        case = step_from(session, step)
        if case is None:
            self.place.inform(why_no_step(session, step))
        else:
            self.open(case.key)

    def _show(self, volume: Volume, case: CohortCase, record: CaseRecord | None) -> None:
        before = self._before(None)
        name = case.name if record is None else record.name
        file = case.files[0] if len(case.files) == 1 else ""
        self._images.leave()
        self._take_out(before)
        layers = show_volume(self.place.viewer, volume, name, case.key, file)
        self._is_chosen = True
        self._images.choose(layers[0].name)

    def _choose(self, layer: Image, before: list[Image]) -> None:
        if before:
            self._images.leave()
            self._take_out(before)
        self._is_chosen = True
        self._images.choose(layer.name)

    def _before(self, stays: Image | None) -> list[Image]:
        """Return the layers that go when another case comes: those of a case, or opened by a project."""
        viewer, own = self.place.viewer, self._images.layer
        going = opened_layers(viewer)
        if own is not None and self.work.opened:
            going += layers_of(viewer, own)
        staying = [] if stays is None else layers_of(viewer, stays)
        return [layer for layer in going if not any(layer == other for other in staying)]

    def _take_out(self, layers: Sequence[Image]) -> None:
        for layer in layers:
            if layer in self.place.viewer.layers:
                self.place.viewer.layers.remove(layer)

    # -- what is known --

    @tells
    def refresh(self) -> None:
        """Read the list anew."""
        work, project = self.work, self._project
        if project is None:
            work.cases, work.trained, work.dice, work.opened = (), False, None, ""
            return
        work.cases = self.pictures.annotate(list_cases(project))
        work.trained, work.dice = bool(network_hash(project)), read_quality(project).overall
        work.opened = self._find_opened()
        if work.advice is not None and work.advice.key and work.find(work.advice.key) is None:
            work.advice = None
        self.pictures.look(work.cases)
        self._timer.start()

    def _follow_project(self) -> None:
        """Take in that another project is open, and that an image is open or cannot be."""
        project = self.place.desk.project
        if self._is_chosen and not self.place.session.reading:
            self._is_chosen, self.work.opening = False, ""
        if project is self._project:
            self.pictures.go_on()
            return
        self._leave_project()
        self._project = project
        work = self.work
        work.advice, work.outcome, work.opening = None, "", ""
        self.pictures.follow(project)
        if project is not None:
            minutes = project.setting(MINUTES_KEY, MINUTES)
            work.minutes = minutes if type(minutes) is int and minutes > 0 else MINUTES
            project.case_added.connect(self._case_added)
            project.rounds_changed.connect(self._round_changed)
        self.refresh()

    def _leave_project(self) -> None:
        project, self._project = self._project, None
        if project is not None:
            project.case_added.disconnect(self._case_added)
            project.rounds_changed.disconnect(self._round_changed)

    def _case_added(self, number: int) -> None:
        QTimer.singleShot(0, self.refresh)  # later: it is being taken up

    def _round_changed(self, number: int) -> None:
        if self._project is None or not any(c.number == number and not c.by_project for c in self.work.cases):
            return
        dice = last_dice(self._project, number)
        self.work.cases = tuple(
            replace(case, dice=dice) if case.number == number and not case.by_project else case
            for case in self.work.cases
        )

    def _image_opened(self) -> None:
        project, case, work = self._project, self.place.case, self.work
        work.opened = self._find_opened()
        opened = work.find(work.opened)
        if project is None or case is None or opened is None:
            return
        self.pictures.note(opened.key, "")
        work.cases = tuple(
            replace(each, problem="") if each.key == opened.key else each for each in work.cases
        )
        if work.advice is not None and work.advice.key == opened.key:
            work.advice = None
        try:
            if opened.added:
                note_fingerprint(project, opened.key, case.source.fingerprint)
            if opened.number is not None:  # what is counted now may be out of date when this ends
                keep_count(project, opened.number, None)
        except InputError as error:
            self.place.tell(str(error))
        self.refresh()

    def _image_closing(self) -> None:
        self.work.opened = ""
        QTimer.singleShot(0, self.refresh)

    def _find_opened(self) -> str:
        """Return the key of the case in work; empty where it is not in the list."""
        case, desk = self.place.case, self.place.desk
        if case is None:
            return ""
        cases, layer = self.work.cases, self._images.layer
        if layer is not None and self.work.find(key := str(layer.metadata.get(CASE_KEY, ""))) is not None:
            return key
        if desk.case is not None:
            return next((each.key for each in cases if each.number == desk.case), "")
        places = {Path(each.files[0]): each.key for each in cases if len(each.files) == 1}
        return places.get(Path(case.source.path), "") if case.source.path else ""

    def _count_one(self) -> None:
        """Count the labels of one case that has not been counted, so that the window never waits."""
        project, work = self._project, self.work
        if project is None:
            return
        in_work = self.place.desk.case
        case = next(
            (c for c in work.cases if c.labels is None and c.number is not None and c.number != in_work), None
        )
        if case is None or case.number is None:
            return
        try:
            count = count_labels(project, case.number, APART)
            project.forget_labels(case.number)
            keep_count(project, case.number, count)
        except InputError as error:
            self.place.tell(str(error))
            return
        work.cases = tuple(replace(each, labels=count) if each is case else each for each in work.cases)
        self.place.touch()
        self._timer.start()


def _find_volumes(texts: Sequence[str]) -> tuple[BatchInput, ...]:
    """Return the volumes, but neither folders without any nor the copies that projects keep."""
    return tuple(
        each
        for each in find_inputs(texts)
        if not (Path(each.files[0]).parent.parent / DATABASE_NAME).exists()
        and (not Path(each.files[0]).is_dir() or is_readable(each.files[0]))
    )
