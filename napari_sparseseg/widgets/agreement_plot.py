"""A small plot of how well the labels of each round agree with what is known."""

import math
from collections.abc import Mapping

from qtpy.QtWidgets import QVBoxLayout

from napari_sparseseg.widgets.snapshots import RoundRow
from napari_sparseseg.widgets.themed_plot import DICE_COLORS, ThemedPlot

# qtpy has chosen Qt's binding by now, and pyqtgraph takes the one that is loaded.
# isort: split
import pyqtgraph

_HEIGHT = 110
_MOST_TICKS = 10
_DOT, _SHOWN_DOT = 5, 9


class AgreementPlot(ThemedPlot):
    """Mean Dice, 0 to 1, by round; the round that is shown has a larger dot."""

    def __init__(self) -> None:
        super().__init__({"left": 30, "bottom": 18})
        self._points: tuple[tuple[int, float], ...] = ()
        self._shown_round: int | None = None
        self.setToolTip(
            "Mean Dice by round: how well its labels agree with what they are compared with; 1 is perfect. "
            "Choose the round where it is highest."
        )
        self.setAccessibleName("Plot of agreement by round")
        plot = self.view
        plot.getAxis("left").setTicks([[(0, "0"), (0.5, "0.5"), (1, "1")]])
        plot.setYRange(0, 1, padding=0.06)
        self.curve = pyqtgraph.PlotDataItem(antialias=True, symbol="o")
        plot.addItem(self.curve)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(plot)
        self.setFixedHeight(_HEIGHT)
        self.follow_theme()

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

    def is_made(self) -> bool:
        """Whether the curve is there."""
        return hasattr(self, "curve")

    def color_curves(self, ground: str) -> Mapping[str, str]:
        """Color the curve, and the axis that it is read by."""
        drawn = DICE_COLORS[ground]
        self.curve.setPen(pyqtgraph.mkPen(drawn, width=1.5))
        self.curve.setSymbolBrush(drawn)
        self.curve.setSymbolPen(None)
        return {"left": drawn}
