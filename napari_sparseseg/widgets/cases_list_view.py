"""The part of the Cases panel about which cases there are, and which one is opened."""

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_sparseseg.cohort_records import CohortCase
from napari_sparseseg.widgets.case_list import CaseList
from napari_sparseseg.widgets.cohort_snapshots import CasesState
from napari_sparseseg.widgets.named_choice import NamedChoice
from napari_sparseseg.widgets.panel_parts import allow, make_row, make_text, make_title
from napari_sparseseg.widgets.steady_text import SteadyText

_EMPTY = (
    "Add the scans of your study here, or drop files, a folder or a table (CSV) on this panel. Nothing is "
    "copied; labels are kept for each scan."
)
_NONE_FIT = "No case has this state and these words in its name."
_FILTER_WORDS = {"all": "All", "unlabelled": "Unlabelled", "work": "In work", "done": "Done"}
_MARK_ONE = "Choose a case in the list first."
_ADD_STYLE = """
QToolButton {
    background-color: #2a6fc0; color: white; border-radius: 3px; font-weight: 600;
    padding: 3px 18px 3px 8px; /* else the arrow hides the text */
}
QToolButton:hover { background-color: #3a80d2; }
"""
_TABLES = "Tables (*.csv)"


class CasesListView(QWidget):
    """Shows the cases of a `CasesState`, and asks for others, for one to be opened or marked as done."""

    add_requested = Signal(object)
    """Files, folders and tables."""
    remove_requested = Signal(object)
    """Keys of cases."""
    done_requested = Signal(object, bool)
    """Keys of cases, and whether they are done."""
    filter_requested = Signal(str)
    search_requested = Signal(str)
    open_requested = Signal(str)
    next_requested = Signal()
    previous_requested = Signal()
    pictures_wanted = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._state = CasesState()
        self.add = QToolButton()
        self.add.setText("Add")
        self.add.setStyleSheet(_ADD_STYLE)
        self.add.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.add.setToolTip("Add scans to the list; they stay where they are")
        self.add.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.menu = QMenu(self)
        self.menu.addAction("Files…", lambda: self._ask(QFileDialog.FileMode.ExistingFiles))
        self.menu.addAction("Folder, or DICOM folder…", lambda: self._ask(QFileDialog.FileMode.Directory))
        self.menu.addAction("Table (CSV)…", lambda: self._ask(QFileDialog.FileMode.ExistingFile, _TABLES))
        self.add.setMenu(self.menu)
        self.filter = NamedChoice("Which cases are shown")
        self.filter.name_requested.connect(self.filter_requested)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search…")
        self.search.setClearButtonEnabled(True)
        self.search.setAccessibleName("Words in the names of the cases")
        self.search.textEdited.connect(self.search_requested)
        self.explanation = make_text(_EMPTY)
        self.explanation.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.list = CaseList()
        self.list.open_requested.connect(self.open_requested)
        self.list.pictures_wanted.connect(self.pictures_wanted)
        self.list.marked_changed.connect(self._show_marked)
        self.open, self.done, self.remove = (QPushButton(text) for text in ("Open", "Mark as done", "Remove"))
        self.previous, self.next = QPushButton("◀ Previous"), QPushButton("Next ▶")
        for button in (self.open, self.done, self.remove, self.previous, self.next):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.previous.setAccessibleName("Open the case before")
        self.next.setAccessibleName("Open the next case")
        self.open.clicked.connect(lambda: self._with_one(self.open_requested))
        self.done.clicked.connect(self._ask_done)
        self.remove.clicked.connect(lambda: self.remove_requested.emit(self._marked_keys()))
        self.previous.clicked.connect(lambda: self.previous_requested.emit())
        self.next.clicked.connect(lambda: self.next_requested.emit())
        self.busy = SteadyText("What is being read", lines=1)
        self._lay_out()

    def show_state(self, state: CasesState) -> None:
        """Show another state; nothing is asked for by it."""
        self._state = state
        counts = state.counts
        words = {name: f"{text} ({counts.get(name, 0)})" for name, text in _FILTER_WORDS.items()}
        self.filter.show_names(words, state.filter)
        if state.search != self.search.text() and not self.search.hasFocus():
            self.search.setText(state.search)
        some = counts.get("all", 0) > 0
        self.explanation.setText(_NONE_FIT if some else _EMPTY)
        self.explanation.setVisible(not state.rows)
        self.list.setVisible(bool(state.rows))
        self.list.show_cases(state.rows, state.opened, state.opening)
        for part in (self.filter, self.search):
            part.setEnabled(some)
        self.busy.show_text(state.busy)
        allow(self.next, state.why_no_next, "Open the next case that the list shows (Page Down)")
        allow(self.previous, state.why_no_previous, "Open the case before (Page Up)")
        self._show_marked()

    def drop(self, paths: list[str]) -> None:
        """Take in files that were dropped."""
        if paths:
            self.add_requested.emit(tuple(paths))

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.addWidget(make_title("Cases of this project"), 1)
        head.addWidget(self.add)
        which = make_row(self.filter, self.search)
        which.setStretch(0, 3)
        which.setStretch(1, 4)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        self.search.setMinimumWidth(60)
        layout.addLayout(head)
        layout.addLayout(which)
        layout.addWidget(self.explanation, 1)
        layout.addWidget(self.list, 1)
        layout.addWidget(self.busy)
        layout.addLayout(make_row(self.open, self.previous, self.next))
        layout.addLayout(make_row(self.done, self.remove))

    def _show_marked(self) -> None:
        """Let the buttons mean the cases that are marked."""
        marked = self._marked()
        many = len(marked) > 1
        why = "" if marked else _MARK_ONE
        allow(self.open, "Choose one case only." if many else why, "Open this case (double click, Enter)")
        all_done = bool(marked) and all(case.done for case in marked)
        self.done.setText("Mark as not done" if all_done else "Mark as done")
        it = f"these {len(marked)} cases" if many else "this case"
        allow(
            self.done, why, f"Note that {it} still need work" if all_done else f"Note that {it} is finished"
        )
        allow(self.remove, why, f"Take {it} from the list; neither files nor labels are deleted")

    def _marked(self) -> tuple[CohortCase, ...]:
        return self.list.marked if self._state.rows else ()

    def _marked_keys(self) -> tuple[str, ...]:
        return tuple(case.key for case in self._marked())

    def _with_one(self, requested: Any) -> None:
        keys = self._marked_keys()
        if len(keys) == 1:
            requested.emit(keys[0])

    def _ask_done(self) -> None:
        marked = self._marked()
        self.done_requested.emit(self._marked_keys(), not all(case.done for case in marked))

    def _ask(self, mode: QFileDialog.FileMode, names: str = "") -> None:
        dialog = QFileDialog(self, "Add cases")
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.setFileMode(mode)
        if names:
            dialog.setNameFilters([names, "All files (*)"])
        dialog.setDirectory(self._state.folder or str(Path.home()))
        dialog.filesSelected.connect(lambda paths: self.drop(list(paths)))
        dialog.open()
