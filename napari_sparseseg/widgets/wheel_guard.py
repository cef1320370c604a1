"""Keeps the mouse wheel for scrolling: over an editor it changes nothing until the editor has the focus."""

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QWidget


class WheelGuard(QObject):
    """Lets the wheel scroll the dock, so that no value is changed in passing.

    Parameters
    ----------
    parent
        Its owner in Qt, which lives as long as the editors.
    """

    def protect(self, editor: QWidget) -> None:
        """Guard an editor, and the widgets that it is made of."""
        for widget in (editor, *editor.findChildren(QWidget)):
            if widget.focusPolicy() == Qt.FocusPolicy.WheelFocus:
                widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: D102 - Qt's name
        if event.type() != QEvent.Type.Wheel or not isinstance(watched, QWidget) or watched.hasFocus():
            return False
        event.ignore()  # so that it goes on to the scroll area around
        return True
