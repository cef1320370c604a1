"""The part of the Pre-train panel about which volumes are learnt from."""

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QPushButton, QVBoxLayout, QWidget

from napari_sparseseg.widgets.box_line import ElidedLabel
from napari_sparseseg.widgets.panel_parts import allow, make_arrow, make_row, make_text, make_title
from napari_sparseseg.widgets.pretrain_snapshots import PretrainState

_WHAT_FOR = (
    "A network first learns from volumes without any labels what such images look like. Afterwards a few "
    "labelled slices may be enough. The more volumes, the better."
)
_IMAGE = "Learn from the image that you see"
_PROJECT = "Learn from the other images of this project too, labelled or not"
_FOLDER = "Learn from all volumes in a folder too; they need no labels"
_NO_FOLDER = "No folder is chosen."
_NAME_WIDTH = 60


class SourcesView(QWidget):
    """Shows which volumes of a `PretrainState` are learnt from, and asks for others."""

    image_requested = Signal(bool)
    project_requested = Signal(bool)
    folder_requested = Signal(str)
    """The folder; empty for none."""

    def __init__(self) -> None:
        super().__init__()
        self._state = PretrainState()
        self.image, self.project = QCheckBox("This image"), QCheckBox()
        for box, requested in ((self.image, self.image_requested), (self.project, self.project_requested)):
            box.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # after a click the keys still reach the picture
            box.clicked.connect(lambda ticked, requested=requested: self._ask(ticked, requested))
        self.choose = QPushButton("Folder…")
        self.choose.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.choose.clicked.connect(self._ask_which_folder)
        self.folder = ElidedLabel(_NAME_WIDTH)
        self.clear = make_arrow("×", "Leave the folder out")
        self.clear.clicked.connect(lambda: self.folder_requested.emit(""))
        folder = make_row(self.choose, self.folder, self.clear)
        folder.setStretch(1, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for part in (make_title("Volumes to learn from"), make_text(_WHAT_FOR), self.image, self.project):
            layout.addWidget(part)
        layout.addLayout(folder)

    def show_state(self, state: PretrainState) -> None:
        """Show another state; nothing is asked for by it."""
        self._state = state
        self._tick(state)
        self.image.setToolTip(_IMAGE)
        count = f" ({state.project_count})" if state.project_count else ""
        self.project.setText(f"Other images of the project{count}")
        # What is ticked can always be taken back.
        allow(self.project, "" if state.uses_project else state.why_no_project, _PROJECT)
        self.choose.setToolTip(_FOLDER)
        volumes = "1 volume" if state.folder_count == 1 else f"{state.folder_count} volumes"
        name = Path(state.folder).name or state.folder
        self.folder.show_text(f"{name} · {volumes}" if state.folder else "no folder")
        self.folder.setToolTip(f"{state.folder}: {volumes}" if state.folder else _NO_FOLDER)
        allow(self.clear, "" if state.folder else _NO_FOLDER, "Do not learn from the folder")

    def _tick(self, state: PretrainState) -> None:
        self.image.setChecked(state.uses_image)
        self.project.setChecked(state.uses_project)

    def _ask(self, ticked: bool, requested: Signal) -> None:
        self._tick(self._state)  # a click only asks; what the boxes show is the state
        requested.emit(ticked)

    def _ask_which_folder(self) -> None:
        dialog = QFileDialog(self, "Folder of volumes to learn from")
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.setDirectory(self._state.folder or str(Path.home()))
        dialog.fileSelected.connect(self.folder_requested)
        dialog.open()
