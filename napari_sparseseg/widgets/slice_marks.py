"""A slim bar: where the visible slice lies in the stack, and which slices are labelled."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPalette
from qtpy.QtWidgets import QAbstractSlider, QSizePolicy, QToolTip, QWidget

_HEIGHT = 24
_GROOVE = 6
_MARGIN = 5
_SNAP = 4  # pixels: a mark is thin, and hard to hit otherwise
_HANDLE = QColor(74, 118, 240)


class SliceMarks(QAbstractSlider):
    """Shows a position and marks, and asks for the slice that is clicked.

    Arrow keys move by one slice, Page Up and Page Down to the next mark, Home and End to the ends.  The
    wheel is left to the panel, which scrolls by it.

    Parameters
    ----------
    parent
        Its owner in Qt.
    """

    slice_requested = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setOrientation(Qt.Orientation.Horizontal)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Position in the stack of slices")
        self.setRange(0, 0)
        self._marks: tuple[int, ...] = ()

    @property
    def marks(self) -> tuple[int, ...]:
        """The marked slices, ascending."""
        return self._marks

    def show_slices(self, index: int, count: int, marks: Sequence[int]) -> None:
        """Show slice `index` of `count`, and marks at some of them; asks for nothing."""
        self.setEnabled(count > 1)
        last = max(0, count - 1)
        marks = tuple(sorted(mark for mark in marks if 0 <= mark <= last))
        if last != self.maximum() or marks != self._marks:
            self._marks = marks
            self.setMaximum(last)
            self.update()
        if not self.isSliderDown():  # a slower answer must not pull the handle from the hand
            self.setValue(index)

    def previous_mark(self) -> int | None:
        """Return the nearest mark before the visible slice."""
        row = bisect_left(self._marks, self.value())
        return self._marks[row - 1] if row else None

    def next_mark(self) -> int | None:
        """Return the nearest mark after the visible slice."""
        row = bisect_right(self._marks, self.value())
        return self._marks[row] if row < len(self._marks) else None

    def ask_for(self, index: int | None) -> None:
        """Ask for a slice, as a click on it does."""
        if index is None:
            return
        index = min(max(index, self.minimum()), self.maximum())
        if index != self.value():
            self.setValue(index)
            self.slice_requested.emit(index)

    def position_of(self, index: int) -> float:
        """Return where slice `index` is drawn, in pixels from the left."""
        position: float = _MARGIN + index / max(1, self.maximum()) * (self.width() - 2 * _MARGIN)
        return position

    def index_at(self, position: float) -> int:
        """Return which slice is drawn so many pixels from the left."""
        share = (position - _MARGIN) / max(1, self.width() - 2 * _MARGIN)
        index: int = round(min(max(share, 0.0), 1.0) * self.maximum())
        return index

    def sizeHint(self) -> QSize:  # noqa: D102 - Qt's name
        return QSize(160, _HEIGHT)

    def minimumSizeHint(self) -> QSize:  # noqa: D102 - Qt's name
        return QSize(60, _HEIGHT)

    def mousePressEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        if event.button() == Qt.MouseButton.LeftButton:
            self.setSliderDown(True)
            self.ask_for(self._aim(event.position().x()))

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        if self.isSliderDown():
            self.ask_for(self.index_at(event.position().x()))

    def mouseReleaseEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        self.setSliderDown(False)

    def wheelEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        event.ignore()

    def keyPressEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        keys = Qt.Key
        targets = {
            keys.Key_Left: self.value() - 1,
            keys.Key_Down: self.value() - 1,
            keys.Key_Right: self.value() + 1,
            keys.Key_Up: self.value() + 1,
            keys.Key_Home: self.minimum(),
            keys.Key_End: self.maximum(),
            keys.Key_PageUp: self.next_mark(),
            keys.Key_PageDown: self.previous_mark(),
        }
        if event.key() in targets:
            self.ask_for(targets[event.key()])
        else:
            event.ignore()  # napari's keys work here too

    def event(self, event: Any) -> bool:  # noqa: D102 - Qt's name
        if event.type() == QEvent.Type.ToolTip and self.isEnabled():
            QToolTip.showText(event.globalPos(), self._describe(self._aim(event.pos().x())), self)
            return True
        return bool(super().event(event))

    def sliderChange(self, change: Any) -> None:  # noqa: D102 - Qt's name
        self.update()
        super().sliderChange(change)

    def paintEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        # napari's themes give each widget its colors through its palette.
        ink = QColor(self.palette().color(QPalette.ColorRole.WindowText))
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(_faded(ink, 0.25 if self.isEnabled() else 0.12))
        groove = QRectF(0, (self.height() - _GROOVE) / 2, self.width(), _GROOVE)
        painter.drawRoundedRect(groove, _GROOVE / 2, _GROOVE / 2)
        if not self.isEnabled():
            return
        painter.setBrush(ink)
        for mark in self._marks:
            painter.drawRect(QRectF(round(self.position_of(mark)) - 1, 4, 2, self.height() - 8))
        painter.setBrush(_HANDLE)
        painter.setPen(ink)
        center = QPointF(self.position_of(self.value()), self.height() / 2)
        width = 8 if self.hasFocus() else 6
        handle = QRectF(center.x() - width / 2, 1.5, width, self.height() - 3)
        painter.drawRoundedRect(handle, 3, 3)

    def _aim(self, position: float) -> int:
        near = [mark for mark in self._marks if abs(self.position_of(mark) - position) <= _SNAP]
        if near:
            return min(near, key=lambda mark: abs(self.position_of(mark) - position))
        return self.index_at(position)

    def _describe(self, index: int) -> str:
        return f"Slice {index}, labelled" if index in self._marks else f"Go to slice {index}"


def _faded(color: QColor, opacity: float) -> QColor:
    faded = QColor(color)
    faded.setAlphaF(opacity)
    return faded
