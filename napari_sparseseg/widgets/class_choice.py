"""A combo box of the classes but background, each with its color."""

from qtpy.QtCore import QSize, Signal

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
        super().__init__(name, "Choose a class…", reserve=_SWATCH + _GAP)
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

    def _ask(self) -> None:
        value = self.currentData()
        if value != self._value:
            self._show_value()  # a choice only asks; what is shown is the state
            self.class_requested.emit(value)

    def _show_value(self) -> None:
        self.setCurrentIndex(-1 if self._value is None else self.findData(self._value))
