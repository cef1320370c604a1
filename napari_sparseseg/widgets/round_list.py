"""What was made from the boxes, round by round: which is shown, how good it is, and which is kept."""

from typing import Any

from qtpy.QtCore import QPoint, Qt, Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QRadioButton,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QWidget,
)

from napari_sparseseg.widgets.box_list import ShortScroll
from napari_sparseseg.widgets.snapshots import RoundRow


class RoundList(ShortScroll):
    """One row per round; a click asks to see its labels."""

    shown_requested = Signal(int)
    """Number of a round."""

    def __init__(self) -> None:
        super().__init__(180)
        self._lines: dict[int, _RoundLine] = {}
        self._shown_round: int | None = None
        self.setAccessibleName("Rounds")

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the rounds, from top to bottom."""
        return tuple(self.column.itemAt(place).widget().number for place in range(self.column.count()))

    def button(self, number: int) -> QRadioButton:
        """Return the button that shows a round."""
        return self._lines[number].button

    def figure(self, number: int) -> QLabel:
        """Return the label that tells how good a round is, and whether it is kept."""
        return self._lines[number].figure

    def show_rounds(
        self, rounds: tuple[RoundRow, ...], shown_round: int | None, kept_round: int | None
    ) -> None:
        """Show other rounds; nothing is asked for by it.

        Parameters
        ----------
        rounds
            From top to bottom.
        shown_round, kept_round
            Numbers of the one that the layer shows and of the one that was kept; None for none.
        """
        for number in set(self._lines) - {row.number for row in rounds}:
            self.remove(self._lines.pop(number))
        self._shown_round = shown_round
        added = False
        for place, row in enumerate(rounds):
            if row.number not in self._lines:
                self._make_line(row.number)
                added = True
            line = self._lines[row.number]
            if self.column.indexOf(line) != place:
                self.column.insertWidget(place, line)
            line.show_round(row, row.number == shown_round, row.number == kept_round)
        if added:
            self.order_tabs([self._lines[number].button for number in self.numbers])

    def _make_line(self, number: int) -> None:
        line = self._lines[number] = _RoundLine(number)
        line.button.clicked.connect(lambda: self._ask(number))

    def _ask(self, number: int) -> None:
        # A click only asks; what the buttons show is the state.
        self._lines[number].button.setChecked(number == self._shown_round)
        self.shown_requested.emit(number)


class _RoundLine(QWidget):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self._shown: tuple[Any, ...] = ()
        self.button = RowButton()
        self.figure = QLabel()
        self.figure.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 1, 4, 1)
        layout.setSpacing(6)
        layout.addWidget(self.button, 1)
        layout.addWidget(self.figure)

    def show_round(self, row: RoundRow, shown: bool, kept: bool) -> None:
        if (row, shown, kept) == self._shown:
            return
        self._shown = (row, shown, kept)
        words = row.words[:1].upper() + row.words[1:]
        self.button.show_text(words)
        self.button.setChecked(shown)
        figure = "" if row.agreement is None else f"{row.agreement:.2f}"
        self.figure.setText(" · ".join(filter(None, ("kept" if kept else "", figure))))
        told = f"{words}{f', agreement {figure}' if figure else ''}{', kept as labels' if kept else ''}"
        self.button.setAccessibleName(told)
        self.button.setToolTip(f"{told}: {'shown in the viewer' if shown else 'click to see its labels'}")


class RowButton(QRadioButton):
    """A radio button whose text ends in an ellipsis where it is too long."""

    def __init__(self) -> None:
        super().__init__()
        self._whole = ""
        self.setAutoExclusive(False)  # which one is on is for the state to say
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # after a click the keys still reach the picture
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def show_text(self, text: str) -> None:
        """Show another text."""
        self._whole = text
        self._fit()

    def hitButton(self, position: QPoint) -> bool:  # noqa: D102 - Qt's name
        return bool(self.rect().contains(position))  # the row is the button, not its text alone

    def resizeEvent(self, event: Any) -> None:  # noqa: D102 - Qt's name
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        option = QStyleOptionButton()
        self.initStyleOption(option)
        room = self.style().subElementRect(QStyle.SubElement.SE_RadioButtonContents, option, self).width()
        text = self.fontMetrics().elidedText(self._whole, Qt.TextElideMode.ElideRight, max(room - 4, 0))
        self.setText(text.replace("&", "&&"))
