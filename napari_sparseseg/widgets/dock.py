"""The docks that napari opens: all panels together, and each on its own; one coordinator behind them."""

from collections.abc import Callable
from typing import Any

from napari import Viewer
from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from napari_sparseseg.widgets.annotate_panel import AnnotatePanel
from napari_sparseseg.widgets.batch_panel import BatchPanel
from napari_sparseseg.widgets.boxes_panel import BoxesPanel
from napari_sparseseg.widgets.cases_panel import CasesPanel
from napari_sparseseg.widgets.class_maps_panel import ClassMapsPanel
from napari_sparseseg.widgets.coordinator import Coordinator
from napari_sparseseg.widgets.header import Header
from napari_sparseseg.widgets.panel_switcher import PanelSwitcher
from napari_sparseseg.widgets.predict_panel import PredictPanel
from napari_sparseseg.widgets.pretrain_panel import PretrainPanel
from napari_sparseseg.widgets.train_panel import TrainPanel

_WIDTH = 320
_FIRST_SHOWN = "Annotate"


class PanelDock(QWidget):
    """A dock whose panels are served by the coordinator of its viewer.

    Parameters
    ----------
    viewer
        The napari viewer that it is opened in.
    make_coordinator
        Makes the coordinator where the viewer has none yet.
    """

    def __init__(
        self, viewer: Viewer, make_coordinator: Callable[[Viewer], Coordinator] = Coordinator
    ) -> None:
        self._docked = False
        super().__init__()
        self.coordinator = find_coordinator(viewer) or make_coordinator(viewer)
        self.coordinator.attach(self)
        self.setMinimumWidth(_WIDTH)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._make_content())
        self.coordinator.show_all()

    def showEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        super().showEvent(event)
        self.coordinator.watch_window(self.window())

    def sizeHint(self) -> QSize:  # noqa: D102 - Qt's name
        return QSize(_WIDTH + 20, super().sizeHint().height())

    def event(self, event: QEvent) -> bool:  # noqa: D102 - Qt's name
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:  # napari takes a closed dock's content out, and keeps nothing of it
                self.coordinator.detach(self)
                self.deleteLater()
        return bool(super().event(event))

    def _make_content(self) -> QWidget:
        raise NotImplementedError


class CasesDock(PanelDock):
    """The Cases panel alone."""

    def _make_content(self) -> QWidget:
        return _scrolled(make_cases_panel(self.coordinator))


class AnnotateDock(PanelDock):
    """The Annotate panel alone."""

    def _make_content(self) -> QWidget:
        return _scrolled(make_annotate_panel(self.coordinator))


class TrainDock(PanelDock):
    """The Train panel alone."""

    def _make_content(self) -> QWidget:
        return _scrolled(make_train_panel(self.coordinator))


class PredictDock(PanelDock):
    """The Predict panel alone."""

    def _make_content(self) -> QWidget:
        return _scrolled(make_predict_panel(self.coordinator))


class BoxesDock(PanelDock):
    """The Boxes panel alone."""

    def _make_content(self) -> QWidget:
        return _scrolled(make_boxes_panel(self.coordinator))


class ClassMapsDock(PanelDock):
    """The Class maps panel alone."""

    def _make_content(self) -> QWidget:
        return _scrolled(make_class_maps_panel(self.coordinator))


class PretrainDock(PanelDock):
    """The Pre-train panel alone."""

    def _make_content(self) -> QWidget:
        return _scrolled(make_pretrain_panel(self.coordinator))


class BatchDock(PanelDock):
    """The Batch panel alone."""

    def _make_content(self) -> QWidget:
        return _scrolled(make_batch_panel(self.coordinator))


class SparseSegmentationDock(PanelDock):
    """Everything: project, and all panels, one of them in front."""

    def _make_content(self) -> QWidget:
        coordinator = self.coordinator
        self.panels = PanelSwitcher()
        for name, make in _PANELS:
            self.panels.add(name, _scrolled(make(coordinator)))
        self.panels.show_panel(_FIRST_SHOWN)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(make_header(coordinator))
        layout.addWidget(self.panels, 1)
        return content

    def show_panel(self, name: str) -> None:
        """Show the panel of this name in front."""
        self.panels.show_panel(name)


def find_coordinator(viewer: Viewer) -> Coordinator | None:
    """Return the coordinator that serves the docks of a viewer, if one is open."""
    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, PanelDock) and not widget.coordinator.closed:
            return widget.coordinator
    return None


def make_header(coordinator: Coordinator) -> Header:
    """Make a header and connect it."""
    projects = coordinator.projects
    header = Header(projects.recent)
    header.restore_requested.connect(projects.restore_offered)
    header.dismiss_requested.connect(projects.dismiss_offered)
    header.begin_requested.connect(projects.begin)
    header.open_requested.connect(projects.open)
    coordinator.dock_changed.connect(header.show_state)
    return header


def make_cases_panel(coordinator: Coordinator) -> CasesPanel:
    """Make a Cases panel and connect it."""
    panel, cases, cohort = CasesPanel(), coordinator.cases, coordinator.cohort
    panel.add_requested.connect(cases.add)
    panel.remove_requested.connect(cases.remove)
    panel.done_requested.connect(cases.mark_done)
    panel.filter_requested.connect(cases.show_only)
    panel.search_requested.connect(cases.search)
    panel.open_requested.connect(cases.open)
    panel.next_requested.connect(cases.open_next)
    panel.previous_requested.connect(cases.open_previous)
    panel.advised_requested.connect(cases.open_advised)
    panel.pictures_wanted.connect(cases.want_pictures)
    panel.train_requested.connect(cohort.train)
    panel.advice_requested.connect(cohort.ask_which_next)
    panel.cancel_requested.connect(cohort.cancel)
    panel.minutes_requested.connect(cohort.set_minutes)
    _show_at_once(
        coordinator, panel.add_requested, panel.remove_requested, panel.done_requested,
        panel.filter_requested, panel.search_requested, panel.open_requested, panel.train_requested,
        panel.advice_requested, panel.cancel_requested, panel.minutes_requested,
    )  # fmt: skip
    coordinator.cases_changed.connect(panel.show_state)
    return panel


def make_annotate_panel(coordinator: Coordinator) -> AnnotatePanel:
    """Make an Annotate panel and connect it."""
    panel, annotate = AnnotatePanel(), coordinator.annotate
    panel.image_requested.connect(coordinator.images.choose)
    panel.class_add_requested.connect(annotate.add_class)
    panel.class_rename_requested.connect(annotate.rename_class)
    panel.class_recolor_requested.connect(annotate.recolor_class)
    panel.class_delete_requested.connect(annotate.delete_class)
    panel.class_select_requested.connect(annotate.select)
    panel.tool_requested.connect(annotate.use_tool)
    panel.brush_size_requested.connect(annotate.set_brush_size)
    panel.orientation_requested.connect(annotate.turn)
    panel.slice_requested.connect(annotate.go_to_slice)
    panel.accept_slice_requested.connect(annotate.accept_slice)
    panel.interpolate_requested.connect(annotate.interpolate)
    panel.clear_interpolated_requested.connect(annotate.clear_interpolated)
    coordinator.annotate_changed.connect(panel.show_state)
    return panel


def make_boxes_panel(coordinator: Coordinator) -> BoxesPanel:
    """Make a Boxes panel and connect it."""
    panel, drawing, boxes = BoxesPanel(), coordinator.box_drawing, coordinator.boxes
    panel.class_select_requested.connect(coordinator.annotate.select)
    panel.draw_requested.connect(drawing.draw)
    panel.box_chosen.connect(drawing.choose)
    panel.box_class_requested.connect(drawing.set_class)
    panel.box_range_requested.connect(drawing.set_range)
    panel.box_delete_requested.connect(drawing.delete)
    panel.import_requested.connect(drawing.load)
    panel.export_requested.connect(drawing.save)
    panel.settings_requested.connect(boxes.change_settings)
    panel.run_requested.connect(boxes.run)
    panel.cancel_requested.connect(boxes.cancel)
    _show_at_once(coordinator, panel.run_requested, panel.cancel_requested)
    panel.round_shown_requested.connect(boxes.show_round)
    panel.keep_requested.connect(boxes.keep)
    panel.clear_kept_requested.connect(boxes.clear_kept)
    panel.truth_requested.connect(boxes.compare_with)
    coordinator.boxes_changed.connect(panel.show_state)
    return panel


def make_class_maps_panel(coordinator: Coordinator) -> ClassMapsPanel:
    """Make a Class maps panel and connect it."""
    panel, cam, points = ClassMapsPanel(), coordinator.cam, coordinator.points
    panel.class_select_requested.connect(coordinator.annotate.select)
    panel.volume_label_requested.connect(cam.add_volume_label)
    panel.begin_requested.connect(cam.begin_range)
    panel.end_requested.connect(cam.end_range)
    panel.label_delete_requested.connect(cam.delete_label)
    panel.slice_requested.connect(coordinator.annotate.go_to_slice)
    panel.import_requested.connect(cam.load_labels)
    panel.export_requested.connect(cam.save_labels)
    panel.settings_requested.connect(cam.change_settings)
    panel.train_requested.connect(cam.train)
    panel.cancel_requested.connect(cam.cancel)
    panel.subject_requested.connect(cam.choose_subject)
    panel.map_requested.connect(cam.make_map)
    panel.map_here_requested.connect(cam.map_here)
    panel.check_requested.connect(cam.check)
    panel.seeds_requested.connect(cam.make_seeds)
    panel.clear_seeds_requested.connect(cam.clear_seeds)
    panel.mark_requested.connect(points.mark)
    panel.clear_points_requested.connect(points.clear)
    _show_at_once(
        coordinator, panel.train_requested, panel.cancel_requested, panel.map_requested,
        panel.map_here_requested, panel.check_requested,
    )  # fmt: skip
    coordinator.class_maps_changed.connect(panel.show_state)
    return panel


def make_pretrain_panel(coordinator: Coordinator) -> PretrainPanel:
    """Make a Pre-train panel and connect it."""
    panel, pretrain = PretrainPanel(), coordinator.pretrain
    panel.image_requested.connect(pretrain.use_image)
    panel.project_requested.connect(pretrain.use_project)
    panel.folder_requested.connect(pretrain.choose_folder)
    panel.settings_requested.connect(pretrain.change_settings)
    panel.train_requested.connect(pretrain.train)
    panel.cancel_requested.connect(pretrain.cancel)
    panel.encoder_chosen.connect(pretrain.choose_encoder)
    panel.use_requested.connect(pretrain.use_encoder)
    panel.delete_requested.connect(pretrain.delete_encoder)
    panel.probe_requested.connect(pretrain.probe)
    panel.clear_pictures_requested.connect(pretrain.clear_pictures)
    _show_at_once(
        coordinator, panel.train_requested, panel.cancel_requested, panel.probe_requested,
        panel.use_requested, panel.image_requested, panel.project_requested,
    )  # fmt: skip
    coordinator.pretrain_changed.connect(panel.show_state)
    return panel


def make_train_panel(coordinator: Coordinator) -> TrainPanel:
    """Make a Train panel and connect it."""
    panel, predict, pretrain = TrainPanel(), coordinator.predict, coordinator.pretrain
    panel.train_requested.connect(predict.train)
    panel.restart_requested.connect(predict.restart)
    panel.settings_requested.connect(predict.change_settings)
    panel.encoder_dropped.connect(lambda: pretrain.use_encoder(""))
    coordinator.train_changed.connect(panel.show_state)
    return panel


def make_predict_panel(coordinator: Coordinator) -> PredictPanel:
    """Make a Predict panel and connect it."""
    panel, predict = PredictPanel(), coordinator.predict
    panel.opacity_requested.connect(predict.set_opacity)
    panel.class_visible_requested.connect(predict.set_class_visible)
    panel.uncertainty_requested.connect(predict.set_uncertainty_visible)
    panel.most_uncertain_requested.connect(predict.go_to_most_uncertain)
    panel.suggest_requested.connect(predict.suggest_slice)
    panel.inference_requested.connect(predict.change_inference)
    panel.save_mask_requested.connect(predict.save_mask)
    panel.save_uncertainty_requested.connect(predict.save_uncertainty)
    panel.export_model_requested.connect(predict.export_model)
    coordinator.predict_changed.connect(panel.show_state)
    return panel


def make_batch_panel(coordinator: Coordinator) -> BatchPanel:
    """Make a Batch panel and connect it."""
    panel, batch = BatchPanel(), coordinator.batch
    panel.sources_requested.connect(batch.choose_sources)
    panel.network_requested.connect(batch.choose_network)
    panel.network_folder_requested.connect(batch.choose_network_folder)
    panel.out_requested.connect(batch.choose_out)
    panel.settings_requested.connect(batch.change_settings)
    panel.run_requested.connect(batch.run)
    panel.cancel_requested.connect(batch.cancel)
    panel.result_requested.connect(batch.show_result)
    panel.looked_at.connect(batch.look_around)
    _show_at_once(
        coordinator, panel.run_requested, panel.cancel_requested, panel.network_requested,
        panel.network_folder_requested, panel.sources_requested, panel.out_requested,
    )  # fmt: skip
    coordinator.batch_changed.connect(panel.show_state)
    return panel


_PANELS: tuple[tuple[str, Callable[[Coordinator], QWidget]], ...] = (
    ("Cases", make_cases_panel),
    ("Annotate", make_annotate_panel),
    ("Boxes", make_boxes_panel),
    ("Class maps", make_class_maps_panel),
    ("Pre-train", make_pretrain_panel),
    ("Train", make_train_panel),
    ("Predict", make_predict_panel),
    ("Batch", make_batch_panel),
)
"""In the order in which they are worked with."""


def _show_at_once(coordinator: Coordinator, *requests: Any) -> None:
    """Show what became of these requests at once, so that their buttons mean what they say."""
    for asked in requests:
        asked.connect(coordinator.show_now)


def _scrolled(panel: QWidget) -> QScrollArea:
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(panel)
    return area
