"""What all actions of one window share: viewer, session, project, worker, and the image in work."""

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from napari import Viewer
from napari.utils.notifications import show_error, show_info
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_sparseseg.annotation import ClassTable, LabelClass
from napari_sparseseg.errors import InputError
from napari_sparseseg.project import LabelChange, Project
from napari_sparseseg.project_hints import ProjectHints
from napari_sparseseg.requests import (
    Configure,
    KeepState,
    LabelImage,
    Look,
    Paint,
    Request,
    SetClasses,
    StartFrom,
    Train,
)
from napari_sparseseg.suggestion import labelled_slices
from napari_sparseseg.widgets.background import Background
from napari_sparseseg.widgets.image_source import ImageSource
from napari_sparseseg.widgets.opened_case import OpenedCase, Shared
from napari_sparseseg.widgets.placement import find_camera, show_upright
from napari_sparseseg.widgets.project_desk import ProjectDesk
from napari_sparseseg.widgets.recording import APART, is_apart
from napari_sparseseg.widgets.session import Session
from napari_sparseseg.widgets.told_labels import requests_for, to_image_labels
from napari_sparseseg.widgets.worker_link import MakeWorker, WorkerLink

_COUNT_MS = 250
_LOOK_MS = 50
_SAVE_VIEW_MS = 1000


class Workplace(QObject):
    """Holds what is worked on, and carries each change of labels to project, worker and session.

    Parameters
    ----------
    viewer
        The napari viewer.
    make_worker, project_type
        The worker's and the project's types.
    """

    touched = Signal()
    """The session has changed; panels show it soon."""

    viewed = Signal()
    """Another slice is visible, or the layers lie elsewhere."""

    class_deleted = Signal(int)
    """A class was deleted, by its painted value, and with it its boxes, points and image-level labels."""

    closing = Signal()
    """The image in work is about to be closed."""

    opened = Signal()
    """An image was opened, or its layers were made anew."""

    sent = Signal()
    """The worker was told of the image."""

    def __init__(
        self,
        viewer: Viewer,
        make_worker: MakeWorker,
        project_type: type[Project],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.session = Session()
        self.desk = ProjectDesk(project_type)
        self.link = WorkerLink(make_worker, self)
        self.background = Background(self)
        self.background.failed.connect(self.tell)
        self.case: OpenedCase | None = None
        self._count_timer = self._timer(_COUNT_MS, self._find_slices)
        self._look_timer = self._timer(_LOOK_MS, self._send_look)
        self._view_timer = self._timer(_SAVE_VIEW_MS, self.save_view)

    # -- telling --

    def tell(self, sentence: str) -> None:
        """Tell the user what went wrong."""
        show_error(sentence)

    def inform(self, sentence: str) -> None:
        """Tell the user something that is no mistake."""
        show_info(sentence)

    def touch(self) -> None:
        """Let the panels show the session as it is now."""
        self.touched.emit()

    def require_case(self) -> OpenedCase:
        """Return the image in work; raise `InputError` where there is none."""
        if self.case is None:
            raise InputError("No image is open; choose one in the Annotate panel.")
        return self.case

    # -- the image in work --

    def open_case(self, source: ImageSource, shared: Shared) -> OpenedCase:
        """Work on an image from now on, with the labels that the project has of it."""
        self.close_case()
        self.desk.find(source)
        self.case = OpenedCase(self.viewer, source, shared, self.session.table, self.take_labels, self.tell)
        self.session.image = source.name
        self.session.is_flat, self.session.channels = source.shape[0] == 1, len(source.volume.data)
        self.show_labels()
        self.send_image()
        return self.case

    def close_case(self) -> None:
        """Stop working on the image; its layers go, its labels stay in the project."""
        for timer in (self._count_timer, self._look_timer):
            timer.stop()
        if self._view_timer.isActive():
            self._view_timer.stop()
            self.save_view()
        case = self.case
        if case is not None:
            self.closing.emit()
            case.watch.look()
            self.case = None
            case.close()
            show_upright(self.viewer, 0, in_patient=False)
        self.desk.leave_case()
        self.session.forget_image()

    def show_labels(self) -> None:
        """Put the project's labels of the image into its layers, and count them."""
        case, labels, sources = self.case, self.desk.labels, self.desk.sources
        if case is not None:
            case.layers.annotation.undo_elsewhere = self._undo_elsewhere
            case.layers.annotation.redo_elsewhere = self._redo_elsewhere
        if case is not None and labels is not None and sources is not None:
            case.show_labels(labels, sources)
            self._note_apart()
        self.describe()
        self._count_timer.start()

    def send_image(self, *, again: bool = False) -> None:
        """Tell the worker all it needs to work on the image; what is shown stays if it is told `again`."""
        case = self.case
        if case is None:
            return
        session = self.session
        if again:
            session.busy, session.resuming = False, True
        else:
            session.forget_picture()
            case.clear_picture()
        if session.worker_is_taken:  # when that has ended, the image is told of again
            return
        self.link.send(case.request(session.table, self.desk.state_folder))
        self.send_settings()
        if self.desk.image_labels():
            self.send_image_labels()
        labels, sources = self.desk.labels, self.desk.sources
        if labels is not None and sources is not None:
            for request in requests_for(labels, sources):
                self.link.send(request)
        self._send_look()
        self.link.send(Train(session.running))
        self.sent.emit()
        self.touch()

    def send(self, request: Request) -> None:
        """Ask the worker for something, if there is an image to work on."""
        if self.case is not None:
            self.link.send(request)

    def send_settings(self) -> None:
        """Tell the worker the settings."""
        session = self.session
        self.send(Configure(session.training, session.network, session.inference))
        if (start := self.desk.find_start(session)) or session.encoders.used:
            self.send(StartFrom(start))

    def send_image_labels(self) -> None:
        """Tell the worker what is said of the image, and of slices of it."""
        session = self.session
        labels = to_image_labels(self.desk.image_labels(), session.table)
        self.send(LabelImage(labels, session.classifier_config.outside))

    # -- labels --

    def take_labels(
        self, voxels: NDArray[np.int64], values: NDArray[np.uint8], how: str, source: str
    ) -> None:
        """Record what has changed in the annotation layer; when this returns it is on disk."""
        case = self.require_case()
        try:
            self._know_values(values)
            is_new = self.desk.ensure(case.source, self.session)
            change = self.desk.record(voxels, values, how, source)
        except InputError as error:
            labels = self.desk.labels
            case.watch.put(voxels, np.zeros_like(values) if labels is None else labels.reshape(-1)[voxels])
            self.tell(str(error))
            return
        if is_new:
            self.send(KeepState(self.desk.state_folder))
        if change is not None:
            self.announce(change)

    def add_labels(self, voxels: NDArray[np.int64], values: NDArray[np.uint8], source: str) -> bool:
        """Record labels that do not come from the annotation layer; return whether they change anything."""
        self._ensure_case()
        return self._add(voxels, values, source, undoable=True)

    def replace_labels(self, labels: NDArray[np.uint8], source: str, *, undoable: bool = True) -> bool:
        """Let the labels of a source be these ``(Z, Y, X)``; return whether that changes anything.

        Those that are not `undoable` are left alone when the user takes back strokes.
        """
        self._ensure_case()
        voxels = self.desk.differing(labels, source)
        return self._add(voxels, labels.reshape(-1)[voxels], source, undoable)

    def clear_labels(self, source: str) -> None:
        """Take all labels of a source out again."""
        voxels = self.desk.voxels_of(source)
        if len(voxels):
            self.add_labels(voxels, np.zeros(len(voxels), np.uint8), "stroke")

    def ensure_hints(self) -> tuple[ProjectHints, int]:
        """Return where hints are kept, and the case's number; make the project where there is none yet."""
        self._ensure_case()
        return self.desk.hints()

    def _ensure_case(self) -> None:
        if self.desk.ensure(self.require_case().source, self.session):
            self.send(KeepState(self.desk.state_folder))
            self.describe()

    def _add(self, voxels: NDArray[np.int64], values: NDArray[np.uint8], source: str, undoable: bool) -> bool:
        recorder = self.desk.recorder
        if recorder is None or not len(voxels):
            return False
        add = recorder.add_outside if undoable else recorder.add
        return self._show(add(voxels, values, source))

    def _undo_elsewhere(self) -> bool:
        recorder = self.desk.recorder
        return recorder is not None and self._show(recorder.undo_outside())

    def _redo_elsewhere(self) -> bool:
        recorder = self.desk.recorder
        return recorder is not None and self._show(recorder.redo_outside())

    def _show(self, change: LabelChange | None) -> bool:
        """Show a change that did not come from the annotation layer; return whether there was one."""
        if change is None or self.case is None:
            return False
        self.case.show_change(change)
        self.announce(change)
        return True

    def announce(self, change: LabelChange) -> None:
        """Tell worker and session of a change that the project has recorded."""
        case = self.case
        if case is None or change.case != self.desk.case:
            return
        for source, voxels, values in change.by_source():
            self.send(Paint(change.number, voxels, values, source))
        labels, sources = self.desk.labels, self.desk.sources
        apart = is_apart(change.sources).any() or is_apart(change.before_sources).any()
        # Taken back, labels made apart leave no source behind that would tell of them.
        if (apart or change.source in APART) and labels is not None and sources is not None:
            case.show_apart(labels, sources)
            self._note_apart()
            if change.undone and change.source == "box":
                self.session.boxes.kept = None
        self._labels_changed()

    def describe(self) -> None:
        """Take over what the project says: name, counts, classes."""
        before = self.session.table
        self.desk.describe(self.session)
        if self.session.table != before:
            self.show_classes()
        self.touch()

    def set_table(self, table: ClassTable) -> None:
        """Change the classes everywhere."""
        self.desk.save_table(table)
        self.session.table = table
        self.show_classes()
        self.touch()

    def show_classes(self) -> None:
        """Tell layers and worker the classes."""
        if self.case is not None:
            self.case.layers.show_classes(self.session.table, self.session.hidden)
            self.send(SetClasses(self.session.table))
            self.send_image_labels()  # they count the classes by their rows; those of a lost class are gone

    def _know_values(self, values: NDArray[np.uint8]) -> None:
        """Add a class for each value that was painted and is in no row, as napari lets one do."""
        table = self.session.table
        unknown = set(np.unique(values).tolist()) - {0, 1, *table.mask_values}
        if unknown:
            added = ClassTable.from_values([*table.mask_values[1:], *sorted(unknown)]).classes
            rows = [LabelClass(e.value, e.name, e.color) for e in added if e.value in unknown]
            self.set_table(ClassTable((*table.classes, *rows)))

    def _note_apart(self) -> None:
        self.session.apart = frozenset(source for source in APART if len(self.desk.voxels_of(source)))
        if not self.session.has_box_labels:
            self.session.boxes.kept = None

    def _labels_changed(self) -> None:
        self.describe()
        self._count_timer.start()

    def _find_slices(self) -> None:
        labels, apart = self.desk.labels, self.desk.apart()
        if labels is None or apart is None:
            self.session.labelled_slices = ((), (), ())
        else:
            own = np.where(apart, np.uint8(0), labels) if apart.any() else labels
            self.session.labelled_slices = labelled_slices(own)
        self.touch()

    # -- the view --

    def view_changed(self) -> None:
        """Take in what is visible; tell the worker, and the project, soon."""
        case, session = self.case, self.session
        if case is None:
            return
        case.view_changed()
        session.axis = case.axis
        if case.axis is not None:
            session.orientation = case.axis
            show_upright(self.viewer, case.axis, case.source.volume.grid.has_geometry)
        session.slice_index = case.index(session.orientation)
        session.slice_count = case.source.shape[session.orientation]
        self.viewed.emit()
        self._look_timer.start()
        self._view_timer.start()
        self.touch()

    def save_view_soon(self) -> None:
        """Keep the view in the project, a second after its last change."""
        if self.case is not None:
            self._view_timer.start()

    def save_view(self) -> None:
        """Keep position, zoom, class and tool in the project."""
        case, session, camera = self.case, self.session, find_camera(self.viewer)
        if case is None or self.desk.case is None:
            return
        view: dict[str, Any] = {
            "orientation": session.orientation,
            "slices": [case.index(axis) for axis in range(3)],
            "zoom": float(camera.zoom),
            "center": [float(place) for place in camera.center],
            "selected": session.selected,
            "tool": session.tool,
            "brush_size": session.brush_size,
        }
        try:
            self.desk.save_view(view)
        except InputError as error:
            self.tell(str(error))

    def close(self) -> None:
        """Let go of everything; nothing is left running."""
        self.close_case()
        self.link.close()
        self.background.close()
        self.desk.close()

    def _send_look(self) -> None:
        case = self.case
        if case is not None and case.axis is not None:
            self.send(Look(case.axis, case.index(case.axis)))

    def _timer(self, milliseconds: int, slot: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(slot)
        return timer


class _HasPlace(Protocol):
    place: Workplace


_Method = TypeVar("_Method", bound=Callable[..., None])


def tells(method: _Method) -> _Method:
    """Let a method of an action class tell the user of an `InputError`, and show what has changed."""

    @functools.wraps(method)
    def told(self: _HasPlace, *given: Any, **named: Any) -> None:
        try:
            method(self, *given, **named)
        except InputError as error:
            self.place.tell(str(error))
        self.place.touch()

    return cast(_Method, told)
