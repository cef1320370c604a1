"""The list of boxes in the Boxes panel."""

import itertools
from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import QFrame, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from napari_sparseseg.annotation import ClassTable, LabelClass
from napari_sparseseg.widgets.box_line import BOX_LINE_STYLE, BoxLine
from napari_sparseseg.widgets.snapshots import BoxRow
from napari_sparseseg.widgets.wheel_guard import WheelGuard

_EDGE = 4  # what a theme may put around the rows
_UNKNOWN_COLOR = "#808080"


class ShortScroll(QScrollArea):
    """A column of widgets that is as high as they are, up to a limit; from there on it scrolls.

    Parameters
    ----------
    most_height
        The limit, in pixels.
    """

    def __init__(self, most_height: int) -> None:
        super().__init__()
        self._most_height = most_height
        content = QWidget()
        self.column = QVBoxLayout(content)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(1)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.setWidget(content)

    def order_tabs(self, stops: Sequence[QWidget]) -> None:
        """Let the Tab key go through `stops` where it comes to this list."""
        # Qt orders only what takes the focus by Tab at this moment.
        chain = [self, *stops]
        policies = [stop.focusPolicy() for stop in chain]
        for stop in chain:
            stop.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        for first, second in itertools.pairwise(chain):
            QWidget.setTabOrder(first, second)
        for stop, policy in zip(chain, policies, strict=True):
            stop.setFocusPolicy(policy)

    def remove(self, widget: QWidget) -> None:
        """Take a widget out of the column for good."""
        self.column.removeWidget(widget)
        widget.hide()
        widget.deleteLater()

    def sizeHint(self) -> QSize:  # noqa: D102 - Qt's name
        content = self.widget()
        if content is None:  # Qt asks while it is being made
            return QSize(0, 0)
        width = self.viewport().width()
        wraps = content.hasHeightForWidth()
        height = content.heightForWidth(width) if wraps else content.sizeHint().height()
        return QSize(super().sizeHint().width(), min(height + _EDGE, self._most_height))

    def minimumSizeHint(self) -> QSize:  # noqa: D102 - Qt's name
        return QSize(0, self.sizeHint().height())

    def resizeEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self.updateGeometry()  # texts wrap elsewhere

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: D102 - Qt's name
        if watched is self.widget() and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()  # the rows have another height
        return bool(super().eventFilter(watched, event))


class BoxList(ShortScroll):
    """One row per box; only what differs is changed."""

    chosen = Signal(int)
    """Number of a box."""
    range_requested = Signal(int, int, int)
    """Number of a box, first and last slice."""
    delete_requested = Signal(int)
    """Number of a box."""

    def __init__(self) -> None:
        super().__init__(280)
        self._lines: dict[int, BoxLine] = {}
        self._chosen: int | None = None
        self._guard = WheelGuard(self)
        self.setStyleSheet(BOX_LINE_STYLE)
        self.setAccessibleName("Boxes")
        self._sought = False
        self._scroll = QTimer(self)
        self._scroll.setSingleShot(True)
        self._scroll.timeout.connect(self._show_chosen)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the boxes, from top to bottom."""
        return tuple(self.column.itemAt(place).widget().number for place in range(self.column.count()))

    def line(self, number: int) -> BoxLine:
        """Return the row of a box."""
        return self._lines[number]

    def show_boxes(
        self, rows: tuple[BoxRow, ...], table: ClassTable, chosen: int | None, slice_count: int
    ) -> None:
        """Show other boxes.

        Parameters
        ----------
        rows
            The boxes, from top to bottom.
        table
            The classes.
        chosen
            Number of the box that is marked; None for none.
        slice_count
            Slices of the visible orientation.
        """
        for number in set(self._lines) - {row.number for row in rows}:
            self.remove(self._lines.pop(number))
        classes = {entry.value: entry for entry in table.classes}
        added = False
        for place, row in enumerate(rows):
            if row.number not in self._lines:
                self._make_line(row.number)
                added = True
            line = self._lines[row.number]
            if self.column.indexOf(line) != place:
                self.column.insertWidget(place, line)
            entry = classes.get(row.value) or LabelClass(row.value, f"class {row.value}", _UNKNOWN_COLOR)
            line.show_box(row, entry, row.number == chosen, slice_count)
        if added:
            self.order_tabs([stop for number in self.numbers for stop in self._lines[number].tab_stops()])
        if chosen != self._chosen:
            self._chosen, self._sought = chosen, True
            self._scroll.start()

    def _make_line(self, number: int) -> None:
        line = self._lines[number] = BoxLine(number, self._guard)
        line.chosen.connect(self.chosen)
        line.range_requested.connect(self.range_requested)
        line.delete_requested.connect(self.delete_requested)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: D102 - Qt's name
        handled = super().eventFilter(watched, event)
        if watched is self.widget() and event.type() == QEvent.Type.Resize and self._sought:
            self._scroll.start()
        return handled

    def _show_chosen(self) -> None:
        content = self.widget()
        if content.height() < content.minimumSizeHint().height():
            return  # a row just added has no place yet: wait until there is room for it
        self._sought = False
        if self._chosen in self._lines:
            self.ensureWidgetVisible(self._lines[self._chosen], 0, 0)
