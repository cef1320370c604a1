"""A combo box of the classes but background, each with its color."""

from typing import Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import QStyle, QStyleOptionComboBox, QStylePainter

from napari_sparseseg.annotation import ClassTable, LabelClass
from napari_sparseseg.widgets.class_list import make_swatch
from napari_sparseseg.widgets.panel_parts import ChoiceBox

_SWATCH = 12
_GAP = 6  # what a style leaves round an icon


class ClassChoice(ChoiceBox):
    """Chooses a class.

    Parameters
    ----------
    name
        What is chosen with it, for those who cannot see it.
    """

    class_requested = Signal(int)
    """Painted value of a class other than the one shown."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "Choose a class…")
        self._classes: tuple[LabelClass, ...] = ()
        self._value: int | None = None
        self.setIconSize(QSize(_SWATCH, _SWATCH))
        self.activated.connect(lambda _: self._ask())

    def show_classes(self, table: ClassTable, value: int | None) -> None:
        """Show the classes of a table, and the painted value of the chosen one (None for none)."""
        self._value = value
        if self.view().isVisible():  # being chosen from
            return
        if table.classes[1:] != self._classes:
            self._classes = table.classes[1:]
            self.clear()
            for entry in self._classes:
                self.addItem(make_swatch(entry.color), entry.name, entry.value)
        self._show_value()

    def paintEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        if self.currentIndex() < 0:
            super().paintEvent(event)
            return
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        part = QStyle.SubControl.SC_ComboBoxEditField
        room = self.style().subControlRect(QStyle.ComplexControl.CC_ComboBox, option, part, self).width()
        option.currentText = self.fontMetrics().elidedText(
            option.currentText, Qt.TextElideMode.ElideMiddle, room - _SWATCH - _GAP
        )
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def _ask(self) -> None:
        value = self.currentData()
        if value != self._value:
            self._show_value()  # a choice only asks; what is shown is the state
            self.class_requested.emit(value)

    def _show_value(self) -> None:
        self.setCurrentIndex(-1 if self._value is None else self.findData(self._value))
