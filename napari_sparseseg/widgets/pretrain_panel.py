"""The Pre-train panel: an encoder learns from volumes without labels, and training can start from it."""

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_sparseseg.widgets.encoders_view import EncodersView
from napari_sparseseg.widgets.pretrain_learning_view import LearningView
from napari_sparseseg.widgets.pretrain_snapshots import PretrainState
from napari_sparseseg.widgets.pretrain_sources_view import SourcesView
from napari_sparseseg.widgets.pretrain_task_view import TaskView


class PretrainPanel(QWidget):
    """Shows `PretrainState`, and asks for volumes, for learning without labels, and for what was learnt."""

    image_requested = Signal(bool)
    """Whether to learn from the shown image."""
    project_requested = Signal(bool)
    """Whether to learn from the project's other images."""
    folder_requested = Signal(str)
    """Folder of volumes to learn from; empty for none."""
    settings_requested = Signal(object, object)
    """`PretrainingConfig` and `PretextConfig`."""
    train_requested = Signal()
    cancel_requested = Signal()
    """Stop what is running, whatever it is."""
    encoder_chosen = Signal(str)
    """Folder of an encoder."""
    use_requested = Signal(str)
    """Folder of the encoder that training starts from; empty for random weights."""
    delete_requested = Signal(str)
    """Folder of an encoder."""
    probe_requested = Signal()
    clear_pictures_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = PretrainState()
        self._told_by_probe = False
        self.sources, self.task = SourcesView(), TaskView()
        self.learning, self.encoders = LearningView(), EncodersView()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(6)
        for view in (self.sources, self.task, self.learning, self.encoders):
            layout.addWidget(view)
        layout.addStretch()
        self._connect()
        self._apply(self._state)

    def show_state(self, state: PretrainState) -> None:
        """Show another state; nothing is asked for by it."""
        before, self._state = self._state, state
        if state != before:
            self._apply(state)

    def _connect(self) -> None:
        sources, learning, encoders = self.sources, self.learning, self.encoders
        sources.image_requested.connect(self.image_requested)
        sources.project_requested.connect(self.project_requested)
        sources.folder_requested.connect(self.folder_requested)
        self.task.settings_requested.connect(self.settings_requested)
        learning.train_requested.connect(self.train_requested)
        learning.clear_pictures_requested.connect(self.clear_pictures_requested)
        encoders.encoder_chosen.connect(self.encoder_chosen)
        encoders.use_requested.connect(self.use_requested)
        encoders.delete_requested.connect(self.delete_requested)
        encoders.probe_requested.connect(self.probe_requested)
        for running in (learning, encoders):
            running.cancel_requested.connect(self.cancel_requested)

    def _apply(self, state: PretrainState) -> None:
        # There is one sentence for all work: it is shown where the work was begun.
        if state.running:
            self._told_by_probe = state.running == "probe"
        told, silent = (state.sentence, state.notes), ("", ())
        self.sources.show_state(state)
        self.task.show_state(state)
        self.learning.show_state(state, *(silent if self._told_by_probe else told))
        self.encoders.show_state(state, *(told if self._told_by_probe else silent))
