"""One row of the class table: key, colour, name that can be edited in place, voxels, and deletion."""

from typing import Any

from qtpy.QtCore import QEvent, QSize, Qt, Signal
from qtpy.QtGui import QAction, QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QColorDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_sparseseg.annotation import BACKGROUND, LabelClass
from napari_sparseseg.widgets.inline_question import InlineQuestion
from napari_sparseseg.widgets.panel_parts import allow

COLORS = {
    "Sky blue": "#56b4e9",
    "Orange": "#e69f00",
    "Green": "#009e73",
    "Pink": "#cc79a7",
    "Yellow": "#f0e442",
    "Blue": "#0072b2",
    "Red": "#d55e00",
    "Grey": "#999999",
}
"""Okabe & Ito (2008): distinguishable with any color vision, on dark and on light ground."""

_LONGEST_NAME = 60
_LAST_KEY = 9
_TEXT_MARGIN = 10  # pixels that a line edit keeps round its text

# The theme of napari gives each widget a ground of its own, which would hide that of the row.
_STYLE = """
ClassRow { border: 1px solid transparent; border-radius: 4px; background: transparent; }
ClassRow:hover { background: rgba(128, 128, 128, 50); }
ClassRow[chosen="true"] { background: rgba(74, 118, 240, 90); border-color: rgb(74, 118, 240); }
ClassRow:focus { border-color: rgb(128, 128, 128); }
ClassRow QLabel, ClassRow QWidget#plain { background: transparent; }
ClassRow QLineEdit:read-only { background: transparent; }
ClassRow[chosen="true"] QLineEdit { font-weight: bold; }
ClassRow QToolButton { background: transparent; border: 1px solid transparent; border-radius: 3px; }
ClassRow QToolButton:hover, ClassRow QToolButton:focus { border-color: rgb(128, 128, 128); }
ClassRow QToolButton:disabled { color: rgba(128, 128, 128, 130); }
ClassRow QToolButton::menu-indicator { image: none; }
ClassRow QLabel#key { border: 1px solid rgba(128, 128, 128, 150); border-radius: 3px; }
"""


class NameEdit(QLineEdit):
    """A name that is shown as plain text until it is edited."""

    accepted = Signal(str)
    """The name that was typed, when it is another one."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown = ""
        self.setMaxLength(_LONGEST_NAME)
        self.setFrame(False)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumWidth(40)
        self.editingFinished.connect(self.finish)
        self._set_editable(False)

    @property
    def shown_name(self) -> str:
        """The whole name, of which the text may be a part."""
        return self._shown

    @property
    def editing(self) -> bool:
        """Whether it is being typed in."""
        return not self.isReadOnly()

    def show_name(self, name: str) -> None:
        """Show another name, unless one is being typed."""
        if name != self._shown:
            self._shown = name
            self._fit()

    def begin(self) -> None:
        """Let the name be typed."""
        self._set_editable(True)
        self.setText(self._shown)
        self.setFocus(Qt.FocusReason.OtherFocusReason)
        self.selectAll()

    def finish(self) -> None:
        """Take what was typed; an empty name is not taken."""
        if not self.editing:
            return
        name = " ".join(self.text().split())
        is_new = name not in ("", self._shown)
        self._set_editable(False)
        if is_new:
            self.accepted.emit(name)

    def keyPressEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        if event.key() == Qt.Key.Key_Escape:
            self._set_editable(False)
        else:
            super().keyPressEvent(event)
        event.accept()  # nothing that is typed is a key of the viewer

    def _set_editable(self, editable: bool) -> None:
        self.setReadOnly(not editable)
        # A click on a name that is not edited is a click on the row.
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents, not editable)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus if editable else Qt.FocusPolicy.NoFocus)
        if not editable:
            self.clearFocus()
            self.deselect()
            self._fit()

    def resizeEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:  # the name of the class in use is bold
            self._fit()

    def _fit(self) -> None:
        """Show as much of the name as there is room for."""
        if not self.editing:
            room = self.width() - _TEXT_MARGIN
            self.setText(self.fontMetrics().elidedText(self._shown, Qt.TextElideMode.ElideRight, room))
            self.setCursorPosition(0)


class ClassRow(QFrame):
    """One class: its key, color, name, and how many voxels are labelled with it.

    Parameters
    ----------
    value
        The painted value; background is 1.
    parent
        Its owner in Qt.
    """

    selected = Signal(int)
    renamed = Signal(int, str)
    recolored = Signal(int, str)
    deleted = Signal(int)

    def __init__(self, value: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.value = value
        self.setStyleSheet(_STYLE)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.key = QLabel(str(value) if value <= _LAST_KEY else "")
        self.key.setObjectName("key" if value <= _LAST_KEY else "")
        self.key.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.key.setFixedSize(20, 20)
        self.swatch = QToolButton()
        self.swatch.setFixedSize(24, 24)
        self.swatch.setIconSize(QSize(16, 16))
        self.swatch.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.swatch.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.swatch.setMenu(self._make_menu())
        self.name = NameEdit()
        self.name.accepted.connect(lambda name: self.renamed.emit(self.value, name))
        self.count = QLabel()
        self.count.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.delete = QToolButton()
        self.delete.setText("×")
        self.delete.setFixedSize(22, 22)
        self.delete.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.delete.clicked.connect(self.ask)
        self.question = InlineQuestion("", "Delete", "Keep")
        self.question.accept_button.setToolTip("Delete the class, and erase what is labelled with it")
        self.question.decline_button.setToolTip("Delete nothing (Esc)")
        self.question.accepted.connect(self._delete)
        self.question.declined.connect(self._keep)
        self._content = QWidget()
        self._content.setObjectName("plain")
        row = QHBoxLayout(self._content)
        row.setContentsMargins(4, 1, 2, 1)
        row.setSpacing(4)
        for widget in (self.key, self.swatch, self.name, self.count, self.delete):
            row.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._content)
        layout.addWidget(self.question)

    def show_class(
        self, entry: LabelClass, voxels: int, chosen: bool, why_no_delete: str, boxes: int = 0
    ) -> None:
        """Show the class as it is now."""
        name = entry.name
        self.name.show_name(name)
        self.count.setText(f"{voxels:,}")
        self.count.setToolTip(f"{voxels:,} voxels are labelled as {name}")
        if self.property("color") != entry.color:
            self.setProperty("color", entry.color)
            self.swatch.setIcon(_color_icon(entry.color))
        if self.property("chosen") != chosen:
            self.setProperty("chosen", chosen)
            for widget in (self, self.name):
                widget.style().unpolish(widget)
                widget.style().polish(widget)
        self._describe(name, voxels, chosen)
        allow(self.delete, why_no_delete, f"Delete {name}; you are asked first")
        self._show_question(_question(name, voxels, boxes))
        if why_no_delete and self.question.is_asked:
            self._withdraw()

    def tab_stops(self) -> tuple[QWidget, ...]:
        """Return what the Tab key goes through, in order."""
        answers = (self.question.accept_button, self.question.decline_button)
        return self, self.swatch, self.name, self.delete, *answers

    def rename(self) -> None:
        """Let the user type another name; background keeps its own."""
        if self.value != BACKGROUND:
            self.name.begin()

    def ask(self) -> None:
        """Ask whether to delete the class; nothing else waits for the answer."""
        if self.delete.isEnabled():
            self.name.finish()
            self._content.hide()
            self.question.ask()

    def mousePressEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        if event.button() == Qt.MouseButton.LeftButton and not self.question.is_asked:
            self.selected.emit(self.value)

    def mouseDoubleClickEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        if event.button() == Qt.MouseButton.LeftButton and not self.question.is_asked:
            self.rename()

    def keyPressEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        keys, pressed = Qt.Key, event.key()
        if not self.hasFocus():
            event.ignore()
        elif pressed in (keys.Key_Space, keys.Key_Return, keys.Key_Enter):
            self.selected.emit(self.value)
        elif pressed == keys.Key_F2:
            self.rename()
        elif pressed == keys.Key_Delete:
            self.ask()
        else:
            event.ignore()  # napari's keys work here too

    def _describe(self, name: str, voxels: int, chosen: bool) -> None:
        paint = f"Click, or press {self.value}, to paint" if self.value <= _LAST_KEY else "Click to paint"
        if self.value == BACKGROUND:
            tip = f"{paint} background: whatever is none of the other classes."
        else:
            tip = f"{paint} {name}; double-click (or F2) to rename it."
        self.setToolTip(tip)
        self.setAccessibleName(f"{name}, {voxels:,} voxels labelled{', in use' if chosen else ''}")
        self.swatch.setToolTip(f"Choose the colour of {name}")
        self.swatch.setAccessibleName(f"Colour of {name}")
        self.name.setAccessibleName(f"Name of {name}")
        self.delete.setAccessibleName(f"Delete {name}")

    def _show_question(self, words: str) -> None:
        """Keep the question true, also while it is open and painting goes on."""
        if self.question.accessibleName() != words:
            self.question.setAccessibleName(words)
            self.question.findChild(QLabel).setText(words)

    def _delete(self) -> None:
        self._withdraw()
        self.deleted.emit(self.value)

    def _keep(self) -> None:
        self._withdraw()
        self.setFocus(Qt.FocusReason.OtherFocusReason)

    def _withdraw(self) -> None:
        self.question.withdraw()
        self._content.show()

    def _make_menu(self) -> QMenu:
        menu = QMenu(self)
        for name, color in COLORS.items():
            menu.addAction(_color_icon(color), name).setData(color)
        menu.addSeparator()
        menu.addAction("Another colour…")
        menu.triggered.connect(self._take_color)
        return menu

    def _take_color(self, action: QAction) -> None:
        if action.data():
            self.recolored.emit(self.value, action.data())
        else:
            self._open_dialog()

    def _open_dialog(self) -> None:
        """Let any color be chosen; the window stays usable."""
        dialog = self.findChild(QColorDialog)
        if dialog is None:
            dialog = QColorDialog(self)
            dialog.setOption(QColorDialog.ColorDialogOption.DontUseNativeDialog)
            dialog.colorSelected.connect(lambda color: self.recolored.emit(self.value, color.name()))
        dialog.setWindowTitle(f"Colour of {self.name.shown_name}")
        dialog.setCurrentColor(QColor(str(self.property("color"))))
        dialog.show()
        dialog.raise_()


def _question(name: str, voxels: int, boxes: int) -> str:
    if voxels == boxes == 0:
        return f"Delete {name}? Nothing is labelled with it."
    parts = [f"its {voxels:,} labelled voxel{'s' * (voxels != 1)}"] if voxels else []
    parts += [f"its {boxes} box{'es' * (boxes != 1)}"] if boxes else []
    return f"Delete {name} and {' and '.join(parts)}? This cannot be undone."


def _color_icon(color: str) -> QIcon:
    pixmap = QPixmap(32, 32)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QColor(128, 128, 128))
    painter.setBrush(QColor(color))
    painter.drawRoundedRect(1, 1, 30, 30, 6, 6)
    painter.end()
    return QIcon(pixmap)
