"""The Train panel: start and pause, what goes on in words and in a plot, and the settings of training."""

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_sparseseg.widgets.inline_question import InlineQuestion
from napari_sparseseg.widgets.panel_parts import allow, make_arrow, make_row, make_text
from napari_sparseseg.widgets.progress_plot import ProgressPlot
from napari_sparseseg.widgets.snapshots import TrainState
from napari_sparseseg.widgets.steady_text import SteadyText
from napari_sparseseg.widgets.train_settings import TrainSettings

_START_STYLE = """
QPushButton { font-size: 13pt; font-weight: 600; padding: 8px; }
QPushButton:enabled:!checked { background-color: #2a6fc0; color: white; }
QPushButton:enabled:!checked:hover { background-color: #3a80d2; }
QPushButton:enabled:checked { background-color: #5c6570; color: white; }
QPushButton:enabled:checked:hover { background-color: #6d7783; }
"""


class TrainPanel(QWidget):
    """Shows `TrainState`, and asks for learning."""

    train_requested = Signal(bool)
    """True to start learning, False to pause."""
    restart_requested = Signal()
    settings_requested = Signal(object, object)
    """`TrainingConfig` and `NetworkConfig`."""
    encoder_dropped = Signal()
    """Start from random weights, and no longer from a pre-trained encoder."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = TrainState()
        self._make_widgets()
        self._lay_out()
        self._connect()
        self._apply(self._state)

    def show_state(self, state: TrainState) -> None:
        """Show another state."""
        if state != self._state:
            self._state = state
            self._apply(state)

    def _make_widgets(self) -> None:
        self.start = QPushButton()
        self.start.setCheckable(True)
        self.start.setStyleSheet(_START_STYLE)
        self.start.setAccessibleName("Start or pause learning")
        self.busy = QLabel("●")
        self.busy.setStyleSheet("color: #3f9b56;")
        self.busy.setToolTip("Something is being computed at this moment")
        self.busy.setAccessibleName("Computing")
        policy = self.busy.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.busy.setSizePolicy(policy)
        self.sentence = SteadyText("What goes on")
        self.plot = ProgressPlot()
        self.shown = SteadyText("Which model is shown")
        self.shown.setToolTip(
            "The preview is a quick classifier that answers your strokes at once; the network learns longer "
            "and becomes better. Whichever agrees best with labels held back from it is shown."
        )
        self.origin = make_text()
        self.origin.setTextFormat(Qt.TextFormat.PlainText)
        self.origin.setToolTip(
            "What it knows before it sees these labels; see the Pre-train and the Cases panel"
        )
        self.drop = make_arrow("×", "Start from random weights")
        self.drop.setToolTip("Start from random weights; the encoder stays in the Pre-train panel")
        self.settings = TrainSettings(self._state.training, self._state.network)
        self.anew = QPushButton("Learn anew…")
        self.anew_question = InlineQuestion(
            "Forget what the network has learnt, and learn again from your labels? "
            "The labels stay as they are.",
            "Learn anew",
            "Keep it",
        )
        for button in (self.start, self.anew):  # after a click the keys still reach the picture
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addWidget(self.sentence, 1)
        row.addWidget(self.busy, 0, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(8)
        layout.addWidget(self.start)
        layout.addLayout(row)
        beginning = make_row(self.origin, self.drop)
        beginning.setStretch(0, 1)
        layout.addLayout(beginning)
        for widget in (self.plot, self.shown, self.settings, self.anew, self.anew_question):
            layout.addWidget(widget)
        layout.addStretch()

    def _connect(self) -> None:
        self.start.clicked.connect(self._ask_to_train)
        self.settings.settings_requested.connect(self.settings_requested)
        self.drop.clicked.connect(lambda: self.encoder_dropped.emit())
        self.anew.clicked.connect(self.anew_question.ask)
        self.anew_question.accepted.connect(self.restart_requested)

    def _apply(self, state: TrainState) -> None:
        why = "" if state.running else state.why_not_start
        self.start.setChecked(state.running)
        self.start.setText("Pause learning" if state.running else "Start learning")
        allow(self.start, why, _explain_start(state.running))
        sentence = state.sentence[:1].upper() + state.sentence[1:]
        self.sentence.show_text("\n".join(dict.fromkeys(filter(None, (sentence, why)))))
        self.busy.setVisible(state.busy)
        self.origin.setText(f"Starts from {state.start}.")
        self.origin.setVisible(bool(state.start))
        self.drop.setVisible(state.has_encoder)
        self.plot.show_curves(state.losses, state.agreements)
        self.shown.show_text(state.shown or "No prediction is shown yet.")
        learnt = bool(state.losses or state.agreements)
        self.settings.show_settings(state.training, state.network, learnt)
        if not learnt:
            self.anew_question.withdraw()
        allow(
            self.anew,
            "" if learnt else "Nothing has been learnt yet.",
            "Forget the network and learn again from your labels; useful after large corrections",
        )

    def _ask_to_train(self) -> None:
        # A click only asks; what the button shows is the state.
        self.start.setChecked(self._state.running)
        self.train_requested.emit(not self._state.running)


def _explain_start(running: bool) -> str:
    if running:
        return "Pause learning; nothing that was learnt is lost (T)"
    return "Let the network learn from what you have labelled; you can go on painting meanwhile (T)"
