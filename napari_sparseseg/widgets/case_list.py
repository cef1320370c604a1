"""The list of cases in the Cases panel: a model and what draws a line, for a thousand need no widget each."""

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QAbstractListModel, QModelIndex, QRect, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QFont, QPainter, QPalette, QPen, QPixmap, QPixmapCache
from qtpy.QtWidgets import (
    QAbstractItemView,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from napari_sparseseg.cohort_records import CohortCase
from napari_sparseseg.widgets.cohort_states import describe_case, explain_case

_PICTURE = 46
_GAP = 6
_MARK = 9  # diameter
_LOOK_MS = 120
_LEAST_ROWS, _USUAL_ROWS = 3, 4
_CASE_ROLE = Qt.ItemDataRole.UserRole

# As readable on napari's dark theme as on its light one.
_MARK_COLORS = {"unlabelled": "", "work": "#e69f00", "done": "#22a06b"}
_OPENED_COLOR = "#2a6fc0"


class CaseModel(QAbstractListModel):
    """The cases as Qt asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[CohortCase, ...] = ()
        self._opened = ""

    @property
    def rows(self) -> tuple[CohortCase, ...]:
        """From top to bottom."""
        return self._rows

    @property
    def opened(self) -> str:
        """Key of the case in work."""
        return self._opened

    def show_rows(self, rows: tuple[CohortCase, ...], opened: str) -> bool:
        """Show other cases; return whether lines came, went or moved."""
        before, was_opened = self._rows, self._opened
        if [case.key for case in rows] != [case.key for case in before]:
            self.beginResetModel()
            self._rows, self._opened = rows, opened
            self.endResetModel()
            return True
        self._rows, self._opened = rows, opened
        for place, (old, new) in enumerate(zip(before, rows, strict=True)):
            if old != new or (opened != was_opened and new.key in (opened, was_opened)):
                index = self.index(place)
                self.dataChanged.emit(index, index)
        return False

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: D102 - Qt's name
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: D102
        if not index.isValid() or index.row() >= len(self._rows):
            return None
        case = self._rows[index.row()]
        if role == _CASE_ROLE:
            return case
        if role == Qt.ItemDataRole.DisplayRole:
            return case.name
        if role == Qt.ItemDataRole.ToolTipRole:
            return explain_case(case)
        if role == Qt.ItemDataRole.AccessibleTextRole:
            opened = ["open"] if case.key == self._opened else []
            return ", ".join([case.name, *opened, *describe_case(case)])
        return None


class CaseList(QListView):
    """Shows cases; a double click or Enter asks to open one.  What is marked is the view's own."""

    open_requested = Signal(str)
    """Key of a case."""
    marked_changed = Signal()
    pictures_wanted = Signal(object)
    """Keys of the visible cases without a picture, from top to bottom."""

    def __init__(self) -> None:
        super().__init__()
        self._model = CaseModel()
        self.setModel(self._model)
        self.setItemDelegate(_CaseLine(self))
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Cases")
        self.setMouseTracking(False)
        self._wanted: tuple[str, ...] = ()
        self._asked, self._marked_then = "", frozenset[str]()
        """The case being opened, and what was marked when that began."""
        self._look = QTimer(self)
        self._look.setSingleShot(True)
        self._look.setInterval(_LOOK_MS)
        self._look.timeout.connect(self._ask_for_pictures)
        self.activated.connect(self._ask_to_open)
        self.selectionModel().selectionChanged.connect(lambda *_: self.marked_changed.emit())
        self.verticalScrollBar().valueChanged.connect(lambda _: self._look.start())

    @property
    def marked(self) -> tuple[CohortCase, ...]:
        """The cases that the user has marked, from top to bottom."""
        places = sorted(index.row() for index in self.selectionModel().selectedIndexes())
        return tuple(self._model.rows[place] for place in places)

    def show_cases(self, rows: tuple[CohortCase, ...], opened: str, opening: str = "") -> None:
        """Show other cases; those that are marked stay so, and the one that was just opened is marked.

        But not if the user has marked others while it was being opened, and is about to do something to them.
        """
        marked = frozenset(case.key for case in self.marked)
        if opening and opening != self._asked:
            self._asked, self._marked_then = opening, marked
        came = opened != self._model.opened
        if self._model.show_rows(rows, opened):
            self._mark([place for place, case in enumerate(rows) if case.key in marked])
        if came and opened:
            if self._asked != opened or marked in (self._marked_then, {opened}):
                self.mark(opened)
            self._asked = ""
        self._look.start()

    def mark(self, key: str) -> None:
        """Mark one case, and show it."""
        for place, case in enumerate(self._model.rows):
            if case.key == key:
                index = self._model.index(place)
                self.setCurrentIndex(index)
                self.scrollTo(index)

    def sizeHint(self) -> QSize:  # noqa: D102 - Qt's name
        return QSize(240, _USUAL_ROWS * _row_height(self) + 4)

    def minimumSizeHint(self) -> QSize:  # noqa: D102 - Qt's name
        return QSize(120, _LEAST_ROWS * _row_height(self) + 4)

    def resizeEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        super().resizeEvent(event)
        self._look.start()

    def showEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        super().showEvent(event)
        self._look.start()

    def hideEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        super().hideEvent(event)
        self._look.start()

    def _mark(self, places: Sequence[int]) -> None:
        model = self.selectionModel()
        for place in places:
            model.select(self._model.index(place), model.SelectionFlag.Select)

    def _ask_to_open(self, index: QModelIndex) -> None:
        case = index.data(_CASE_ROLE)
        if case is not None:
            self.open_requested.emit(case.key)

    def _ask_for_pictures(self) -> None:
        rows, height = self._model.rows, self.viewport().height()
        wanted: tuple[str, ...] = ()
        if self.isVisible() and rows:
            first = self.indexAt(self.viewport().rect().topLeft()).row()
            last = first + height // _row_height(self) + 1
            seen = rows[max(0, first) : last + 1]
            wanted = tuple(case.key for case in seen if not case.thumbnail and not case.problem)
        if wanted != self._wanted:
            self._wanted = wanted
            self.pictures_wanted.emit(wanted)


class _CaseLine(QStyledItemDelegate):
    """Draws a line: picture, name, state, figures."""

    def __init__(self, view: QWidget) -> None:
        super().__init__(view)
        self._view = view

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        return QSize(120, _row_height(self._view))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        case = index.data(_CASE_ROLE)
        if case is None:
            return
        opened = case.key == index.model().opened
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area, palette = option.rect, option.palette
        is_marked = bool(option.state & QStyle.StateFlag.State_Selected)
        if is_marked:
            painter.fillRect(area, palette.color(QPalette.ColorRole.Highlight))
        if opened:
            painter.fillRect(QRect(area.left(), area.top(), 3, area.height()), QColor(_OPENED_COLOR))
        square = QRect(area.left() + _GAP + 1, area.top() + _GAP // 2 + 1, _PICTURE, _PICTURE)
        self._paint_picture(painter, square, case)
        role = QPalette.ColorRole.HighlightedText if is_marked else QPalette.ColorRole.Text
        color = palette.color(role)
        if case.problem:
            color.setAlpha(130)
        left = square.right() + _GAP + 2
        room = QRect(left, area.top(), area.right() - left - _GAP, area.height())
        _paint_words(painter, room, option.font, color, case, opened)
        painter.restore()

    def _paint_picture(self, painter: QPainter, square: QRect, case: CohortCase) -> None:
        picture = _load(case.thumbnail)
        painter.fillRect(square, QColor(0, 0, 0) if picture is not None else QColor(128, 128, 128, 60))
        if picture is None:
            return
        if case.problem:
            painter.setOpacity(0.35)
        size = picture.size().scaled(square.size(), Qt.AspectRatioMode.KeepAspectRatio)
        target = QRect(square.topLeft(), size)
        target.moveCenter(square.center())
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawPixmap(target, picture)
        painter.setOpacity(1)


def _paint_words(
    painter: QPainter, room: QRect, font: QFont, color: QColor, case: CohortCase, opened: bool
) -> None:
    """Write name, state and figures below each other, in the middle of the room's height."""
    metrics = painter.fontMetrics()
    lines = describe_case(case)
    height = metrics.height()
    top = room.top() + (room.height() - height * (1 + len(lines))) // 2
    bold = QFont(font)
    bold.setBold(opened)
    painter.setFont(bold)
    painter.setPen(color)
    flags = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
    name = painter.fontMetrics().elidedText(case.name, Qt.TextElideMode.ElideMiddle, room.width())
    painter.drawText(QRect(room.left(), top, room.width(), height), flags, name)
    painter.setFont(font)
    faint = QColor(color)
    faint.setAlpha(min(color.alpha(), 190))
    for number, line in enumerate(lines, start=1):
        place = QRect(room.left(), top + number * height, room.width(), height)
        painter.setPen(faint)
        if number == 1:
            _paint_mark(painter, place, case, faint)
            place.setLeft(place.left() + _MARK + 5)
        text = metrics.elidedText(line, Qt.TextElideMode.ElideRight, place.width())
        painter.drawText(place, flags, text)


def _paint_mark(painter: QPainter, place: QRect, case: CohortCase, color: QColor) -> None:
    """Draw a circle that is empty, half or wholly filled, by the case's state."""
    circle = QRect(place.left(), place.center().y() - _MARK // 2, _MARK, _MARK)
    filled = _MARK_COLORS[case.state]
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(QColor(filled) if filled else color, 1.4))
    painter.drawEllipse(circle)
    if filled:
        painter.setBrush(QColor(filled))
        if case.state == "done":
            painter.drawEllipse(circle)
        else:
            painter.drawPie(circle, 90 * 16, 180 * 16)
    painter.setPen(color)


def _load(file: str) -> QPixmap | None:
    """Return a picture, from Qt's cache if it is there; None where there is none."""
    if not file:
        return None
    picture = QPixmapCache.find(file)
    if picture is None or picture.isNull():
        picture = QPixmap(file)
        if picture.isNull():
            return None
        QPixmapCache.insert(file, picture)
    return picture


def _row_height(view: QWidget) -> int:
    height: int = max(_PICTURE + _GAP + 2, 3 * view.fontMetrics().height() + _GAP)
    return height
