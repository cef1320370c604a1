"""One per viewer: brings together actions, worker and panels, and ends it all when the window goes."""

import atexit
from collections.abc import Callable
from typing import Any

from napari import Viewer
from napari.layers import Layer
from qtpy.QtCore import QEvent, QObject, QTimer, Signal
from qtpy.QtWidgets import QApplication, QWidget

from napari_sparseseg.annotation import BACKGROUND
from napari_sparseseg.errors import InputError
from napari_sparseseg.project import Project
from napari_sparseseg.widgets.activity import Activity
from napari_sparseseg.widgets.annotate_actions import AnnotateActions
from napari_sparseseg.widgets.batch_actions import BatchActions
from napari_sparseseg.widgets.batch_states import batch_state
from napari_sparseseg.widgets.box_actions import BoxActions
from napari_sparseseg.widgets.box_drawing import BoxDrawing
from napari_sparseseg.widgets.box_layer import BoxLayer
from napari_sparseseg.widgets.box_states import boxes_state
from napari_sparseseg.widgets.cam_actions import CamActions
from napari_sparseseg.widgets.cam_states import class_maps_state
from napari_sparseseg.widgets.canvas_context import CanvasContext
from napari_sparseseg.widgets.case_browsing import CaseBrowsing
from napari_sparseseg.widgets.cohort_actions import CohortActions
from napari_sparseseg.widgets.cohort_feed import CohortFeed
from napari_sparseseg.widgets.cohort_states import cases_state
from napari_sparseseg.widgets.image_actions import ImageActions
from napari_sparseseg.widgets.placement import find_camera
from napari_sparseseg.widgets.point_actions import PointActions
from napari_sparseseg.widgets.point_layer import PointLayer
from napari_sparseseg.widgets.predict_actions import PredictActions
from napari_sparseseg.widgets.pretrain_actions import PretrainActions
from napari_sparseseg.widgets.pretrain_states import pretrain_state
from napari_sparseseg.widgets.project_actions import ProjectActions
from napari_sparseseg.widgets.session import Session
from napari_sparseseg.widgets.shortcuts import bind_shortcuts, release_shortcuts
from napari_sparseseg.widgets.states import (
    annotate_state,
    dock_state,
    predict_state,
    train_state,
)
from napari_sparseseg.widgets.worker_link import MakeWorker
from napari_sparseseg.widgets.worker_watch import WorkerWatch
from napari_sparseseg.widgets.workplace import Workplace
from napari_sparseseg.worker_client import WorkerClient

_SHOW_MS = 100
_CLOCK_MS = 1000


class Coordinator(QObject):
    """Runs the loop of one viewer: panels ask, actions do, the session changes, panels show it.

    Parameters
    ----------
    viewer
        The napari viewer.
    make_worker
        Makes the worker of its two callbacks; a test gives one that answers at once.
    project_type
        The type of projects.

    Attributes
    ----------
    images, cases, cohort, annotate, predict, box_drawing, boxes, cam, points, pretrain, batch, projects
        What can be asked for.
    """

    cases_changed = Signal(object)
    """`CasesState`."""
    annotate_changed = Signal(object)
    """`AnnotateState`."""
    train_changed = Signal(object)
    """`TrainState`."""
    predict_changed = Signal(object)
    """`PredictState`."""
    boxes_changed = Signal(object)
    """`BoxesState`."""
    class_maps_changed = Signal(object)
    """`ClassMapsState`."""
    pretrain_changed = Signal(object)
    """`PretrainState`."""
    batch_changed = Signal(object)
    """`BatchState`."""
    dock_changed = Signal(object)
    """`DockState`."""

    def __init__(
        self, viewer: Viewer, *, make_worker: MakeWorker = WorkerClient, project_type: type[Project] = Project
    ) -> None:
        super().__init__()
        self._place = Workplace(viewer, make_worker, project_type, self)
        self._canvas = CanvasContext(viewer)
        self._activity = Activity()
        self._users: set[int] = set()
        self._closing: QObject | None = None
        self._shown: dict[str, Any] = {}
        self.closed = False
        self.images = ImageActions(self._place)
        self.annotate = AnnotateActions(self._place)
        self.predict = PredictActions(self._place)
        self.box_drawing = BoxDrawing(self._place, self._bind_to_boxes)
        self.boxes = BoxActions(self._place)
        self.cam = CamActions(self._place)
        self.points = PointActions(self._place, self._bind_to_points)
        self.pretrain = PretrainActions(self._place)
        self.batch = BatchActions(self._place)
        self.projects = ProjectActions(self._place, self.images, self.annotate)
        self.cases = CaseBrowsing(self._place, self.images)
        self.cohort = CohortActions(self._place, self.cases)
        self._feed = CohortFeed(self._place)
        self._watch = WorkerWatch(
            self._place, (self.boxes, self.cam, self.pretrain, self.cohort, self.batch), self.predict
        )
        self._show_timer = self._make_timer(_SHOW_MS, self.show_now, once=True)
        self._clock = self._make_timer(_CLOCK_MS, self._tick)
        self._actions = self._shortcut_actions()
        self._connect()
        self._start()

    @property
    def viewer(self) -> Viewer:
        """The napari viewer."""
        return self._place.viewer

    @property
    def session(self) -> Session:
        """What is shown; read only."""
        return self._place.session

    # -- widgets that use it --

    def attach(self, widget: QWidget) -> None:
        """Serve a widget; when the last one has gone, or its window, everything is closed."""
        user = id(widget)
        self._users.add(user)
        widget.destroyed.connect(lambda: self._forget(user))

    def detach(self, widget: QWidget) -> None:
        """Serve a widget no longer, because it was taken out of its window."""
        self._forget(id(widget))

    def watch_window(self, window: QWidget) -> None:
        """Close everything when this window is closed."""
        self._canvas.window = window
        window.removeEventFilter(self)
        window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: D102 - Qt's name
        if event.type() == QEvent.Type.Close and not self.closed:
            # Not at once: napari may ask whether to close, and the answer may be no.
            self._closing = watched
            QTimer.singleShot(0, self._close_with_window)
        return False

    def show_now(self) -> None:
        """Give the panels what has changed."""
        session = self.session
        for name, make, signal in (
            ("cases", cases_state, self.cases_changed),
            ("annotate", annotate_state, self.annotate_changed),
            ("train", train_state, self.train_changed),
            ("predict", predict_state, self.predict_changed),
            ("boxes", boxes_state, self.boxes_changed),
            ("class maps", class_maps_state, self.class_maps_changed),
            ("pretrain", pretrain_state, self.pretrain_changed),
            ("batch", batch_state, self.batch_changed),
            ("dock", dock_state, self.dock_changed),
        ):
            state: Any = make(session)
            if self._shown.get(name) != state:
                self._shown[name] = state
                signal.emit(state)
        self._activity.follow(session)

    def show_all(self) -> None:
        """Give the panels everything, because one has just come."""
        self._shown.clear()
        self.show_now()

    def close(self) -> None:
        """Keep what must last, end the worker, take the layers out; closing twice does nothing."""
        if self.closed:
            return
        self.closed = True
        atexit.unregister(self.close)
        for timer in (self._show_timer, self._clock):
            timer.stop()
        self._activity.close()
        release_shortcuts(self.viewer)
        self._disconnect()
        self.box_drawing.close()
        self.boxes.close()
        self.points.close()
        self.cases.close()
        self.images.keep_project_in_mind()
        self.images.close()
        self._place.close()
        self.cam.close()
        self._canvas.close()

    # -- inside --

    def _start(self) -> None:
        try:
            self._place.link.start()
        except InputError as error:
            self._place.tell(str(error))
            self.session.worker = "gone"
        atexit.register(self.close)
        bind_shortcuts(self.viewer, self._actions)
        QTimer.singleShot(0, self._look_around)
        self._clock.start()

    def _look_around(self) -> None:
        if not self.closed:
            self.projects.look_for_unfinished()
            self.images.choose_only_one()

    def _connect(self) -> None:
        place, dims, camera = self._place, self.viewer.dims.events, find_camera(self.viewer).events
        place.touched.connect(self._show_soon)
        self._watch.heard.connect(self._show_soon)
        place.viewed.connect(self.box_drawing.follow_view)
        place.closing.connect(self.box_drawing.image_closing)
        place.class_deleted.connect(self.box_drawing.class_deleted)
        self.cam.settings_changed.connect(self.points.follow_settings)
        place.opened.connect(self._on_opened)
        place.background.busy_changed.connect(self._on_files)
        for emitter in (dims.point, dims.order, dims.ndisplay):
            emitter.connect(place.view_changed)
        for emitter in (camera.zoom, camera.center):
            emitter.connect(place.save_view_soon)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.close)

    def _disconnect(self) -> None:
        place, dims, camera = self._place, self.viewer.dims.events, find_camera(self.viewer).events
        for emitter in (dims.point, dims.order, dims.ndisplay):
            emitter.disconnect(place.view_changed)
        for emitter in (camera.zoom, camera.center):
            emitter.disconnect(place.save_view_soon)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.disconnect(self.close)

    def _shortcut_actions(self) -> dict[str, Any]:
        annotate, predict = self.annotate, self.predict
        actions: dict[str, Any] = {
            "next_orientation": annotate.next_orientation,
            "accept_slice": annotate.accept_slice,
            "interpolate": annotate.interpolate,
            "go_to_most_uncertain": predict.go_to_most_uncertain,
            "suggest_slice": predict.suggest_slice,
            "toggle_prediction": predict.toggle_prediction,
            "toggle_training": self._toggle_training,
            "draw_polygon": lambda: annotate.use_tool("polygon"),
            "draw_box": lambda: self.box_drawing.draw(True),
            "mark_points": lambda: self.points.mark(True),
            "next_case": self.cases.open_next,
            "previous_case": self.cases.open_previous,
            "map_under_mouse": self.cam.map_under_mouse,
        }
        for value in range(1, 10):
            actions[f"select_{value}"] = lambda value=value: self._select(value)
        return actions

    def _select(self, value: int) -> None:
        drawing = self.session.boxes.drawing
        if drawing and value == BACKGROUND:
            self._place.inform("A box is drawn round an object, not round background.")
            return
        if self._place.case is not None and not drawing and not self.session.cam.marking:
            self.viewer.layers.selection.active = self._place.case.layers.annotation
        self.annotate.select(value)

    def _toggle_training(self) -> None:
        why = train_state(self.session).why_not_start
        if why:
            self._place.tell(why)
        else:
            self.predict.train(not self.session.running)

    def _on_opened(self) -> None:
        case = self._place.case
        if case is None:
            return
        layer = case.layers.annotation
        for other in (case.layers.prediction, case.layers.uncertainty, self.images.layer):
            if other is not None:  # a click on its name must not make the keys mean something else
                bind_shortcuts(other, self._actions)
        bind_shortcuts(layer, self._actions)
        layer.brush_size = self.session.brush_size
        layer.selected_label = self.session.selected
        for emitter in (layer.events.mode, layer.events.brush_size, layer.events.selected_label):
            emitter.connect(self.annotate.follow_layer)
        self.predict.show_choices()
        self.annotate.use_tool("paint")
        self.box_drawing.image_opened()
        self.boxes.follow_layers()
        self.cam.image_opened()
        self.points.image_opened()
        self.pretrain.image_opened()
        self.projects.show_view()
        self.annotate.follow_layer()

    def _bind_to_boxes(self, layer: BoxLayer) -> None:
        self._bind_beside_labels(layer.layer, self.box_drawing.undo)

    def _bind_to_points(self, layer: PointLayer) -> None:
        self._bind_beside_labels(layer.layer, self.points.undo)

    def _bind_beside_labels(self, layer: Layer, undo: Callable[[], None]) -> None:
        """Let the keys mean the same in a layer of boxes or points as in that of the labels."""
        bind_shortcuts(layer, self._actions)
        for key, tool in (("P", "paint"), ("E", "erase"), ("F", "fill")):  # napari's own draw other things
            layer.bind_key(key, lambda _, tool=tool: self.annotate.use_tool(tool), overwrite=True)
        layer.bind_key("Control-Z", lambda _: undo(), overwrite=True)

    def _on_files(self, words: str) -> None:
        self.session.doing = words
        self._show_soon()

    def _show_soon(self) -> None:
        if not self.closed and not self._show_timer.isActive():
            self._show_timer.start()

    def _tick(self) -> None:
        if self.session.running:
            self._show_soon()

    def _forget(self, user: int) -> None:
        self._users.discard(user)
        if not self._users:
            self.close()

    def _close_with_window(self) -> None:
        window, self._closing = self._closing, None
        if not self.closed and isinstance(window, QWidget) and not window.isVisible():
            self.close()

    def _make_timer(self, milliseconds: int, slot: Any, once: bool = False) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(once)
        timer.setInterval(milliseconds)
        timer.timeout.connect(slot)
        return timer
