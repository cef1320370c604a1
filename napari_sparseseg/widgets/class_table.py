"""The class table as a list to pick from and to edit in place."""

import itertools
from collections.abc import Mapping
from types import MappingProxyType

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_sparseseg.annotation import BACKGROUND, ClassTable
from napari_sparseseg.widgets.class_row import ClassRow


class ClassTableEditor(QWidget):
    """Shows the classes, and asks for changes; signals carry the painted value, background 1.

    Parameters
    ----------
    parent
        Its owner in Qt.
    """

    add_requested = Signal()
    rename_requested = Signal(int, str)
    recolor_requested = Signal(int, str)
    delete_requested = Signal(int)
    select_requested = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: dict[int, ClassRow] = {}
        self._names_next = False
        self._layout = QVBoxLayout()
        self._layout.setSpacing(1)
        self.add = QPushButton("Add class")
        self.add.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.add.setToolTip("Add another structure to label, and type its name")
        self.add.clicked.connect(self._add)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(self._layout)
        layout.addWidget(self.add)

    @property
    def rows(self) -> tuple[ClassRow, ...]:
        """The rows from top to bottom, background first."""
        return tuple(self._layout.itemAt(place).widget() for place in range(self._layout.count()))

    def show_classes(
        self,
        table: ClassTable,
        selected: int,
        voxels: Mapping[int, int],
        boxes: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        """Show another table, the painted value in use, and labelled voxels and boxes by painted value."""
        values = [BACKGROUND, *table.mask_values[1:]]
        for value in set(self._rows) - set(values):
            row = self._rows.pop(value)
            self._layout.removeWidget(row)
            row.hide()
            row.deleteLater()
        added = [value for value in values if value not in self._rows]
        for place, (value, entry) in enumerate(zip(values, table.classes, strict=True)):
            row = self._rows.get(value) or self._make_row(value)
            if self._layout.indexOf(row) != place:
                self._layout.insertWidget(place, row)
            row.show_class(
                entry, voxels.get(value, 0), value == selected, _why_no_delete(value, table),
                boxes.get(value, 0),
            )  # fmt: skip
        if added:
            self._order_tabs()
            if self._names_next:
                self._rows[added[-1]].rename()
        self._names_next = False

    def _make_row(self, value: int) -> ClassRow:
        row = self._rows[value] = ClassRow(value)
        row.selected.connect(self._select)
        row.renamed.connect(self.rename_requested)
        row.recolored.connect(self.recolor_requested)
        row.deleted.connect(self.delete_requested)
        return row

    def _select(self, value: int) -> None:
        for row in self._rows.values():
            row.name.finish()
        self.select_requested.emit(value)

    def _add(self) -> None:
        self._names_next = True  # a class just added is named at once
        self.add_requested.emit()

    def _order_tabs(self) -> None:
        chain = [widget for row in self.rows for widget in row.tab_stops()]
        for first, second in itertools.pairwise([*chain, self.add]):
            QWidget.setTabOrder(first, second)


def _why_no_delete(value: int, table: ClassTable) -> str:
    if value == BACKGROUND:
        return "Background stays: what is not an organ must be shown too."
    return "One class must stay; rename it instead." if len(table) <= 2 else ""
