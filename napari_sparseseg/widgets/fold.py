"""A heading that shows or hides what is below it."""

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget


class Fold(QWidget):
    """Settings that few need, folded away at first.

    superqt's `QCollapsible` is not used: what it hides keeps its place in the tab order.

    Parameters
    ----------
    title
        What is folded away, in words.
    explanation
        Tooltip of the heading.
    parent
        Its owner in Qt.
    """

    toggled = Signal(bool)
    """Whether the content is shown now."""

    def __init__(self, title: str, explanation: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title = title
        self._note = ""
        self._unfolded = False
        self.heading = QPushButton()
        self.heading.setStyleSheet("QPushButton { text-align: left; }")
        self.heading.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.heading.setToolTip(explanation)
        self.heading.clicked.connect(lambda: self.unfold(not self._unfolded))
        self._content = QWidget()
        self._content_layout = QVBoxLayout(self._content)
        self._content_layout.setContentsMargins(6, 6, 0, 6)
        self._content_layout.setSpacing(6)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.heading)
        layout.addWidget(self._content)
        self._content.hide()
        self._write_heading()

    @property
    def unfolded(self) -> bool:
        """Whether the content is shown."""
        return self._unfolded

    def unfold(self, shown: bool = True) -> None:
        """Show the content, or fold it away."""
        if shown != self._unfolded:
            self._unfolded = shown
            self._content.setVisible(shown)
            self._write_heading()
            self.toggled.emit(shown)

    def add_widget(self, widget: QWidget) -> None:
        """Append to what is folded away."""
        self._content_layout.addWidget(widget)

    def set_note(self, note: str) -> None:
        """Add a word to the heading that is read also while the content is folded away."""
        if note != self._note:
            self._note = note
            self._write_heading()

    def _write_heading(self) -> None:
        words = f"{self._title} · {self._note}" if self._note else self._title
        self.heading.setText(f"{'▾' if self._unfolded else '▸'}  {words}")
        self.heading.setAccessibleName(f"{words}, {'shown' if self._unfolded else 'folded away'}")
