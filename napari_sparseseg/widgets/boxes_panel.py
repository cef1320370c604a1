"""The Boxes panel: boxes round objects, masks made from them, and rounds of learning from these."""

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QLayout, QPushButton, QVBoxLayout, QWidget

from napari_sparseseg.widgets.box_list import BoxList
from napari_sparseseg.widgets.box_settings import BoxSettings
from napari_sparseseg.widgets.class_choice import ClassChoice
from napari_sparseseg.widgets.open_dialog import OpenDialog
from napari_sparseseg.widgets.panel_parts import (
    RunButton,
    allow,
    make_choice,
    make_column,
    make_heading,
    make_row,
    make_text,
    make_title,
)
from napari_sparseseg.widgets.rounds_view import RoundsView
from napari_sparseseg.widgets.save_dialog import Formats, SaveDialog
from napari_sparseseg.widgets.snapshots import BoxesState
from napari_sparseseg.widgets.truth_choice import TruthChoice
from napari_sparseseg.widgets.wheel_guard import WheelGuard
from napari_sparseseg.widgets.work_view import WorkView

_FORMATS: Formats = {"CSV": (".csv",), "JSON": (".json",)}

_DRAW = (
    "Drag a rectangle round the object on a slice; then another one on its first and its last slice, "
    "or type the slices below"
)
_HOW_TO_DRAW = (
    "Drag a rectangle round the object; drag again on its first and last slice, or type the slices."
)
_WHAT_FOR = "Draw a box round each object: seconds of work, and masks are made from the boxes."
_NO_IMAGE = "Open an image first."
_NO_BOXES = "There are no boxes yet."
_NONE_CHOSEN = "Choose a box in the list first."


class BoxesPanel(QWidget):
    """Shows `BoxesState`, and asks for boxes, for masks made from them, and for a round to be kept."""

    class_select_requested = Signal(int)
    """Painted value of the class that a new box gets."""
    draw_requested = Signal(bool)
    box_chosen = Signal(int)
    """Number of a box, as in the signals below."""
    box_class_requested = Signal(int, int)
    """Box and painted value."""
    box_range_requested = Signal(int, int, int)
    """Box, first and last slice of the visible orientation, both included."""
    box_delete_requested = Signal(int)
    import_requested = Signal(str)
    """File to read."""
    export_requested = Signal(str)
    """File to write."""
    settings_requested = Signal(object, object, object)
    """`BoxConfig`, `RecursionConfig` and `CrfConfig`."""
    run_requested = Signal()
    cancel_requested = Signal()
    round_shown_requested = Signal(int)
    """Number of a round."""
    keep_requested = Signal(int)
    """Number of a round."""
    clear_kept_requested = Signal()
    truth_requested = Signal(str)
    """Entry of `BoxesState.truths`."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = BoxesState()
        self._guard = WheelGuard(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(6)
        layout.addWidget(make_title("Boxes"))
        layout.addLayout(self._make_drawing())
        layout.addLayout(self._make_boxes())
        layout.addWidget(make_heading("Masks from boxes"))
        layout.addLayout(self._make_masks())
        layout.addWidget(self._make_rounds())
        layout.addStretch()
        self._apply(self._state)

    def show_state(self, state: BoxesState) -> None:
        """Show another state; nothing is asked for by it."""
        before, self._state = self._state, state
        if state != before:
            self._apply(state)

    def _make_drawing(self) -> QLayout:
        self.new_class = ClassChoice("Class of a new box")
        self.new_class.class_requested.connect(self.class_select_requested)
        self.draw = make_choice("Draw boxes")
        self.draw.clicked.connect(self._ask_to_draw)
        self.hint = make_text()
        return make_column(make_row(self.new_class, self.draw), self.hint)

    def _make_boxes(self) -> QLayout:
        self.boxes = BoxList()
        self.boxes.chosen.connect(self.box_chosen)
        self.boxes.range_requested.connect(self.box_range_requested)
        self.boxes.delete_requested.connect(self.box_delete_requested)
        self.chosen_text = QLabel()
        self.chosen_class = ClassChoice("Class of the chosen box")
        self.chosen_class.class_requested.connect(
            lambda value: self.box_class_requested.emit(self._state.chosen, value)
        )
        self.chosen_text.setBuddy(self.chosen_class)
        for box in (self.new_class, self.chosen_class):
            self._guard.protect(box)
        chosen = make_row(self.chosen_text, self.chosen_class)
        chosen.setStretch(1, 1)
        self.from_here, self.to_here = QPushButton("From this slice"), QPushButton("To this slice")
        self.from_here.clicked.connect(lambda: self._ask_range(begins=True))
        self.to_here.clicked.connect(lambda: self._ask_range(begins=False))
        self.import_file, self.export_file = QPushButton("Import…"), QPushButton("Export…")
        self.import_file.clicked.connect(self._ask_what_to_import)
        self.export_file.clicked.connect(self._ask_where_to_export)
        for button in (self.from_here, self.to_here, self.import_file, self.export_file):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # after a click the keys still reach the picture
        self.editing = QWidget()
        rows = QVBoxLayout(self.editing)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(6)
        rows.addWidget(self.boxes)
        rows.addLayout(chosen)
        rows.addLayout(make_row(self.from_here, self.to_here))
        return make_column(self.editing, make_row(self.import_file, self.export_file))

    def _make_masks(self) -> QLayout:
        state = self._state
        self.settings = BoxSettings(state.boxes, state.recursion, state.crf)
        self.settings.settings_requested.connect(self.settings_requested)
        self.truth = TruthChoice()
        self.truth.name_requested.connect(self.truth_requested)
        self._guard.protect(self.truth)
        label = QLabel("Compare rounds with")
        label.setBuddy(self.truth)
        compared = make_row(label, self.truth)
        compared.setStretch(1, 1)
        self.run = RunButton("Make masks, or stop making them")
        self.run.clicked.connect(self._ask_to_run)
        self.work = WorkView()
        return make_column(self.settings, compared, self.run, self.work)

    def _make_rounds(self) -> QWidget:
        self.rounds = RoundsView()
        self.rounds.shown_requested.connect(self.round_shown_requested)
        self.rounds.keep_requested.connect(self.keep_requested)
        self.rounds.clear_kept_requested.connect(self.clear_kept_requested)
        return self.rounds

    def _apply(self, state: BoxesState) -> None:
        self.new_class.show_classes(state.table, state.selected)
        self.new_class.setToolTip("Class of the next box")
        self.draw.setChecked(state.drawing)
        allow(self.draw, "" if state.drawing else state.why_no_draw, _DRAW)
        self.hint.setText(state.why_no_draw or (_HOW_TO_DRAW if state.drawing else _WHAT_FOR))
        self.boxes.show_boxes(state.rows, state.table, state.chosen, state.slice_count)
        self.editing.setVisible(bool(state.rows))
        self._show_chosen(state)
        allow(self.import_file, "" if state.slice_count else _NO_IMAGE, "Read boxes from a CSV or JSON file")
        allow(self.export_file, "" if state.rows else _NO_BOXES, "Write all boxes to a CSV or JSON file")
        self.settings.show_settings(state.boxes, state.recursion, state.crf)
        self.truth.show_state(state)
        self._show_run(state)
        self.rounds.show_state(state)

    def _show_chosen(self, state: BoxesState) -> None:
        row = next((row for row in state.rows if row.number == state.chosen), None)
        self.chosen_text.setText(f"Box {row.number} is" if row else "Chosen box")
        self.chosen_class.show_classes(state.table, row.value if row else None)
        why = "" if row else _NONE_CHOSEN
        allow(self.chosen_class, why, "Give the chosen box another class")
        here = f"the slice you see ({state.slice_index})"
        allow(self.from_here, why, f"The chosen box begins on {here}")
        allow(self.to_here, why, f"The chosen box ends on {here}")

    def _show_run(self, state: BoxesState) -> None:
        self.run.setChecked(state.running)
        if state.running:
            self.run.setText("Stop")
            allow(self.run, "", "Stop; the masks made so far stay")
        else:
            self.run.setText("Make masks")
            allow(self.run, state.why_no_run, "Make a mask of the object in each box; your labels stay")
        sentence = state.sentence or ("" if state.running else state.why_no_run)
        self.work.show_work(state.running, state.progress, sentence, state.notes)

    def _ask_to_draw(self) -> None:
        self.draw.setChecked(self._state.drawing)  # a click only asks; what the button shows is the state
        self.draw_requested.emit(not self._state.drawing)

    def _ask_to_run(self) -> None:
        (self.cancel_requested if self._state.running else self.run_requested).emit()

    def _ask_range(self, begins: bool) -> None:
        """Let the chosen box begin or end on the visible slice; its other end follows where it is passed."""
        here = self._state.slice_index
        row = next(row for row in self._state.rows if row.number == self._state.chosen)
        reach = (here, max(here, row.last)) if begins else (min(here, row.first), here)
        self.box_range_requested.emit(row.number, *reach)

    def _ask_what_to_import(self) -> None:
        OpenDialog(
            "Import boxes", self._state.folder, self.import_requested.emit, "Boxes (*.csv *.json)", self
        ).open()

    def _ask_where_to_export(self) -> None:
        folder = Path(self._state.folder) if self._state.folder else Path.home()
        SaveDialog("Export boxes", folder / "boxes", self.export_requested.emit, _FORMATS, self).open()
