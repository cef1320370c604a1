"""Asks where to save; the panel's work goes on meanwhile."""

from collections.abc import Callable, Mapping
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QWidget

Formats = Mapping[str, tuple[str, ...]]

FORMATS: Formats = {"NIfTI": (".nii.gz", ".nii"), "NRRD": (".nrrd",), "MetaImage": (".mha",)}
"""What a mask or map is offered to be saved as: name, and suffixes, the usual one first."""


class SaveDialog(QFileDialog):
    """Asks for the name of a file to write, or of a folder to be made.

    Parameters
    ----------
    title
        What is saved.
    suggestion
        Where, and under which name.
    saved
        Called with the path that the user has chosen; that of a file has a suffix of `formats`.
    formats
        As `FORMATS`; empty for a folder.
    parent
        Its owner in Qt.
    """

    def __init__(
        self, title: str, suggestion: Path, saved: Callable[[str], None], formats: Formats, parent: QWidget
    ) -> None:
        super().__init__(parent, title)
        self._saved = saved
        self._formats = formats
        self._suffixes = {
            f"{name} ({' '.join(f'*{suffix}' for suffix in suffixes)})": suffixes
            for name, suffixes in formats.items()
        }
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        self.setFileMode(QFileDialog.FileMode.AnyFile)
        if suggestion.parent.is_dir():
            self.setDirectory(str(suggestion.parent))
        if formats:
            self.setNameFilters(list(self._suffixes))
            self._select_format(suggestion.name)
            self.selectFile(self._with_suffix(suggestion.name))
        else:
            self.setLabelText(QFileDialog.DialogLabel.FileName, "New folder:")
            self.selectFile(_find_free(suggestion).name)
        self.filterSelected.connect(self._follow_format)
        self.fileSelected.connect(self._finish)

    def _select_format(self, name: str) -> None:
        for words, suffixes in self._suffixes.items():
            if name.lower().endswith(suffixes):
                self.selectNameFilter(words)

    def _follow_format(self, _: str) -> None:
        """Give the name the suffix of the format just chosen."""
        for path in self.selectedFiles()[:1]:
            name, before = Path(path).name, ""
            while name != before:  # Qt has put a suffix of its own behind ".nii"
                name, before = self._without_suffix(name), name
            self.selectFile(self._with_suffix(name))

    def _finish(self, path: str) -> None:
        complete = self._with_suffix(path)
        if complete != path and Path(complete).exists():
            # Qt has asked about overwriting for the incomplete name alone: let it ask again.
            SaveDialog(
                self.windowTitle(), Path(complete), self._saved, self._formats, self.parentWidget()
            ).open()
            return
        self._saved(complete)

    def _with_suffix(self, name: str) -> str:
        if not self._suffixes or self._without_suffix(name) != name:
            return name
        return name + self._suffixes[self.selectedNameFilter()][0]

    def _without_suffix(self, name: str) -> str:
        for suffix in (suffix for suffixes in self._suffixes.values() for suffix in suffixes):
            if name.lower().endswith(suffix):
                return name[: -len(suffix)]
        return name


def _find_free(path: Path) -> Path:
    """Return `path`, with a number if it exists."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name} {number}")
    return free
