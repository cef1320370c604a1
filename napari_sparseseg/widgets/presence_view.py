"""The part of the Class maps panel that says in which volumes and slices a class is."""

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_sparseseg.widgets.class_choice import ClassChoice
from napari_sparseseg.widgets.image_label_list import ImageLabelList
from napari_sparseseg.widgets.open_dialog import OpenDialog
from napari_sparseseg.widgets.panel_parts import allow, make_button, make_row, make_text, make_title
from napari_sparseseg.widgets.save_dialog import Formats, SaveDialog
from napari_sparseseg.widgets.snapshots import ORIENTATIONS, ClassMapsState
from napari_sparseseg.widgets.wheel_guard import WheelGuard

_FORMATS: Formats = {"CSV": (".csv",)}
_HOW = "Go to the first slice with it and press “Begins here”; then to the last one and press “Ends here”."
_NO_IMAGE = "Open an image first."
_NO_LABELS = "Nothing was said yet."


class PresenceView(QWidget):
    """Shows where the classes of a `ClassMapsState` are said to be, and asks for more to be said."""

    class_select_requested = Signal(int)
    """Painted value."""
    volume_label_requested = Signal(bool)
    """Whether the class is in the volume."""
    begin_requested = Signal()
    end_requested = Signal()
    label_delete_requested = Signal(int)
    """Number of a label."""
    slice_requested = Signal(int, int)
    """Axis and index."""
    import_requested = Signal(str)
    """File to read."""
    export_requested = Signal(str)
    """File to write."""

    def __init__(self) -> None:
        super().__init__()
        self._state = ClassMapsState()
        self.choice = ClassChoice("Class that is meant")
        self.choice.class_requested.connect(self.class_select_requested)
        self.choice.setToolTip("Class that you say something about, and whose map is made")
        WheelGuard(self).protect(self.choice)
        volume = QLabel("Whole volume:")
        self.is_here = QPushButton("It is here")
        self.is_not_here = QPushButton("It is not here")
        self.is_here.clicked.connect(lambda: self.volume_label_requested.emit(True))
        self.is_not_here.clicked.connect(lambda: self.volume_label_requested.emit(False))
        self.slice_text = QLabel()
        self.begins = make_button("Begins here", self.begin_requested)
        self.ends = make_button("Ends here", self.end_requested)
        self.hint = make_text()
        self.list = ImageLabelList()
        self.list.slice_requested.connect(self.slice_requested)
        self.list.delete_requested.connect(self.label_delete_requested)
        self.import_file, self.export_file = QPushButton("Import…"), QPushButton("Export…")
        self.import_file.clicked.connect(self._ask_what_to_import)
        self.export_file.clicked.connect(self._ask_where_to_export)
        for button in (self.is_here, self.is_not_here, self.import_file, self.export_file):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # after a click the keys still reach the picture
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(make_title("What is where"))
        layout.addWidget(self.choice)
        whole = make_row(volume, self.is_here, self.is_not_here)
        for place in (1, 2):
            whole.setStretch(place, 1)
        layout.addLayout(whole)
        layout.addWidget(self.slice_text)
        layout.addLayout(make_row(self.begins, self.ends))
        layout.addWidget(self.hint)
        layout.addWidget(self.list)
        layout.addLayout(make_row(self.import_file, self.export_file))

    def show_state(self, state: ClassMapsState) -> None:
        """Show what another state says; nothing is asked for by it."""
        self._state = state
        self.choice.show_classes(state.table, state.selected)
        place = f"{ORIENTATIONS[state.orientation].capitalize()} slice {state.slice_index}"
        self.slice_text.setText(f"{place} / {state.slice_count - 1}:" if state.slice_count else "Slice:")
        why, here = state.why_no_label, place[:1].lower() + place[1:]
        allow(self.is_here, why, "The class is somewhere in this volume")
        allow(self.is_not_here, why, "The class is nowhere in this volume")
        allow(self.begins, why, f"The class is in slices from {here} on")
        allow(self.ends, state.why_no_end, f"The class is in slices up to {here}")
        begun = f"Begins at slice {state.begun}: go to the last slice and press “Ends here”."
        how = "" if state.rows else _HOW  # who has done it once knows
        self.hint.setText(why or (how if state.begun is None else begun))
        self.hint.setVisible(bool(self.hint.text()))
        self.list.show_labels(state.rows, state.table)
        self.list.setVisible(bool(state.rows))
        allow(self.import_file, "" if state.slice_count else _NO_IMAGE, "Read what is where from a CSV file")
        allow(self.export_file, "" if state.rows else _NO_LABELS, "Write what is where to a CSV file")

    def _ask_what_to_import(self) -> None:
        OpenDialog(
            "Import what is where", self._state.folder, self.import_requested.emit, "CSV (*.csv)", self
        ).open()

    def _ask_where_to_export(self) -> None:
        folder = Path(self._state.folder) if self._state.folder else Path.home()
        suggestion = folder / "image_labels"
        SaveDialog("Export what is where", suggestion, self.export_requested.emit, _FORMATS, self).open()
