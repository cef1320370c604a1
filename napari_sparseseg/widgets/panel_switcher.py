"""Shows one of several panels: a button for each, in rows, because a narrow dock has no room for tabs."""

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QButtonGroup, QGridLayout, QPushButton, QStackedWidget, QVBoxLayout, QWidget

from napari_sparseseg.widgets.panel_parts import make_choice

_PER_ROW = 4
_SPACING = 3
_AROUND_TEXT = 16

# The colours are as readable on napari's dark theme as on its light one.
_STYLE = """
QPushButton { padding: 3px 0px; border: 2px solid transparent; border-radius: 3px; }
QPushButton:checked { background-color: #2a6fc0; color: white; }
QPushButton:focus { border-color: #8ab8ee; }
"""


class PanelSwitcher(QWidget):
    """Buttons with the names of panels, in two or more rows, and the chosen panel below them.

    Tab leads to the button of the shown panel, the arrow keys from there to the others; Control-Page Up and
    Control-Page Down lead to the panels before and after from anywhere inside.
    """

    panel_changed = Signal(str)
    """Name of the panel that is shown now."""

    def __init__(self) -> None:
        super().__init__()
        self._group = QButtonGroup(self)
        self._group.idClicked.connect(self._show)
        self._stack = QStackedWidget()
        self._buttons: dict[str, QPushButton] = {}
        self._grid = QGridLayout()
        self._grid.setContentsMargins(4, 4, 4, 2)
        self._grid.setSpacing(_SPACING)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(self._grid)
        layout.addWidget(self._stack, 1)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all panels, in their order."""
        return tuple(self._buttons)

    @property
    def current(self) -> str:
        """Name of the shown panel; empty while there is none."""
        index = self._stack.currentIndex()
        return self.names[index] if index >= 0 else ""

    def add(self, name: str, panel: QWidget) -> None:
        """Add a panel after the others; the first one is shown."""
        index = len(self._buttons)
        button = self._buttons[name] = make_choice(name)
        button.setStyleSheet(_STYLE)
        button.setMinimumWidth(button.fontMetrics().horizontalAdvance(name) + _AROUND_TEXT)
        button.setAccessibleName(f"{name} panel")
        self._group.addButton(button, index)
        row, column = divmod(index, _PER_ROW)
        self._grid.addWidget(button, row, column)
        self._grid.setColumnStretch(column, 1)
        self._stack.addWidget(panel)
        self._mark()

    def button(self, name: str) -> QPushButton:
        """Return the button that shows a panel."""
        return self._buttons[name]

    def currentWidget(self) -> QWidget:
        """Return what is shown, as `QTabWidget` calls it."""
        return self._stack.currentWidget()

    def show_panel(self, name: str) -> None:
        """Show the panel of this name."""
        self._show(self.names.index(name))

    def keyPressEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        step = {Qt.Key.Key_PageUp: -1, Qt.Key.Key_PageDown: 1}.get(event.key(), 0)
        if step and event.modifiers() == Qt.KeyboardModifier.ControlModifier and self._buttons:
            self._show((self._stack.currentIndex() + step) % len(self._buttons))
            return
        super().keyPressEvent(event)

    def _show(self, index: int) -> None:
        before = self._stack.currentIndex()
        self._stack.setCurrentIndex(index)
        self._mark()
        if index != before:
            self.panel_changed.emit(self.names[index])

    def _mark(self) -> None:
        """Let the button of the shown panel be down, and the only one that Tab leads to."""
        for index, button in enumerate(self._buttons.values()):
            shown = index == self._stack.currentIndex()
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus if shown else Qt.FocusPolicy.NoFocus)
            if shown:
                button.setChecked(True)
