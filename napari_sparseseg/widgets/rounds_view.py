"""The part of the Boxes panel about rounds: how good each is, which is shown, and which is kept."""

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_sparseseg.widgets.agreement_plot import AgreementPlot
from napari_sparseseg.widgets.panel_parts import allow, make_button, make_heading, make_row
from napari_sparseseg.widgets.round_list import RoundList
from napari_sparseseg.widgets.snapshots import BoxesState

_KEEP = "Its labels train the network with a low weight; your strokes always win"
_CLEAR = "Take the labels made from boxes out of training; the boxes and your strokes stay"


class RoundsView(QWidget):
    """Shows the rounds of a `BoxesState`; it is hidden while there are none, and none was kept."""

    shown_requested = Signal(int)
    """Number of a round."""
    keep_requested = Signal(int)
    """Number of the round that is shown."""
    clear_kept_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._state = BoxesState()
        self.plot = AgreementPlot()
        self.list = RoundList()
        self.list.shown_requested.connect(self.shown_requested)
        self.keep = QPushButton("Keep this round")
        self.keep.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # after a click the keys still reach the picture
        self.keep.clicked.connect(lambda: self.keep_requested.emit(self._state.shown_round))
        self.clear = make_button("Take out again", self.clear_kept_requested)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(make_heading("Rounds"))
        layout.addWidget(self.plot)
        layout.addWidget(self.list)
        layout.addLayout(make_row(self.keep, self.clear))
        self.hide()

    def show_state(self, state: BoxesState) -> None:
        """Show the rounds of another state; nothing is asked for by it."""
        self._state = state
        self.plot.show_rounds(state.rounds, state.shown_round)
        self.list.show_rounds(state.rounds, state.shown_round, state.kept_round)
        nothing_shown = "" if state.shown_round is not None else "Choose a round first."
        allow(self.keep, state.why_no_keep or nothing_shown, _KEEP)
        allow(self.clear, state.why_no_clear, _CLEAR)
        # Labels kept in an earlier session can be taken out, though their rounds are gone.
        self.setVisible(bool(state.rounds) or not state.why_no_clear)
