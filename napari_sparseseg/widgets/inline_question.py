"""A question within a panel: it stops nothing, and can be left unanswered."""

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QApplication, QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget


class InlineQuestion(QFrame):
    """A sentence with two buttons, hidden until it is asked; Escape declines.

    Parameters
    ----------
    text
        The question, and what follows from a yes.
    accept, decline
        What the buttons say.
    parent
        Its owner in Qt.
    """

    accepted = Signal()
    declined = Signal()

    def __init__(self, text: str, accept: str, decline: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("inline_question")
        # Amber shows on dark and on light ground.
        self.setStyleSheet("#inline_question { border: 1px solid #c8861a; border-radius: 3px; }")
        self._label = QLabel()
        self._label.setWordWrap(True)
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self.accept_button = QPushButton(accept)
        self.decline_button = QPushButton(decline)
        for button, answer in ((self.accept_button, self._accept), (self.decline_button, self._decline)):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # after a click the keys still reach the picture
            button.clicked.connect(answer)
        row = QHBoxLayout()
        row.addWidget(self.accept_button)
        row.addWidget(self.decline_button)
        row.addStretch()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.addWidget(self._label)
        layout.addLayout(row)
        self.set_text(text)
        self.hide()

    @property
    def text(self) -> str:
        """The question."""
        return str(self._label.text())

    @property
    def is_asked(self) -> bool:
        """Whether it waits for an answer."""
        return not self.isHidden()

    def set_text(self, text: str) -> None:
        """Change the question."""
        if text != self._label.text():
            self._label.setText(text)
            self.setAccessibleName(text)

    def ask(self) -> None:
        """Show the question; whoever uses the keyboard here is at the answer that changes nothing."""
        self.show()
        panel, focus = self.parentWidget(), QApplication.focusWidget()
        if panel is not None and focus is not None and panel.isAncestorOf(focus):
            self.decline_button.setFocus()

    def withdraw(self) -> None:
        """Take the question back, unanswered."""
        self.hide()

    def keyPressEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        if event.key() == Qt.Key.Key_Escape:
            self._decline()
        else:
            super().keyPressEvent(event)

    def _accept(self) -> None:
        self.hide()
        self.accepted.emit()

    def _decline(self) -> None:
        self.hide()
        self.declined.emit()
