"""A small bar plot that compares encoders."""

import math
from collections.abc import Mapping

from qtpy.QtCore import Qt
from qtpy.QtGui import QFont, QFontMetrics, QPalette
from qtpy.QtWidgets import QVBoxLayout

from napari_sparseseg.widgets.pretrain_words import describe_probe
from napari_sparseseg.widgets.themed_plot import DICE_COLORS, ThemedPlot

# qtpy has chosen Qt's binding by now, and pyqtgraph takes the one that is loaded.
# isort: split
import pyqtgraph

_BAR = 22  # pixels for each bar
_FOOT = 22
_NAME_WIDTH = 140
_THICKNESS = 0.7
_RIGHT = 1.22  # room for the figure of a full bar
_PLAIN = "#808080"


class ProbePlot(ThemedPlot):
    """Dice, 0 to 1, of a linear classifier on each encoder's features; random weights are the dashed line."""

    def __init__(self) -> None:
        super().__init__({"left": _NAME_WIDTH, "bottom": 18})
        self._probes: tuple[tuple[str, float], ...] = ()
        self._rows = 0
        self.values: list[pyqtgraph.TextItem] = []
        self._drawn = self._ink = self._paper = _PLAIN
        self._small = QFont(self.font())
        self._small.setPointSizeF(8)
        self.setAccessibleName("Plot that compares encoders")
        plot = self.view
        plot.getAxis("bottom").setTicks([[(0, "0"), (0.5, "0.5"), (1, "1")]])
        plot.getAxis("bottom").setStyle(hideOverlappingLabels=False)
        plot.setXRange(0, _RIGHT, padding=0)
        plot.getViewBox().invertY(True)
        self.bars = pyqtgraph.BarGraphItem(x0=0, y=[], height=_THICKNESS, width=[])
        plot.addItem(self.bars)
        self.random_line = pyqtgraph.InfiniteLine(angle=90)
        self.random_line.hide()
        plot.addItem(self.random_line, ignoreBounds=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(plot)
        self.hide()
        self.follow_theme()

    def show_probes(self, probes: tuple[tuple[str, float], ...], room_for: int = 0) -> None:
        """Draw other bars; without any, and without room to keep, the plot is hidden.

        Parameters
        ----------
        probes
            Name and Dice of each encoder, from top to bottom; the first one is random weights.
        room_for
            How many bars there will be, so that nothing moves when they come.
        """
        probes = tuple(probe for probe in probes if math.isfinite(probe[1]))
        rows = max(len(probes), room_for)
        self.setVisible(bool(rows))
        if (probes, rows) == (self._probes, self._rows) or not rows:
            return
        self._probes, self._rows = probes, rows
        self.setFixedHeight(rows * _BAR + _FOOT)
        self.view.setYRange(-0.5, rows - 0.5, padding=0)
        self._draw()

    def is_made(self) -> bool:
        """Whether the bars are there."""
        return hasattr(self, "random_line")

    def color_curves(self, ground: str) -> Mapping[str, str]:
        """Color the bars."""
        self._drawn = DICE_COLORS[ground]
        self._ink = self.palette().color(QPalette.ColorRole.WindowText).name()
        self._paper = self.palette().color(QPalette.ColorRole.Window).name()
        pen = pyqtgraph.mkPen(_PLAIN, width=1, style=Qt.PenStyle.DashLine)
        self.random_line.setPen(pen)
        self._draw()
        return {}

    def _draw(self) -> None:
        names = [describe_probe(name) for name, _ in self._probes]
        values = [value for _, value in self._probes]
        colors = [_PLAIN, *[self._drawn] * len(values)][: len(values)]
        self.bars.setOpts(y=list(range(len(values))), width=values, brushes=colors, pen=None)
        self.random_line.setVisible(bool(values))
        self.random_line.setValue(values[0] if values else 0)
        fits = QFontMetrics(self._small)
        short = [fits.elidedText(name, Qt.TextElideMode.ElideMiddle, _NAME_WIDTH - 10) for name in names]
        self.view.getAxis("left").setTicks([list(enumerate(short))])
        self._write_values(values)
        lines = [f"{name}: Dice {value:.2f}" for name, value in zip(names, values, strict=True)]
        self.setToolTip("\n".join(lines))
        self.setAccessibleDescription(", ".join(lines))

    def _write_values(self, values: list[float]) -> None:
        for text in self.values:
            self.view.removeItem(text)
        self.values = []
        for row, value in enumerate(values):
            text = pyqtgraph.TextItem(f"{value:.2f}", self._ink, anchor=(0, 0.5), fill=self._paper)
            text.setFont(self._small)
            text.setPos(value, row)
            self.view.addItem(text, ignoreBounds=True)
            self.values.append(text)
