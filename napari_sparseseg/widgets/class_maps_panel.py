"""The Class maps panel: what is where, a classifier that learns it, where it looked, and labels from that."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_sparseseg.widgets.classifier_view import ClassifierView
from napari_sparseseg.widgets.map_view import MapView
from napari_sparseseg.widgets.presence_view import PresenceView
from napari_sparseseg.widgets.seeds_view import SeedsView
from napari_sparseseg.widgets.snapshots import ClassMapsState


class ClassMapsPanel(QWidget):
    """Shows `ClassMapsState`, and asks for labels of slices, for learning, for maps and for their labels."""

    class_select_requested = Signal(int)
    """Painted value of the class that is meant."""
    volume_label_requested = Signal(bool)
    """Whether the class is in the volume."""
    begin_requested = Signal()
    end_requested = Signal()
    label_delete_requested = Signal(int)
    """Number of an `ImageLabelRow`."""
    slice_requested = Signal(int, int)
    """Axis and index."""
    import_requested = Signal(str)
    """File to read."""
    export_requested = Signal(str)
    """File to write."""
    settings_requested = Signal(object, object, object, object)
    """`ClassifierConfig`, `CamConfig`, `SeedConfig` and `CrfConfig`."""
    train_requested = Signal()
    cancel_requested = Signal()
    """Stop what is running, whatever it is."""
    subject_requested = Signal(str)
    """Entry of `ClassMapsState.subjects`."""
    map_requested = Signal()
    map_here_requested = Signal()
    check_requested = Signal()
    seeds_requested = Signal()
    clear_seeds_requested = Signal()
    mark_requested = Signal(bool)
    """Whether clicks are to set points."""
    clear_points_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = ClassMapsState()
        self._told_by_map: bool | None = None  # not known before any work was seen
        self.presence = PresenceView()
        self.classifier = ClassifierView()
        self.map = MapView()
        self.seeds = SeedsView()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(6)
        for view in (self.presence, self.classifier, self.map, self.seeds):
            layout.addWidget(view)
        layout.addStretch()
        self._connect()
        self._apply(self._state)

    def show_state(self, state: ClassMapsState) -> None:
        """Show another state; nothing is asked for by it."""
        before, self._state = self._state, state
        if state != before:
            self._apply(state)

    def _connect(self) -> None:
        presence, classifier, made, seeds = self.presence, self.classifier, self.map, self.seeds
        presence.class_select_requested.connect(self.class_select_requested)
        presence.volume_label_requested.connect(self.volume_label_requested)
        presence.begin_requested.connect(self.begin_requested)
        presence.end_requested.connect(self.end_requested)
        presence.label_delete_requested.connect(self.label_delete_requested)
        presence.slice_requested.connect(self.slice_requested)
        presence.import_requested.connect(self.import_requested)
        presence.export_requested.connect(self.export_requested)
        classifier.train_requested.connect(self.train_requested)
        made.subject_requested.connect(self.subject_requested)
        made.map_requested.connect(self.map_requested)
        made.map_here_requested.connect(self.map_here_requested)
        made.check_requested.connect(self.check_requested)
        seeds.seeds_requested.connect(self.seeds_requested)
        seeds.clear_seeds_requested.connect(self.clear_seeds_requested)
        seeds.mark_requested.connect(self.mark_requested)
        seeds.clear_points_requested.connect(self.clear_points_requested)
        for running in (classifier, made):
            running.cancel_requested.connect(self.cancel_requested)
        for editing in (classifier, made, seeds):
            editing.config_requested.connect(lambda *_: self._ask_for_settings())

    def _apply(self, state: ClassMapsState) -> None:
        # There is one sentence for all work: it is shown where the work was begun.
        if state.running or state.asking:
            self._told_by_map = state.running != "classifier"
        by_map = state.mapped is not None if self._told_by_map is None else self._told_by_map
        told, silent = (state.sentence, state.notes), ("", ())
        self.presence.show_state(state)
        self.classifier.show_state(state, *(silent if by_map else told))
        self.map.show_state(state, *(told if by_map else silent))
        self.seeds.show_state(state)

    def _ask_for_settings(self) -> None:
        cam, crf = self.map.config
        self.settings_requested.emit(self.classifier.config, cam, self.seeds.config, crf)
