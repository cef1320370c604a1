"""The head of the dock: the project's name and menu, what is saved, the offer to restore, help."""

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_sparseseg.project import ProjectSummary
from napari_sparseseg.widgets.shortcuts import SHORTCUTS
from napari_sparseseg.widgets.snapshots import DockState


class Header(QWidget):
    """Shows `DockState`, and asks for projects.

    Parameters
    ----------
    find_recent
        Called when the menu opens; returns the projects to list.
    parent
        Its owner in Qt.
    """

    restore_requested = Signal()
    dismiss_requested = Signal()
    begin_requested = Signal(object)
    """Folder for the new project, None for where projects are kept."""
    open_requested = Signal(object)
    """Folder of the project."""

    def __init__(
        self, find_recent: Callable[[], list[ProjectSummary]], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._find_recent = find_recent
        self._project = QToolButton()
        self._project.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._project.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        self._project.setToolTip(
            "The project: everything you label is saved in it. Click to begin or open another."
        )
        self._project.setAccessibleName("Project menu")
        self._project.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._menu = QMenu(self)
        self._menu.aboutToShow.connect(self._fill_menu)
        self._project.setMenu(self._menu)
        self._help = QToolButton()
        self._help.setText("?")
        self._help.setToolTip("List the keyboard shortcuts")
        self._help.setAccessibleName("Keyboard shortcuts")
        self._help.clicked.connect(self.show_shortcuts)
        self._saved = QLabel()
        self._saved.setWordWrap(True)
        self._banner = _Banner()
        self._banner.restore.clicked.connect(self.restore_requested)
        self._banner.dismiss.clicked.connect(self.dismiss_requested)
        self._dialog: QDialog | None = None
        row = QHBoxLayout()
        row.addWidget(self._project, 1)
        row.addWidget(self._help)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 0)
        layout.setSpacing(3)
        layout.addLayout(row)
        layout.addWidget(self._saved)
        layout.addWidget(self._banner)
        self.show_state(DockState())

    def show_state(self, state: DockState) -> None:
        """Show another state."""
        name = state.project or "No project yet"
        metrics = self._project.fontMetrics()
        self._project.setText(metrics.elidedText(name, Qt.TextElideMode.ElideMiddle, 240))
        if self._saved.text() != state.saved:
            self._saved.setText(state.saved)
        self._banner.show_offer(state.offer)

    def show_shortcuts(self) -> None:
        """Open the list of shortcuts; the window stays usable."""
        if self._dialog is None:
            self._dialog = _make_help(self)
        self._dialog.show()
        self._dialog.raise_()

    def _fill_menu(self) -> None:
        self._menu.clear()
        self._menu.addAction("New project", lambda: self.begin_requested.emit(None))
        self._menu.addAction(
            "New project in a folder…", lambda: self._choose_folder(self.begin_requested.emit)
        )
        self._menu.addAction("Open a folder…", lambda: self._choose_folder(self.open_requested.emit))
        recent = self._find_recent()
        if recent:
            self._menu.addSeparator()
        for summary in recent:
            self._menu.addAction(_describe(summary), _Opener(self, summary.folder)).setEnabled(
                not summary.in_use
            )

    def _choose_folder(self, chosen: Callable[[object], None]) -> None:
        dialog = QFileDialog(self, "Choose a folder")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda path: chosen(Path(path)))
        dialog.open()


class _Opener:
    def __init__(self, header: Header, folder: Path) -> None:
        self._header = header
        self._folder = folder

    def __call__(self) -> None:
        self._header.open_requested.emit(self._folder)


class _Banner(QFrame):
    """A question that does not stop the work."""

    def __init__(self) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self._text = QLabel()
        self._text.setWordWrap(True)
        self.restore = QPushButton("Restore")
        self.restore.setToolTip("Open that session: its image, its labels, and what was learnt")
        self.dismiss = QPushButton("Not now")
        self.dismiss.setToolTip("Do not ask again; the session stays in the project menu")
        row = QHBoxLayout()
        row.addWidget(self.restore)
        row.addWidget(self.dismiss)
        row.addStretch()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addWidget(self._text)
        layout.addLayout(row)
        self.hide()

    def show_offer(self, offer: str) -> None:
        """Show a question, or nothing."""
        self._text.setText(offer)
        self.setVisible(bool(offer))


def _describe(summary: ProjectSummary) -> str:
    image = summary.cases[-1] if summary.cases else "empty"
    where = " (open elsewhere)" if summary.in_use else ""
    return f"{summary.changed:%d %b %H:%M} · {image} · {summary.labels} strokes{where}".replace("&", "&&")


def _make_help(parent: QWidget) -> QDialog:
    dialog = QDialog(parent)
    dialog.setWindowTitle("Keyboard shortcuts")
    grid = QGridLayout()
    for row, shortcut in enumerate(SHORTCUTS):
        key = QLabel(f"<b>{shortcut.key}</b>")
        grid.addWidget(key, row, 0)
        grid.addWidget(QLabel(shortcut.help), row, 1)
    grid.setColumnStretch(1, 1)
    grid.setHorizontalSpacing(18)
    grid.setVerticalSpacing(3)
    note = QLabel("They work while the labels, the boxes or the image are selected.")
    buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
    buttons.rejected.connect(dialog.close)
    layout = QVBoxLayout(dialog)
    layout.addLayout(grid)
    layout.addWidget(note)
    layout.addWidget(buttons)
    return dialog
