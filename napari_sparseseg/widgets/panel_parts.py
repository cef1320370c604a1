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
    """

    def __init__(self, name: str, placeholder: str) -> None:
        super().__init__()
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
            option.currentText, Qt.TextElideMode.ElideMiddle, room - 2
        )
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)


def allow(widget: QWidget, why_not: str, tip: str) -> None:
    """Enable a widget, or disable it and let its tooltip say why."""
    widget.setEnabled(not why_not)
    widget.setToolTip(why_not or tip)


def make_title(text: str) -> QLabel:
    """Make the title of a part of a panel."""
    title = QLabel(text)
    title.setStyleSheet("font-weight: bold;")
    return title


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
