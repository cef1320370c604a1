"""The list of pre-trained encoders in the Pre-train panel."""

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_sparseseg.widgets.box_line import ElidedLabel
from napari_sparseseg.widgets.box_list import ShortScroll
from napari_sparseseg.widgets.panel_parts import make_row
from napari_sparseseg.widgets.pretrain_snapshots import EncoderRow
from napari_sparseseg.widgets.pretrain_words import describe_encoder
from napari_sparseseg.widgets.round_list import RowButton

_MOST_HEIGHT = 200
_INDENT = 18  # below the text of the button


class EncoderList(ShortScroll):
    """One row per encoder; a click asks to choose it."""

    chosen = Signal(str)
    """Folder of an encoder."""

    def __init__(self) -> None:
        super().__init__(_MOST_HEIGHT)
        self._lines: dict[str, _EncoderLine] = {}
        self._chosen = ""
        self.setAccessibleName("Encoders")

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of the encoders, from top to bottom."""
        return tuple(self.column.itemAt(place).widget().folder for place in range(self.column.count()))

    def button(self, folder: str) -> RowButton:
        """Return the button that chooses an encoder."""
        return self._lines[folder].button

    def figure(self, folder: str) -> QLabel:
        """Return the label that tells an encoder's Dice."""
        return self._lines[folder].figure

    def words(self, folder: str) -> ElidedLabel:
        """Return the label that tells whether an encoder is used, and what it learnt from."""
        return self._lines[folder].words

    def show_encoders(self, rows: tuple[EncoderRow, ...], chosen: str, used: str) -> None:
        """Show other encoders; nothing is asked for by it.

        Parameters
        ----------
        rows
            From top to bottom.
        chosen, used
            Folders of the one that is marked and of the one that training starts from; "" for none.
        """
        for folder in set(self._lines) - {row.folder for row in rows}:
            self.remove(self._lines.pop(folder))
        self._chosen = chosen
        added = False
        for place, row in enumerate(rows):
            if row.folder not in self._lines:
                self._make_line(row.folder)
                added = True
            line = self._lines[row.folder]
            if self.column.indexOf(line) != place:
                self.column.insertWidget(place, line)
            line.show_encoder(row, row.folder == chosen, row.folder == used)
        if added:
            self.order_tabs([self._lines[folder].button for folder in self.folders])
        self.setVisible(bool(rows))

    def _make_line(self, folder: str) -> None:
        line = self._lines[folder] = _EncoderLine(folder)
        line.button.clicked.connect(lambda: self._ask(folder))

    def _ask(self, folder: str) -> None:
        # A click only asks; what the buttons show is the state.
        self._lines[folder].button.setChecked(folder == self._chosen)
        self.chosen.emit(folder)


class _EncoderLine(QWidget):
    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder
        self._shown: tuple[Any, ...] = ()
        self.button = RowButton()
        self.figure = QLabel()
        self.figure.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.words = ElidedLabel(0)
        self.words.setContentsMargins(_INDENT, 0, 0, 0)
        top = make_row(self.button, self.figure)
        top.setStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 1, 4, 3)
        layout.setSpacing(0)
        layout.addLayout(top)
        layout.addWidget(self.words)

    def show_encoder(self, row: EncoderRow, chosen: bool, used: bool) -> None:
        if (row, chosen, used) == self._shown:
            return
        self._shown = (row, chosen, used)
        name = describe_encoder(row.name)
        self.button.show_text(name)
        self.button.setChecked(chosen)
        dice = "" if row.dice is None else f"Dice {row.dice:.2f}"
        self.figure.setText(dice)
        self.words.show_text(" · ".join(filter(None, ("in use" if used else "", row.words))))
        told = ", ".join(filter(None, (name, row.words, dice, "chosen for training" if used else "")))
        self.button.setAccessibleName(told)
        tip = f"{told}.\n{row.folder}" if chosen else f"{told}: click to choose it.\n{row.folder}"
        for part in (self, self.button):
            part.setToolTip(tip)
