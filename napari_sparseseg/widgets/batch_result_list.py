"""The list of what came of each volume in the Batch panel."""

from typing import Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem, QStyle

from napari_sparseseg.widgets.batch_snapshots import BatchRow

_NAME = Qt.ItemDataRole.UserRole
_HEIGHT = 260
_ICON = 18
_MARKS = {
    "failed": QStyle.StandardPixmap.SP_MessageBoxCritical,
    "look": QStyle.StandardPixmap.SP_MessageBoxWarning,
}
_KINDS = {"failed": "could not be segmented", "look": "needs a look", "fine": ""}
_OPEN = "Double-click to see it with its mask."


class ResultList(QListWidget):
    """One row per volume, of two lines; a double click, or the return key, asks to see it."""

    opened = Signal(str)
    """Name of a volume."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[BatchRow, ...] = ()
        self._icons = {kind: self.style().standardIcon(mark) for kind, mark in _MARKS.items()}
        nothing = QPixmap(_ICON, _ICON)
        nothing.fill(Qt.GlobalColor.transparent)
        self._icons["fine"] = QIcon(nothing)  # so that all texts begin in one line
        self.setIconSize(QSize(_ICON, _ICON))
        self.setSpacing(1)
        self.setAccessibleName("Results")
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.setUniformItemSizes(True)
        self.setWordWrap(False)
        self.itemActivated.connect(lambda item: self.opened.emit(item.data(_NAME)))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the volumes, from top to bottom."""
        return tuple(self.item(row).data(_NAME) for row in range(self.count()))

    def show_rows(self, rows: tuple[BatchRow, ...]) -> None:
        """Show other volumes; what was chosen stays so, and nothing is asked for by it."""
        before, self._rows = self._rows, rows
        if rows == before:
            return
        if before and rows[: len(before)] == before:  # while a batch runs, rows are only added
            self._append(rows[len(before) :])
            return
        chosen = self.currentItem().data(_NAME) if self.currentItem() else ""
        self.clear()
        self._append(rows)
        names = self.names
        self.setCurrentRow(names.index(chosen) if chosen in names else -1)
        self.scrollToTop()

    def _append(self, rows: tuple[BatchRow, ...]) -> None:
        bar = self.verticalScrollBar()
        at_end = bar.value() == bar.maximum()
        for row in rows:
            self.addItem(self._make_item(row))
        if at_end:  # what has just come is seen
            self.scrollToBottom()

    def sizeHint(self) -> QSize:  # noqa: D102 - Qt's name
        return QSize(super().sizeHint().width(), _HEIGHT)

    def minimumSizeHint(self) -> QSize:  # noqa: D102 - Qt's name
        return QSize(0, _HEIGHT)

    def wheelEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        super().wheelEvent(event)
        event.accept()  # at its end the panel must not run away

    def _make_item(self, row: BatchRow) -> QListWidgetItem:
        item = QListWidgetItem(f"{row.name}\n{row.words}")
        item.setData(_NAME, row.name)
        item.setIcon(self._icons[row.kind])
        told = ", ".join(filter(None, (row.name, _KINDS[row.kind], row.words)))
        item.setData(Qt.ItemDataRole.AccessibleTextRole, told)
        lines = [row.name, row.words, *(f"⚠ {warning}" for warning in row.warnings)]
        item.setToolTip("\n".join([*lines, *([_OPEN] if row.kind != "failed" else [])]))
        return item
