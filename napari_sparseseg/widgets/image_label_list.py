"""The list of what was said of the volume as a whole, and of slices of it."""

from typing import Any

from qtpy.QtCore import QRectF, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QFrame, QLabel, QToolButton

from napari_sparseseg.annotation import ClassTable, LabelClass
from napari_sparseseg.widgets.box_line import ElidedLabel
from napari_sparseseg.widgets.box_list import ShortScroll
from napari_sparseseg.widgets.panel_parts import make_row
from napari_sparseseg.widgets.snapshots import ImageLabelRow

_STYLE = """
_Line { border: 1px solid transparent; border-radius: 4px; background: transparent; }
_Line[leads="true"]:hover { background: rgba(128, 128, 128, 50); }
_Line:focus { border-color: rgb(128, 128, 128); }
_Line QLabel { background: transparent; }
_Line QToolButton { background: transparent; border: 1px solid transparent; border-radius: 3px; }
_Line QToolButton:hover, _Line QToolButton:focus { border-color: rgb(128, 128, 128); }
"""
_MOST_HEIGHT = 150
_MARK = 12
_NAME_WIDTHS = 46, 120  # pixels that a long name keeps, and asks for at most
_WORDS_WIDTH = 180
_UNKNOWN_COLOR = "#808080"


class ImageLabelList(ShortScroll):
    """One row per label: a click shows its first slice."""

    slice_requested = Signal(int, int)
    """Axis and index."""
    delete_requested = Signal(int)
    """Number of a label."""

    def __init__(self) -> None:
        super().__init__(_MOST_HEIGHT)
        self._lines: dict[int, _Line] = {}
        self.setStyleSheet(_STYLE)
        self.setAccessibleName("What was said")

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the labels, from top to bottom."""
        return tuple(self.column.itemAt(place).widget().number for place in range(self.column.count()))

    def line(self, number: int) -> "_Line":
        """Return the row of a label."""
        return self._lines[number]

    def show_labels(self, rows: tuple[ImageLabelRow, ...], table: ClassTable) -> None:
        """Show other labels, from top to bottom; nothing is asked for by it."""
        for number in set(self._lines) - {row.number for row in rows}:
            self.remove(self._lines.pop(number))
        classes = {entry.value: entry for entry in table.classes}
        changed = False
        for place, row in enumerate(rows):
            if row.number not in self._lines:
                self._make_line(row.number)
            line = self._lines[row.number]
            if self.column.indexOf(line) != place:
                self.column.insertWidget(place, line)
                changed = True
            entry = classes.get(row.value) or LabelClass(row.value, f"class {row.value}", _UNKNOWN_COLOR)
            line.show_label(row, entry)
        if changed:
            self.order_tabs(
                [stop for number in self.numbers for stop in (self.line(number), self.line(number).delete)]
            )

    def _make_line(self, number: int) -> None:
        line = self._lines[number] = _Line(number)
        line.slice_requested.connect(self.slice_requested)
        line.delete_requested.connect(self.delete_requested)


class _Line(QFrame):
    """What was said of one class: a filled mark where it is present, a crossed one where it is absent."""

    slice_requested = Signal(int, int)
    delete_requested = Signal(int)

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self._shown: tuple[Any, ...] = ()
        self._place: tuple[int, int] | None = None
        self._mark = QLabel()
        self._mark.setFixedWidth(_MARK + 2)
        self.name = ElidedLabel(*_NAME_WIDTHS)
        self.words = ElidedLabel(_WORDS_WIDTH)
        for label in (self.name, self.words):
            label.setIndent(0)  # a narrow dock has no room to give away
        self.delete = QToolButton()
        self.delete.setText("×")
        self.delete.setFixedSize(22, 22)
        self.delete.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.delete.setCursor(Qt.CursorShape.ArrowCursor)
        self.delete.clicked.connect(lambda: self.delete_requested.emit(self.number))
        row = make_row(self._mark, self.name, self.words, self.delete)
        row.setStretch(2, 1)
        row.setContentsMargins(6, 1, 2, 1)
        self.setLayout(row)

    def show_label(self, row: ImageLabelRow, entry: LabelClass) -> None:
        if (row, entry) == self._shown:
            return
        self._shown = (row, entry)
        self._place = None if row.axis is None or row.index is None else (row.axis, row.index)
        self.name.show_text(entry.name)
        self.words.show_text(row.words)
        self._mark.setPixmap(_draw_mark(entry.color, row.present))
        leads = self._place is not None
        if self.property("leads") != leads:
            self.setProperty("leads", leads)
            self.style().unpolish(self)
            self.style().polish(self)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus if leads else Qt.FocusPolicy.NoFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor if leads else Qt.CursorShape.ArrowCursor)
        told = f"{entry.name}, {'present' if row.present else 'absent'}: {row.words}"
        self.setAccessibleName(told)
        self.setToolTip(f"{told}; click to go there" if leads else told)
        self.delete.setToolTip("Take this back")
        self.delete.setAccessibleName(f"Take back: {told}")

    def mousePressEvent(self, event: Any) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._ask()

    def keyPressEvent(self, event: Any) -> None:
        keys, pressed = Qt.Key, event.key()
        if self.hasFocus() and pressed in (keys.Key_Space, keys.Key_Return, keys.Key_Enter):
            self._ask()
        elif self.hasFocus() and pressed == keys.Key_Delete:
            self.delete_requested.emit(self.number)
        else:
            event.ignore()  # napari's keys work here too

    def _ask(self) -> None:
        if self._place is not None:
            self.slice_requested.emit(*self._place)


def _draw_mark(color: str, present: bool) -> QPixmap:
    """Draw a dot of a class's color, or a crossed ring; its edge shows on dark and light ground."""
    ratio = 2  # sharp on a fine screen
    pixmap = QPixmap(_MARK * ratio, _MARK * ratio)
    pixmap.setDevicePixelRatio(ratio)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    ring = QRectF(1, 1, _MARK - 2, _MARK - 2)
    if present:
        painter.setPen(QPen(QColor("#808080"), 1))
        painter.setBrush(QColor(color))
        painter.drawEllipse(ring)
    else:
        painter.setPen(QPen(QColor(color), 2))
        painter.drawEllipse(ring)
        painter.drawLine(3, _MARK - 3, _MARK - 3, 3)
    painter.end()
    return pixmap
