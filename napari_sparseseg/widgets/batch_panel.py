"""The Batch panel: many volumes are segmented with one network, while nobody looks on."""

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices, QGuiApplication, QTextOption
from qtpy.QtWidgets import QPlainTextEdit, QVBoxLayout, QWidget

from napari_sparseseg.widgets.batch_choices_view import ChoicesView
from napari_sparseseg.widgets.batch_result_list import ResultList
from napari_sparseseg.widgets.batch_snapshots import BatchState
from napari_sparseseg.widgets.fold import Fold
from napari_sparseseg.widgets.panel_parts import (
    RunButton,
    allow,
    make_button,
    make_heading,
    make_row,
    make_text,
)
from napari_sparseseg.widgets.work_view import WorkView

_RUN = "Segment all the volumes; what is done already is not done again, and bad files stop nothing"
_STOP = "Stop; what is done stays, and the next run goes on from there"
_KEEP_OPEN = (
    "Keep this window open until it is done, or stop and run the same on the command line (below). You can "
    "go on labelling; learning rests."
)
_COMMAND = "For a night without this window, or for a cluster: the same in a terminal"
_REPORT = "All volumes with pictures, those that need a look first, in the web browser"
_NO_REPORT = "The report is written when all volumes are done."
_OUT = "Masks, tables and report"
_COMMAND_LINES = 4


class BatchPanel(QWidget):
    """Shows `BatchState`, and asks for volumes, a network, the work and its results."""

    sources_requested = Signal(object)
    """A tuple of texts, as `batch_inputs.find_inputs` takes them; empty for none."""
    network_requested = Signal(str)
    """Name of a network."""
    network_folder_requested = Signal(str)
    """Folder of a network."""
    out_requested = Signal(str)
    """Folder for the results."""
    settings_requested = Signal(object, object)
    """`BatchConfig` and `InferenceConfig`."""
    run_requested = Signal()
    cancel_requested = Signal()
    result_requested = Signal(str)
    """Name of a volume to be shown with its mask."""
    looked_at = Signal()
    """The panel has come to the front."""
    _report_asked = Signal()
    _folder_asked = Signal()
    _copy_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = BatchState()
        self.choices = ChoicesView()
        self.run = RunButton("Segment the volumes, or stop it")
        self.run.clicked.connect(self._ask_to_run)
        self.work = WorkView()
        self.keep_open = make_text(_KEEP_OPEN)
        self.command = _CommandText()
        self.copy = make_button("Copy", self._copy_asked)
        self.fold = Fold("On the command line", _COMMAND)
        self.fold.add_widget(make_text(f"{_COMMAND}:"))
        self.fold.add_widget(self.command)
        self.fold.add_widget(self.copy)
        self.heading = make_heading("Results")
        self.counts = make_text()
        self.results = ResultList()
        self.open_report = make_button("Open report", self._report_asked)
        self.open_folder = make_button("Open folder", self._folder_asked)
        self._lay_out()
        self._connect()
        self._apply(self._state)

    def show_state(self, state: BatchState) -> None:
        """Show another state; nothing is asked for by it."""
        before, self._state = self._state, state
        if state != before:
            self._apply(state)

    def showEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        super().showEvent(event)
        self.looked_at.emit()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(6)
        for part in (
            self.choices, self.run, self.work, self.keep_open, self.fold, self.heading, self.counts,
            self.results,
        ):  # fmt: skip
            layout.addWidget(part)
        layout.addLayout(make_row(self.open_report, self.open_folder))
        layout.addStretch()

    def _connect(self) -> None:
        for name in (
            "sources_requested", "network_requested", "network_folder_requested", "out_requested",
            "settings_requested",
        ):  # fmt: skip
            getattr(self.choices, name).connect(getattr(self, name))
        self.results.opened.connect(self.result_requested)
        self._report_asked.connect(lambda: _open_outside(self._state.report))
        self._folder_asked.connect(lambda: _open_outside(self._state.out))
        self._copy_asked.connect(lambda: QGuiApplication.clipboard().setText(self._state.command))

    def _apply(self, state: BatchState) -> None:
        running = state.running
        self.choices.show_state(state)
        self.run.setChecked(running)
        self.run.setText("Stop" if running else "Run")
        allow(self.run, "" if running else state.why_no_run, _STOP if running else _RUN)
        sentence = state.sentence or state.why_no_run
        self.work.show_work(running, state.progress, sentence, state.notes)
        self.keep_open.setVisible(running)
        self.command.show_text(state.command)
        self.fold.setVisible(bool(state.command))
        self.counts.setText(state.results_words)
        self.results.show_rows(state.rows)
        for part in (self.heading, self.counts, self.results, self.open_report, self.open_folder):
            part.setVisible(bool(state.rows))
        allow(self.open_report, "" if state.report else _NO_REPORT, _REPORT)
        why = state.why_no_folder or ("" if Path(state.out).is_dir() else "There is nothing in it yet.")
        allow(self.open_folder, why, _OUT)

    def _ask_to_run(self) -> None:
        (self.cancel_requested if self._state.running else self.run_requested).emit()


class _CommandText(QPlainTextEdit):
    """A command to be read and copied; long paths are broken anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setAccessibleName("The same on the command line")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAnywhere)
        self.setFixedHeight(self.fontMetrics().lineSpacing() * _COMMAND_LINES + 14)

    def show_text(self, text: str) -> None:
        """Show another command."""
        if text != self.toPlainText():
            self.setPlainText(text)


def _open_outside(path: str) -> None:
    """Open a file or folder with what the system has for it."""
    QDesktopServices.openUrl(QUrl.fromLocalFile(path))
