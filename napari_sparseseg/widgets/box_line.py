"""One row of the list of boxes: its class and size, the slices it reaches over, and deletion."""

from functools import partial
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSignalBlocker, QSize, Qt, Signal
from qtpy.QtWidgets import QFrame, QLabel, QSpinBox, QToolButton, QVBoxLayout, QWidget

from napari_sparseseg.annotation import LabelClass
from napari_sparseseg.widgets.class_list import make_swatch
from napari_sparseseg.widgets.panel_parts import make_row, make_text
from napari_sparseseg.widgets.snapshots import BoxRow
from napari_sparseseg.widgets.wheel_guard import WheelGuard

BOX_LINE_STYLE = """
BoxLine { border: 1px solid transparent; border-radius: 4px; background: transparent; }
BoxLine:hover { background: rgba(128, 128, 128, 50); }
BoxLine[chosen="true"] { background: rgba(74, 118, 240, 90); border-color: rgb(74, 118, 240); }
BoxLine:focus { border-color: rgb(128, 128, 128); }
BoxLine QLabel { background: transparent; }
BoxLine QToolButton { background: transparent; border: 1px solid transparent; border-radius: 3px; }
BoxLine QToolButton:hover, BoxLine QToolButton:focus { border-color: rgb(128, 128, 128); }
"""
"""Set on the list around the rows: a style sheet of each row's own would make thirty of them slow."""

_SWATCH = 12
_NAME_WIDTH = 60  # pixels that a long name of a class keeps beside a long size
_EXTENT_WIDTH = 60
_SLACK = 2  # Qt measures the ink of a text in a label, not how far it reaches


class BoxLine(QFrame):
    """A box: a click chooses it, the spin boxes move its first and last slice.

    Parameters
    ----------
    number
        Of the box in the project.
    guard
        Keeps the wheel for scrolling.
    """

    chosen = Signal(int)
    """Number of the box."""
    range_requested = Signal(int, int, int)
    """Number, first and last slice."""
    delete_requested = Signal(int)
    """Number of the box."""

    def __init__(self, number: int, guard: WheelGuard) -> None:
        super().__init__()
        self.number = number
        self._shown: tuple[Any, ...] = ()
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self._swatch = QLabel()
        self._swatch.setFixedWidth(_SWATCH + 2)
        self.name = ElidedLabel(_NAME_WIDTH, _NAME_WIDTH)
        self.extent = ElidedLabel(_EXTENT_WIDTH)
        self.delete = QToolButton()
        self.delete.setText("×")
        self.delete.setFixedSize(22, 22)
        self.delete.setCursor(Qt.CursorShape.ArrowCursor)
        self.delete.clicked.connect(lambda: self.delete_requested.emit(self.number))
        self.first, self.last = QSpinBox(), QSpinBox()
        for spin in (self.first, self.last):
            spin.setKeyboardTracking(False)  # a number is taken when it is complete
            spin.setCursor(Qt.CursorShape.ArrowCursor)
            spin.installEventFilter(self)
            spin.valueChanged.connect(partial(self._ask_range, spin))
            guard.protect(spin)
        self.warning = make_text()
        self.warning.setTextFormat(Qt.TextFormat.PlainText)
        self.warning.hide()
        title = QLabel(str(number))
        for label in (title, self.name, self.extent):
            label.setIndent(0)  # a narrow dock has no room to give away
        top = make_row(title, self._swatch, self.name, self.extent, self.delete)
        top.setStretch(2, 1)
        slices = QLabel("Slices")
        slices.setIndent(0)
        reach = make_row(slices, self.first, QLabel("–"), self.last)
        reach.addStretch()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 2, 4)
        layout.setSpacing(2)
        layout.addLayout(top)
        layout.addLayout(reach)
        layout.addWidget(self.warning)

    def show_box(self, row: BoxRow, entry: LabelClass, chosen: bool, slice_count: int) -> None:
        """Show the box as it is now; nothing is asked for by it.

        Parameters
        ----------
        row
            The box.
        entry
            Its class.
        chosen
            Whether it is the one that is marked.
        slice_count
            Slices of the visible orientation.
        """
        shown = (row, entry, chosen, slice_count)
        if shown == self._shown:
            return
        self._shown = shown
        self.name.show_text(entry.name)
        if self.property("color") != entry.color:
            self.setProperty("color", entry.color)
            self._swatch.setPixmap(make_swatch(entry.color).pixmap(_SWATCH, _SWATCH))
        self.extent.show_text(row.size)
        for spin, index in ((self.first, row.first), (self.last, row.last)):
            with QSignalBlocker(spin):
                spin.setRange(0, max(slice_count - 1, row.last, 0))
                if spin.value() != index:  # else what is being typed would be lost
                    spin.setValue(index)
        self.warning.setText(f"⚠ {row.warning}")
        self.warning.setVisible(bool(row.warning))
        self._mark(chosen)
        self._describe(row, entry.name, chosen)

    def tab_stops(self) -> tuple[QWidget, ...]:
        """Return what the Tab key goes through, in order."""
        return self, self.delete, self.first, self.last

    def mousePressEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        if event.button() == Qt.MouseButton.LeftButton:
            self.chosen.emit(self.number)

    def keyPressEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        keys, pressed = Qt.Key, event.key()
        if not self.hasFocus():
            event.ignore()
        elif pressed in (keys.Key_Space, keys.Key_Return, keys.Key_Enter):
            self.chosen.emit(self.number)
        elif pressed == keys.Key_Delete:
            self.delete_requested.emit(self.number)
        else:
            event.ignore()  # napari's keys work here too

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: D102 - Qt's name
        # Whoever edits the slices of a box means that box.
        if (
            event.type() == QEvent.Type.FocusIn
            and event.reason() == Qt.FocusReason.MouseFocusReason
            and not self.property("chosen")
        ):
            self.chosen.emit(self.number)
        return bool(super().eventFilter(watched, event))

    def _ask_range(self, edited: QSpinBox, index: int) -> None:
        """Ask for other slices; the end that was not edited follows where it would be passed."""
        self._shown = ()  # what is shown is no longer the state's
        other = self.last if edited is self.first else self.first
        if self.first.value() > self.last.value():
            with QSignalBlocker(other):
                other.setValue(index)
        self.range_requested.emit(self.number, self.first.value(), self.last.value())

    def _mark(self, chosen: bool) -> None:
        if self.property("chosen") == chosen:
            return
        self.setProperty("chosen", chosen)
        self.style().unpolish(self)
        self.style().polish(self)
        # With many boxes, Tab goes from row to row, and only into the one that is chosen.
        policies = Qt.FocusPolicy
        self.delete.setFocusPolicy(policies.TabFocus if chosen else policies.NoFocus)
        for spin in (self.first, self.last):
            spin.setFocusPolicy(policies.StrongFocus if chosen else policies.ClickFocus)

    def _describe(self, row: BoxRow, name: str, chosen: bool) -> None:
        words = f"Box {row.number}, {name}, {row.size}, slices {row.first} to {row.last}"
        warning = f", {row.warning}" if row.warning else ""
        self.setAccessibleName(f"{words}{warning}{', chosen' if chosen else ''}")
        self.setToolTip(f"{name}, {row.size}: click to choose this box")
        self.delete.setToolTip(f"Delete box {row.number}")
        self.delete.setAccessibleName(f"Delete box {row.number}")
        for spin, which in ((self.first, "First"), (self.last, "Last")):
            spin.setToolTip(f"{which} slice of this orientation that box {row.number} reaches over")
            spin.setAccessibleName(f"{which} slice of box {row.number}")


class ElidedLabel(QLabel):
    """One line of text; what is too long for it ends in an ellipsis.

    Parameters
    ----------
    least
        Pixels that it keeps, if its text needs so many.
    most
        Pixels that it asks for at most; None for as many as the text needs.
    """

    def __init__(self, least: int, most: int | None = None) -> None:
        super().__init__()
        self._whole = ""
        self._least, self._most = least, most
        self.setTextFormat(Qt.TextFormat.PlainText)

    @property
    def whole_text(self) -> str:
        """The whole text, of which a part may be shown."""
        return self._whole

    def show_text(self, text: str) -> None:
        """Show another text."""
        if text != self._whole:
            self._whole = text
            self._fit()
            self.updateGeometry()

    def sizeHint(self) -> QSize:  # noqa: D102 - Qt's name
        needed = self._width_of(self._whole)
        return QSize(needed if self._most is None else min(needed, self._most), super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:  # noqa: D102 - Qt's name
        return QSize(min(self._width_of(self._whole), self._least), super().sizeHint().height())

    def resizeEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        super().resizeEvent(event)
        self._fit()

    def _width_of(self, text: str) -> int:
        """Return the room that a text needs, with what the theme puts round it."""
        edges: int = super().sizeHint().width() - self._advance(self.text())
        return self._advance(text) + edges + _SLACK

    def _fit(self) -> None:
        room = self.width() - self._width_of("") + _SLACK
        self.setText(self.fontMetrics().elidedText(self._whole, Qt.TextElideMode.ElideRight, room))

    def _advance(self, text: str) -> int:
        return int(self.fontMetrics().horizontalAdvance(text))
