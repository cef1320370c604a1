"""A small plot of how well the labels of each round agree with what is known."""

import math

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QFont, QPalette
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_sparseseg.widgets.snapshots import RoundRow

# qtpy has chosen Qt's binding by now, and pyqtgraph takes the one that is loaded.
# isort: split
import pyqtgraph

_HEIGHT = 110
_MOST_TICKS = 10
_DOT, _SHOWN_DOT = 5, 9
# The orange of agreement in the plot of training, readable on its ground.
_DICE = {"dark": "#f5ad42", "light": "#a34d00"}


class AgreementPlot(QWidget):
    """Mean Dice, 0 to 1, by round; the round that is shown has a larger dot."""

    def __init__(self) -> None:
        super().__init__()
        self._points: tuple[tuple[int, float], ...] = ()
        self._shown_round: int | None = None
        self._color = ""
        self.setToolTip(
            "Mean Dice by round: how well its labels agree with what they are compared with; 1 is perfect. "
            "Choose the round where it is highest."
        )
        self.setAccessibleName("Plot of agreement by round")
        plot = self.view = pyqtgraph.PlotWidget(background=None)
        plot.setMenuEnabled(False)
        plot.setMouseEnabled(False, False)
        plot.hideButtons()
        # The wheel scrolls the dock, and the tooltip is the whole plot's.
        plot.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        small = QFont(self.font())
        small.setPointSizeF(8)
        for side in ("left", "bottom"):
            plot.getAxis(side).setStyle(tickFont=small, tickLength=-4, tickTextOffset=3)
        plot.getAxis("left").setWidth(30)
        plot.getAxis("left").setTicks([[(0, "0"), (0.5, "0.5"), (1, "1")]])
        plot.getAxis("bottom").setHeight(18)
        plot.setYRange(0, 1, padding=0.06)
        self.curve = pyqtgraph.PlotDataItem(antialias=True, symbol="o")
        plot.addItem(self.curve)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(plot)
        self.setFixedHeight(_HEIGHT)
        self._follow_theme()

    def show_rounds(self, rounds: tuple[RoundRow, ...], shown_round: int | None) -> None:
        """Draw the rounds whose agreement is known; without any, the plot is hidden."""
        points = tuple(
            (row.number, row.agreement)
            for row in rounds
            if row.agreement is not None and math.isfinite(row.agreement)
        )
        self.setVisible(bool(points))
        if (points, shown_round) == (self._points, self._shown_round) or not points:
            return
        self._points, self._shown_round = points, shown_round
        numbers, values = [number for number, _ in points], [value for _, value in points]
        sizes = [_SHOWN_DOT if number == shown_round else _DOT for number in numbers]
        self.curve.setData(numbers, values, symbolSize=sizes)
        last = max(numbers)
        step = math.ceil((last + 1) / _MOST_TICKS)
        self.view.getAxis("bottom").setTicks([[(tick, str(tick)) for tick in range(0, last + 1, step)]])
        self.view.setXRange(0, max(last, 1), padding=0.06)
        self.setAccessibleDescription(", ".join(f"round {number}: {value:.2f}" for number, value in points))

    def event(self, event: QEvent) -> bool:  # noqa: D102 - Qt's name
        handled = bool(super().event(event))
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange, QEvent.Type.Polish):
            self._follow_theme()
        return handled

    def _follow_theme(self) -> None:
        """Choose colors that show on the ground that the theme gives."""
        if not hasattr(self, "curve"):  # Qt polishes while the parts are still being made
            return
        color = self.palette().color(QPalette.ColorRole.WindowText)
        if color.name() == self._color:
            return
        self._color = color.name()
        drawn = _DICE["dark" if color.lightnessF() > 0.5 else "light"]
        self.curve.setPen(pyqtgraph.mkPen(drawn, width=1.5))
        self.curve.setSymbolBrush(drawn)
        self.curve.setSymbolPen(None)
        for side in ("left", "bottom"):
            axis = self.view.getAxis(side)
            axis.setTextPen(drawn if side == "left" else self._color)
            axis.setPen(pyqtgraph.mkPen(self._color, width=0.5))
