"""The part of the Pre-train panel about learning: start and stop, how it goes, and how good it is."""

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_sparseseg.widgets.panel_parts import RunButton, allow, make_button, make_row
from napari_sparseseg.widgets.pretrain_plot import FeaturePlot, TaskPlot
from napari_sparseseg.widgets.pretrain_snapshots import PretrainState
from napari_sparseseg.widgets.pretrain_words import WITHIN, describe_features, describe_figure
from napari_sparseseg.widgets.steady_text import SteadyText
from napari_sparseseg.widgets.work_view import WorkView

_LEARN = "Let the network learn from the volumes; no labels are used, and you can go on working"
_STOP = "Stop learning; it can go on later, and what is learnt can be used when it has come to the end"
_CLEAR = "Remove the pictures of the task from the viewer"
_PICTURED = "Beside the image: input, target (what is right), prediction (what the network says)."
_NOT_PICTURED = "Pictures of the task come beside the image while it learns."
_SPREAD = (
    "How far apart the features of different pieces lie, from 0 (all the same: useless) to 1. If they have "
    "collapsed, another task, a lower learning rate or more volumes may help"
)
_WARNING = "background: rgba(219, 109, 40, 90);"


class LearningView(QWidget):
    """Shows how learning in a `PretrainState` goes, and asks for it."""

    train_requested = Signal()
    cancel_requested = Signal()
    clear_pictures_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._running = ""
        self.run = RunButton("Learn without labels, or stop it")
        self.run.clicked.connect(self._ask_to_run)
        self.work = WorkView()
        self.task_plot, self.feature_plot = TaskPlot(), FeaturePlot()
        self.figure = SteadyText("How well the task is solved", lines=3)
        self.features = SteadyText("How good the features are")
        self.features.setToolTip(_SPREAD)
        self.pictures = SteadyText("Where pictures of the task are", lines=3)
        self.clear_pictures = make_button("Remove", self.clear_pictures_requested)
        row = make_row(self.pictures, self.clear_pictures)
        row.setStretch(0, 1)
        row.setAlignment(self.clear_pictures, Qt.AlignmentFlag.AlignTop)
        self.course = QWidget()
        course = QVBoxLayout(self.course)
        layout = QVBoxLayout(self)
        for column in (course, layout):
            column.setContentsMargins(0, 0, 0, 0)
            column.setSpacing(6)
        for part in (self.task_plot, self.figure, self.feature_plot, self.features):
            course.addWidget(part)
        course.addLayout(row)
        for part in (self.run, self.work, self.course):
            layout.addWidget(part)

    def show_state(self, state: PretrainState, sentence: str, notes: tuple[str, ...]) -> None:
        """Show another state; nothing is asked for by it.

        Parameters
        ----------
        state
            The state.
        sentence, notes
            Those of the state if they are about learning, else empty.
        """
        self._running = state.running
        learning = state.running == "pretrain"
        self.run.setChecked(learning)
        self.run.setText("Stop" if learning else "Learn without labels")
        allow(self.run, "" if learning else state.why_no_train, _STOP if learning else _LEARN)
        if state.why_no_train and not state.running:
            sentence = state.why_no_train
        self.work.show_work(learning, state.progress if learning else None, sentence, notes)
        self.task_plot.show_curves(state.losses, state.figures, state.figure, state.trivial)
        self.feature_plot.show_curves(state.alignments, state.uniformities)
        self._show_words(state)
        allow(self.clear_pictures, state.why_no_clear_pictures, _CLEAR)
        self.pictures.show_text(_PICTURED if state.pictured else _NOT_PICTURED)
        # All of it comes when learning begins, so that nothing moves while it goes on.
        begun = state.losses or state.figures or state.alignments or state.uniformities
        self.course.setVisible(bool(learning or begun or state.pictured))

    def _show_words(self, state: PretrainState) -> None:
        if state.figures:
            text = describe_figure(state.figure, state.figures[-1][1], state.trivial)
            self.figure.show_text(f"{text} {WITHIN}" if state.within_volume else text)
        else:
            self.figure.show_text("How well it solves the task is not measured yet.")
        self.features.show_text(describe_features(state.spread, state.collapsed))
        style = _WARNING if state.collapsed else ""
        self.features.setStyleSheet(f"QLabel {{ {style} padding: 4px; border-radius: 3px; }}")

    def _ask_to_run(self) -> None:
        (self.cancel_requested if self._running == "pretrain" else self.train_requested).emit()
