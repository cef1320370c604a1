"""The part of the Batch panel about what is chosen: volumes, network, folder and settings."""

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.settings import InferenceConfig
from napari_sparseseg.widgets.batch_snapshots import BatchState
from napari_sparseseg.widgets.batch_words import FORMAT_WORDS
from napari_sparseseg.widgets.box_line import ElidedLabel
from napari_sparseseg.widgets.fold import Fold
from napari_sparseseg.widgets.named_choice import NamedChoice
from napari_sparseseg.widgets.panel_parts import (
    allow,
    make_arrow,
    make_button,
    make_heading,
    make_row,
    make_text,
    make_title,
)
from napari_sparseseg.widgets.settings_form import DEVICE_WORDS, SettingsForm
from napari_sparseseg.widgets.steady_text import SteadyText
from napari_sparseseg.widgets.wheel_guard import WheelGuard

_WHAT_FOR = "One network segments many volumes by itself, overnight if need be. A bad file stops nothing."
_FOLDER = "All volumes in a folder and the folders in it; of DICOM files, each series"
_FILES = "Volumes one by one"
_LIST = "A table (.csv) with a column image, and a column name if wanted"
_NO_VOLUMES = "No volumes are chosen."
_NETWORK = "Folder of a network that Export model, or the command line, has written"
_OUT = "Folder for masks, report and tables"
_WARNING = "background: rgba(219, 109, 40, 90); padding: 4px; border-radius: 3px;"
_NAME_WIDTH = 60


class ChoicesView(QWidget):
    """Shows what is chosen in a `BatchState`, and asks for other things."""

    sources_requested = Signal(object)
    """A tuple of texts, as `batch_inputs.find_inputs` takes them; empty for none."""
    network_requested = Signal(str)
    network_folder_requested = Signal(str)
    out_requested = Signal(str)
    settings_requested = Signal(object, object)
    """`BatchConfig` and `InferenceConfig`."""
    _folder_asked = Signal()
    _files_asked = Signal()
    _list_asked = Signal()
    _network_asked = Signal()
    _out_asked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._state = BatchState()
        self.folder = make_button("Folder…", self._folder_asked)
        self.files = make_button("Files…", self._files_asked)
        self.table = make_button("List (CSV)…", self._list_asked)
        self.sources = ElidedLabel(_NAME_WIDTH)
        self.clear = make_arrow("×", "Leave these volumes out")
        self.network = NamedChoice("Network that segments", "No network yet")
        WheelGuard(self).protect(self.network)
        self.other = make_button("Other…", self._network_asked)
        self.about = SteadyText("What is known of the network", lines=3)
        self.choose_out = make_button("Folder…", self._out_asked)
        self.out = ElidedLabel(_NAME_WIDTH)
        self.out_warning = make_text()
        self.out_warning.setStyleSheet(f"QLabel {{ {_WARNING} }}")
        self.form = SettingsForm(self._state.config, words={"formats": FORMAT_WORDS})
        self.inference_form = SettingsForm(self._state.inference, words={"device": DEVICE_WORDS})
        self.fold = Fold(
            "Files and settings", "What is written, and how it is segmented; the defaults suit most"
        )
        self.fold.add_widget(self.form)
        self.fold.add_widget(make_text("As in the Predict panel:"))
        self.fold.add_widget(self.inference_form)
        self._lay_out()
        self._connect()

    def show_state(self, state: BatchState) -> None:
        """Show another state; nothing is asked for by it."""
        self._state = state
        why = state.why_no_change
        for button, tip in ((self.folder, _FOLDER), (self.files, _FILES), (self.table, _LIST)):
            allow(button, why, tip)
        self.sources.show_text(state.sources_words or _NO_VOLUMES)
        self.sources.setToolTip("\n".join(state.sources[:20]) or _NO_VOLUMES)
        allow(self.clear, why or ("" if state.sources else _NO_VOLUMES), "Choose no volumes")
        self.network.show_names(state.networks, state.network)
        allow(self.network, why or ("" if state.networks else state.network_words), state.network_words)
        allow(self.other, why, _NETWORK)
        self.about.show_text(state.network_words)
        allow(self.choose_out, why, _OUT)
        self.out.show_text(Path(state.out).name or state.out or "no folder")
        self.out.setToolTip(state.out or state.why_no_folder)
        self.out_warning.setText(state.out_warning)
        self.out_warning.setVisible(bool(state.out_warning))
        self.form.show_config(state.config)
        self.inference_form.show_config(state.inference)
        self.fold.setEnabled(not why)
        dicom = self.form.editor("formats").box("dicom_seg")
        allow(
            dicom, "" if dicom.isChecked() else state.why_no_dicom, "On the grid of its series, as DICOM SEG"
        )

    def _lay_out(self) -> None:
        chosen = make_row(self.sources, self.clear)
        network = make_row(self.network, self.other)
        out = make_row(self.choose_out, self.out)
        for row, stretched in ((chosen, 0), (network, 0), (out, 1)):
            row.setStretch(stretched, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for part in (
            make_title("Volumes to segment"), make_text(_WHAT_FOR),
            make_row(self.folder, self.files, self.table), chosen, make_heading("Network"), network,
            self.about, make_heading("Results go to"), out, self.out_warning, self.fold,
        ):  # fmt: skip
            if isinstance(part, QWidget):
                layout.addWidget(part)
            else:
                layout.addLayout(part)

    def _connect(self) -> None:
        self._folder_asked.connect(lambda: self._ask_folder("Folder of volumes", self._take_source))
        self._files_asked.connect(lambda: self._ask_files("Volumes", QFileDialog.FileMode.ExistingFiles))
        self._list_asked.connect(
            lambda: self._ask_files("List of volumes", QFileDialog.FileMode.ExistingFile, "Lists (*.csv)")
        )
        self._network_asked.connect(
            lambda: self._ask_folder("Folder of a network", self.network_folder_requested.emit)
        )
        self._out_asked.connect(lambda: self._ask_folder("Folder for the results", self.out_requested.emit))
        self.clear.clicked.connect(lambda: self.sources_requested.emit(()))
        self.network.name_requested.connect(self.network_requested)
        self.form.changed.connect(lambda config: self._ask(config, self._state.inference))
        self.inference_form.changed.connect(lambda inference: self._ask(self._state.config, inference))

    def _ask(self, config: BatchConfig, inference: InferenceConfig) -> None:
        self.settings_requested.emit(config, inference)

    def _take_source(self, folder: str) -> None:
        self.sources_requested.emit((folder,))

    def _ask_folder(self, title: str, chosen: object) -> None:
        dialog = self._make_dialog(title, QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.fileSelected.connect(chosen)
        dialog.open()

    def _ask_files(self, title: str, mode: QFileDialog.FileMode, names: str = "") -> None:
        dialog = self._make_dialog(title, mode)
        if names:
            dialog.setNameFilters([names, "All files (*)"])
        dialog.filesSelected.connect(lambda files: self.sources_requested.emit(tuple(files)))
        dialog.open()

    def _make_dialog(self, title: str, mode: QFileDialog.FileMode) -> QFileDialog:
        dialog = QFileDialog(self, title)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.setFileMode(mode)
        dialog.setDirectory(self._start())
        return dialog

    def _start(self) -> str:
        """Return the folder that a dialog begins in: beside what was chosen last."""
        for text in (*self._state.sources[:1], self._state.out):
            parent = Path(text).parent
            if text and parent.is_dir():
                return str(parent)
        return str(Path.home())
