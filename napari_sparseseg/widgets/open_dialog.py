"""Asks which file to read; the panel's work goes on meanwhile."""

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QWidget


class OpenDialog(QFileDialog):
    """Asks for a file that exists.

    Parameters
    ----------
    title
        What is read.
    folder
        Where to begin; empty for the user's own folder.
    chosen
        Called with the path.
    names
        Which files are shown, as Qt writes it ("Boxes (*.csv *.json)").
    parent
        Its owner in Qt.
    """

    def __init__(
        self, title: str, folder: str, chosen: Callable[[str], None], names: str, parent: QWidget
    ) -> None:
        super().__init__(parent, title)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setFileMode(QFileDialog.FileMode.ExistingFile)
        self.setNameFilters([names, "All files (*)"])
        self.setDirectory(folder or str(Path.home()))
        self.fileSelected.connect(chosen)
