"""How far long work is, what goes on or came of it, and what should be read about it."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_sparseseg.widgets.panel_parts import make_text
from napari_sparseseg.widgets.steady_text import SteadyText

_MOST_NOTES = 4
_STEPS = 1000  # of the progress bar


class WorkView(QWidget):
    """A progress bar, a sentence and notes.

    Parameters
    ----------
    steady
        Whether the progress bar keeps its room while there is no work, so that nothing jumps.
    """

    def __init__(self, steady: bool = True) -> None:
        super().__init__()
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(6)
        self.progress.setAccessibleName("How much is done")
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(steady)
        self.progress.setSizePolicy(policy)
        self.sentence = SteadyText("What goes on")
        self.notes = make_text()
        self.notes.setTextFormat(Qt.TextFormat.PlainText)
        self.notes.setAccessibleName("Notes")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for part in (self.progress, self.sentence, self.notes):
            layout.addWidget(part)

    def show_work(
        self, running: bool, progress: float | None, sentence: str, notes: tuple[str, ...] = ()
    ) -> None:
        """Show how work is going.

        Parameters
        ----------
        running
            Whether there is any.
        progress
            Share done, 0–1; None while it is not known.
        sentence
            What goes on or what came of it; it begins with a capital here.
        notes
            Sentences to be read; the first few are shown, all of them in the tooltip.
        """
        self.progress.setVisible(running)
        self.progress.setRange(0, _STEPS if progress is not None or not running else 0)
        self.progress.setValue(round((progress or 0) * _STEPS))
        self.sentence.show_text(sentence[:1].upper() + sentence[1:])
        more = len(notes) - _MOST_NOTES
        lines = [f"• {note}" for note in notes[:_MOST_NOTES]]
        self.notes.setText("\n".join([*lines, f"and {more} more"] if more > 0 else lines))
        self.notes.setToolTip("\n".join(notes) if more > 0 else "")
        self.notes.setVisible(bool(notes))
