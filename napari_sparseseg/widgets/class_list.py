"""The classes of a prediction: whether each is shown, and how many millilitres it has."""

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import QEvent, QObject, QRectF, QSignalBlocker, QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPen, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QFrame,
    QGridLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QWidget,
)

from napari_sparseseg.annotation import ClassTable, LabelClass

_SWATCH = 12
_MOST_HEIGHT = 220
_EDGE = 4  # what a theme may put around the rows


class ClassList(QScrollArea):
    """One row per class but background; a long table scrolls."""

    class_visible_requested = Signal(int, bool)
    """Painted value of the class, and whether to show it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._classes: tuple[LabelClass, ...] = ()
        self._rows: dict[int, tuple[_ClassBox, QLabel]] = {}
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    @property
    def values(self) -> tuple[int, ...]:
        """Painted values of the classes shown."""
        return tuple(self._rows)

    def box(self, value: int) -> QCheckBox:
        """Return the check box of a class."""
        return self._rows[value][0]

    def volume(self, value: int) -> QLabel:
        """Return the label that tells the volume of a class."""
        return self._rows[value][1]

    def show_classes(
        self, table: ClassTable, hidden: frozenset[int], volumes_ml: Mapping[int, float], why_not: str = ""
    ) -> None:
        """Show the classes of a table.

        Parameters
        ----------
        table
            The classes.
        hidden
            Painted values of those not shown in the viewer.
        volumes_ml
            Millilitres by painted value.
        why_not
            Why nothing can be shown or hidden now; empty when it can.
        """
        if table.classes[1:] != self._classes:
            self._classes = table.classes[1:]
            self._make_rows()
        for entry in self._classes:
            box, volume = self._rows[entry.value]
            with QSignalBlocker(box):
                box.setChecked(entry.value not in hidden)
            box.setEnabled(not why_not)
            verb = "Show" if entry.value in hidden else "Hide"
            box.setToolTip(why_not or f"{verb} {entry.name} in the prediction")
            text = format_volume(volumes_ml.get(entry.value))
            if volume.text() != text:
                volume.setText(text)

    def sizeHint(self) -> QSize:  # noqa: D102 - Qt's name
        content = self.widget()
        height = 0 if content is None else content.sizeHint().height() + _EDGE
        return QSize(super().sizeHint().width(), min(height, _MOST_HEIGHT))

    def minimumSizeHint(self) -> QSize:  # noqa: D102 - Qt's name
        return QSize(0, self.sizeHint().height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: D102 - Qt's name
        if watched is self.widget() and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()  # the rows have another height, as with another font
        return bool(super().eventFilter(watched, event))

    def _make_rows(self) -> None:
        content = QWidget()
        grid = QGridLayout(content)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(3)
        grid.setColumnStretch(0, 1)
        self._rows = {}
        for number, entry in enumerate(self._classes):
            box = _ClassBox(entry)
            box.toggled.connect(self._asker(entry.value))
            volume = QLabel()
            volume.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            volume.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            volume.setToolTip(f"Volume of {entry.name} in the prediction; select it to copy")
            volume.setAccessibleName(f"Volume of {entry.name}")
            grid.addWidget(box, number, 0)
            grid.addWidget(volume, number, 1)
            self._rows[entry.value] = (box, volume)
        self.setWidget(content)
        self.updateGeometry()

    def _asker(self, value: int) -> Any:
        return lambda visible: self.class_visible_requested.emit(value, visible)


class _ClassBox(QCheckBox):
    """A check box with the color of a class; a long name ends in an ellipsis."""

    def __init__(self, entry: LabelClass) -> None:
        super().__init__()
        self._name = entry.name
        self.setIcon(make_swatch(entry.color))
        self.setIconSize(QSize(_SWATCH, _SWATCH))
        self.setAccessibleName(f"Show {entry.name}")
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # after a click the keys still reach the picture
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        option = QStyleOptionButton()
        self.initStyleOption(option)
        room = self.style().subElementRect(QStyle.SubElement.SE_CheckBoxContents, option, self).width()
        elide = Qt.TextElideMode.ElideRight
        text = self.fontMetrics().elidedText(self._name, elide, max(room - _SWATCH - 8, 0))
        self.setText(text.replace("&", "&&"))


def make_swatch(color: str) -> QIcon:
    """Return an icon of one color ``#rrggbb``, with an edge that shows on dark and light ground."""
    ratio = 2  # sharp on a fine screen
    pixmap = QPixmap(_SWATCH * ratio, _SWATCH * ratio)
    pixmap.setDevicePixelRatio(ratio)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setPen(QPen(QColor("#808080"), 1))
    painter.setBrush(QColor(color))
    painter.drawRect(QRectF(0.5, 0.5, _SWATCH - 1, _SWATCH - 1))
    painter.end()
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Disabled)
    return icon


def format_volume(millilitres: float | None) -> str:
    """Return a volume in ml with three significant digits, whole from 100 on; a dash for an unknown one."""
    if millilitres is None:
        return "– ml"
    if millilitres == 0:
        return "0 ml"
    if millilitres < 0.01:
        return "< 0.01 ml"
    decimals = next((count for count, limit in enumerate((99.95, 9.995)) if millilitres >= limit), 2)
    return f"{millilitres:,.{decimals}f} ml"
