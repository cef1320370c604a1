"""The part of the Cases panel about the network of all cases, and what it recommends."""

import re
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QPushButton, QSpinBox, QVBoxLayout, QWidget

from napari_sparseseg.widgets.cohort_snapshots import CasesState
from napari_sparseseg.widgets.cohort_states import DICE_MEANS
from napari_sparseseg.widgets.panel_parts import RunButton, allow, make_heading, make_row, make_text
from napari_sparseseg.widgets.wheel_guard import WheelGuard
from napari_sparseseg.widgets.work_view import WorkView

_TRAIN = "Let one network learn from the labels of all cases; it can then segment any of them"
_ASK = "Find the case from whose labels the network would learn most"
_MOST_MINUTES = 24 * 60


class CasesNetworkView(QWidget):
    """Shows what a `CasesState` says of the network of all cases, and asks for it."""

    train_requested = Signal()
    advice_requested = Signal()
    advised_requested = Signal()
    cancel_requested = Signal()
    minutes_requested = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._state = CasesState()
        self._told_by_judging = False
        self.ask, self.train = RunButton("Which case to label next"), RunButton("Train on all labelled cases")
        self.ask.clicked.connect(lambda: self._ask_or_stop("judge", self.advice_requested))
        self.train.clicked.connect(lambda: self._ask_or_stop("cohort", self.train_requested))
        self.advice, self.quality = make_text(), make_text()
        for text, name in ((self.advice, "Recommended"), (self.quality, "Quality of the network")):
            text.setTextFormat(Qt.TextFormat.PlainText)
            text.setAccessibleName(name)
        self.quality.setToolTip(DICE_MEANS)
        self.open_advised = QPushButton("Open this case")
        self.open_advised.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.open_advised.clicked.connect(lambda: self.advised_requested.emit())
        self.judging, self.learning = WorkView(steady=False), WorkView(steady=False)
        self.minutes = QSpinBox()
        self.minutes.setRange(1, _MOST_MINUTES)
        self.minutes.setSuffix(" min")
        self.minutes.setKeyboardTracking(False)
        self.minutes.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.minutes.setAccessibleName("Minutes to learn")
        self.minutes.setToolTip("How long the network learns; more labels deserve more time")
        self.minutes.valueChanged.connect(self._ask_minutes)
        self._guard = WheelGuard(self)
        self._guard.protect(self.minutes)
        self._lay_out()

    def show_state(self, state: CasesState) -> None:
        """Show another state; nothing is asked for by it."""
        self._state = state
        if state.running:
            self._told_by_judging = state.running == "judge"
        judges, learns = state.running == "judge", state.running == "cohort"
        for button, runs, text, why, tip in (
            (self.ask, judges, "Which next?", state.why_no_advice, _ASK),
            (self.train, learns, "Train on all labelled cases", state.why_no_train, _TRAIN),
        ):
            button.setChecked(runs)
            button.setText("Stop" if runs else text)
            allow(button, "" if runs else why, "Stop; what was found so far is kept" if runs else tip)
        # There is one sentence for all work: it is shown where the work was begun.
        for view, runs, is_told in (
            (self.judging, judges, self._told_by_judging),
            (self.learning, learns, not self._told_by_judging),
        ):
            sentence, notes = (state.sentence, state.notes) if is_told else ("", ())
            view.show_work(runs, state.progress, breakable(sentence), tuple(map(breakable, notes)))
            view.sentence.setVisible(runs or bool(sentence))
            view.setVisible(runs or bool(sentence or notes))
        self.advice.setText(breakable(state.advice))
        self.advice.setVisible(bool(state.advice))
        self.open_advised.setVisible(bool(state.advised))
        allow(self.open_advised, state.why_no_advised, "Open the recommended case")
        self.quality.setText(breakable(state.quality))
        self._show_minutes(state.minutes)
        self.minutes.setEnabled(not learns)

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(make_heading("Which case to label next"))
        for part in (self.ask, self.judging, self.advice, self.open_advised):
            layout.addWidget(part)
        layout.addWidget(make_heading("One network for all cases"))
        layout.addWidget(self.quality)
        row = make_row(QLabel("Learn for"), self.minutes)
        row.addStretch()
        layout.addLayout(row)
        layout.addWidget(self.train)
        layout.addWidget(self.learning)

    def _show_minutes(self, minutes: int) -> None:
        self.minutes.blockSignals(True)
        self.minutes.setValue(minutes)
        self.minutes.blockSignals(False)

    def _ask_minutes(self, minutes: int) -> None:
        self._show_minutes(self._state.minutes)  # what is shown is the state
        self.minutes_requested.emit(minutes)

    def _ask_or_stop(self, name: str, requested: Any) -> None:
        if self._state.running == name:
            self.cancel_requested.emit()
        else:
            requested.emit()


def breakable(text: str) -> str:
    """Return a text whose long file names can be wrapped, so that no panel grows as wide as they are."""
    return re.sub(r"(?<=[_\-./\\])(?=[^\s\d])", "\u200b", text)
