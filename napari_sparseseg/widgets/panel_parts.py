"""The parts that panels are put together from: titles, rows, buttons, and a reason where one is disabled."""

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLayout,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QVBoxLayout,
    QWidget,
)

_SPACING = 6

_RUN_STYLE = """
QPushButton { font-weight: 600; padding: 5px; }
QPushButton:enabled:!checked { background-color: #2a6fc0; color: white; }
QPushButton:enabled:!checked:hover { background-color: #3a80d2; }
QPushButton:enabled:checked { background-color: #5c6570; color: white; }
QPushButton:enabled:checked:hover { background-color: #6d7783; }
"""

# Buttons and boxes take the keyboard by Tab only: after a click on one, the keys still reach the picture.
_BY_TAB = Qt.FocusPolicy.TabFocus


class ChoiceBox(QComboBox):
    """A combo box that fits any panel: what is too long for it ends in an ellipsis.

    Parameters
    ----------
    name
        What is chosen with it, for those who cannot see it.
    placeholder
        Shown while nothing is chosen.
    reserve
        Pixels beside the text that it has to leave free, as for an icon.
    """

    def __init__(self, name: str, placeholder: str, reserve: int = 2) -> None:
        super().__init__()
        self._reserve = reserve
        self.setAccessibleName(name)
        self.setPlaceholderText(placeholder)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setFocusPolicy(_BY_TAB)

    def paintEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        if self.currentIndex() < 0:
            super().paintEvent(event)
            return
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        part = QStyle.SubControl.SC_ComboBoxEditField
        room = self.style().subControlRect(QStyle.ComplexControl.CC_ComboBox, option, part, self).width()
        option.currentText = self.fontMetrics().elidedText(
            option.currentText.strip(), Qt.TextElideMode.ElideMiddle, room - self._reserve
        )
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)


class RunButton(QPushButton):
    """The button that begins long work and, while it is down, stops it; what it shows is the state.

    It takes a double click for one, so that it does not stop what it has begun.

    Parameters
    ----------
    name
        What it begins or stops, for those who cannot see it.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setCheckable(True)
        self.setFocusPolicy(_BY_TAB)
        self.setStyleSheet(_RUN_STYLE)

    def mouseDoubleClickEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        event.accept()

    def nextCheckState(self) -> None:  # noqa: D102 - Qt's name
        pass  # a click only asks


def allow(widget: QWidget, why_not: str, tip: str) -> None:
    """Enable a widget, or disable it and let its tooltip say why."""
    widget.setEnabled(not why_not)
    widget.setToolTip(why_not or tip)


def make_title(text: str) -> QLabel:
    """Make the title of a part of a panel."""
    title = QLabel(text)
    title.setStyleSheet("font-weight: bold;")
    return title


def make_heading(text: str) -> QLabel:
    """Make the title of a part that has another one above it."""
    heading = make_title(text)
    heading.setContentsMargins(0, 8, 0, 0)
    return heading


def make_text(text: str = "") -> QLabel:
    """Make a text that is wrapped where the panel ends."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
    return label


def make_button(text: str, requested: Any) -> QPushButton:
    """Make a button that emits the signal `requested`, which carries nothing."""
    button = QPushButton(text)
    button.setFocusPolicy(_BY_TAB)
    button.clicked.connect(lambda: requested.emit())
    return button


def make_choice(text: str) -> QPushButton:
    """Make a button that stays down, one of several that share a row evenly."""
    button = QPushButton(text)
    button.setCheckable(True)
    button.setFocusPolicy(_BY_TAB)
    button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    button.setMinimumWidth(button.fontMetrics().horizontalAdvance(text) + 8)
    return button


def make_arrow(arrow: str, name: str) -> QPushButton:
    """Make a small button that shows an arrow."""
    button = QPushButton(arrow)
    button.setAccessibleName(name)
    button.setFocusPolicy(_BY_TAB)
    button.setFixedWidth(26)
    return button


def make_row(*widgets: QWidget) -> QHBoxLayout:
    """Put widgets beside each other."""
    row = QHBoxLayout()
    row.setSpacing(_SPACING - 2)
    for widget in widgets:
        row.addWidget(widget)
    return row


def make_column(*parts: QWidget | QLayout) -> QVBoxLayout:
    """Put widgets and rows below each other."""
    column = QVBoxLayout()
    column.setSpacing(_SPACING)
    for part in parts:
        if isinstance(part, QLayout):
            column.addLayout(part)
        else:
            column.addWidget(part)
    return column
