"""A text that changes often, and moves nothing when it does."""

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QLabel


class SteadyText(QLabel):
    """A label that wraps, with room for some lines from the start.

    Parameters
    ----------
    name
        What it tells, for those who cannot see it.
    lines
        How many lines it has room for.
    """

    def __init__(self, name: str, lines: int = 2) -> None:
        super().__init__()
        self._lines = lines
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.setAccessibleName(name)
        self._keep_room()

    def show_text(self, text: str) -> None:
        """Show another text."""
        if text != self.text():
            self.setText(text)

    def event(self, event: QEvent) -> bool:  # noqa: D102 - Qt's name
        handled = bool(super().event(event))
        if event.type() in (QEvent.Type.Polish, QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._keep_room()
        return handled

    def _keep_room(self) -> None:
        """Measure how much room the lines need with the theme's font and edges."""
        text = self.text()
        self.setMinimumHeight(0)
        self.setText("\n" * (self._lines - 1))
        self.setMinimumHeight(self.sizeHint().height())
        self.setText(text)
