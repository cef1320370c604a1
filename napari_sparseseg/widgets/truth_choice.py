"""What the rounds made from boxes are compared with."""

from qtpy.QtCore import Signal

from napari_sparseseg.widgets.panel_parts import ChoiceBox
from napari_sparseseg.widgets.snapshots import BoxesState

_STROKES = "strokes"


class TruthChoice(ChoiceBox):
    """Offers the entries of `BoxesState.truths`."""

    truth_requested = Signal(str)
    """Entry of `BoxesState.truths`."""

    def __init__(self) -> None:
        super().__init__("What the rounds are compared with", "Choose…")
        self._truth = _STROKES
        self.setToolTip("What tells how good a round is (Dice, 0 to 1): your strokes, or a layer")
        self.activated.connect(lambda _: self._ask())

    def show_state(self, state: BoxesState) -> None:
        """Show what can be chosen, and what is; nothing is asked for by it."""
        self._truth = state.truth
        if self.view().isVisible():  # being chosen from
            return
        if state.truths != tuple(self.itemData(row) for row in range(self.count())):
            self.clear()
            for name in state.truths:
                self.addItem("my strokes" if name == _STROKES else name, name)
        self.setCurrentIndex(self.findData(state.truth))

    def _ask(self) -> None:
        name = self.currentData()
        if name != self._truth:
            self.setCurrentIndex(self.findData(self._truth))  # a choice only asks
            self.truth_requested.emit(name)
