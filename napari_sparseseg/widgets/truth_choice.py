"""What the rounds made from boxes are compared with."""

from napari_sparseseg.widgets.named_choice import NamedChoice
from napari_sparseseg.widgets.snapshots import BoxesState

_STROKES = "strokes"


class TruthChoice(NamedChoice):
    """Offers the entries of `BoxesState.truths`."""

    def __init__(self) -> None:
        super().__init__("What the rounds are compared with")
        self.setToolTip("What tells how good a round is (Dice, 0 to 1): your strokes, or a layer")

    def show_state(self, state: BoxesState) -> None:
        """Show what can be chosen, and what is; nothing is asked for by it."""
        words = {name: "my strokes" if name == _STROKES else name for name in state.truths}
        self.show_names(words, state.truth)
