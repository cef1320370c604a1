"""A small plot of how learning goes: the loss, and Dice on held-out labels, over the training steps."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QStackedLayout, QVBoxLayout, QWidget

from napari_sparseseg.widgets.themed_plot import DICE_COLORS, LOSS_COLORS, ThemedPlot

# qtpy has chosen Qt's binding by now, and pyqtgraph takes the one that is loaded.
# isort: split
import pyqtgraph

_HEIGHT = 150
_MOST_POINTS = 200
_MOST_DOTS = 40

Points = Sequence[tuple[int, float]]


class ProgressPlot(ThemedPlot):
    """Loss by the left axis, Dice on held-out labels by the right one (0 to 1).

    A long curve is drawn as means of neighbouring points, so that it costs as little as a short one and
    the noise of single steps does not hide the course.
    """

    def __init__(self) -> None:
        super().__init__({"left": 38, "right": 30, "bottom": 18})
        self._shown: tuple[Points, Points] = ((), ())
        self.setToolTip(
            "Loss: how far the network is from your labels; it should fall. Dice: how well it agrees with "
            "labels that it was not taught; it should rise towards 1."
        )
        self.setAccessibleName("Plot of loss and agreement")
        self.legend = QLabel()
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.placeholder = QLabel("The curves begin when\nthe network begins to learn.")
        self.placeholder.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._make_plot()
        page = QWidget()
        rows = QVBoxLayout(page)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(0)
        rows.addWidget(self.legend)
        rows.addWidget(self.view)
        self._pages = QStackedLayout(self)
        self._pages.setContentsMargins(0, 0, 0, 0)
        self._pages.addWidget(self.placeholder)
        self._pages.addWidget(page)
        self.setFixedHeight(_HEIGHT)
        self.follow_theme()

    def show_curves(self, losses: Points, agreements: Points) -> None:
        """Draw other curves.

        Parameters
        ----------
        losses
            ``(step, loss)`` in the order of the steps.
        agreements
            ``(step, Dice)``, likewise.
        """
        if (losses, agreements) == self._shown:
            return
        self._shown = (losses, agreements)
        if not losses and not agreements:
            self._pages.setCurrentIndex(0)
            return
        self.loss_curve.setData(*thin_curve(losses))
        steps, values = thin_curve(agreements)
        self.dice_curve.setData(steps, values, symbol="o" if len(steps) <= _MOST_DOTS else None)
        last_step = max(points[-1][0] for points in self._shown if points)
        self.view.setXRange(0, max(last_step, 1), padding=0.02)
        self._write_legend()
        self._pages.setCurrentIndex(1)

    def is_made(self) -> bool:
        """Whether the curves are there."""
        return hasattr(self, "dice_curve")

    def color_curves(self, ground: str) -> Mapping[str, str]:
        """Color the curves and the legend, and the axes that they are read by."""
        self._loss_color, self._dice_color = LOSS_COLORS[ground], DICE_COLORS[ground]
        self.loss_curve.setPen(pyqtgraph.mkPen(self._loss_color, width=1.5))
        self.dice_curve.setPen(pyqtgraph.mkPen(self._dice_color, width=1.5))
        self.dice_curve.setSymbolBrush(self._dice_color)
        self.dice_curve.setSymbolPen(None)
        self._write_legend()
        return {"left": self._loss_color, "right": self._dice_color}

    def _make_plot(self) -> None:
        plot = self.view
        plot.getAxis("right").setTicks([[(0, "0"), (0.5, "0.5"), (1, "1")]])
        box = plot.getViewBox()
        box.setLimits(yMin=0)
        self._dice_box = pyqtgraph.ViewBox(enableMenu=False)
        self._dice_box.setMouseEnabled(False, False)
        plot.scene().addItem(self._dice_box)
        plot.getAxis("right").linkToView(self._dice_box)
        self._dice_box.setXLink(box)
        self._dice_box.setYRange(0, 1, padding=0.04)
        box.sigResized.connect(lambda: self._dice_box.setGeometry(box.sceneBoundingRect()))
        self.loss_curve = pyqtgraph.PlotDataItem(antialias=True)
        self.dice_curve = pyqtgraph.PlotDataItem(antialias=True, symbolSize=5)
        plot.addItem(self.loss_curve)
        self._dice_box.addItem(self.dice_curve)

    def _write_legend(self) -> None:
        losses, agreements = self._shown
        parts: list[Any] = []
        if losses:
            parts.append(_colored(self._loss_color, f"━ loss {losses[-1][1]:.3g}"))
        if agreements:
            parts.append(_colored(self._dice_color, f"━●━ Dice, held out {agreements[-1][1]:.2f}"))
        self.legend.setText("&nbsp;&nbsp;&nbsp;".join(parts))
        self.setAccessibleDescription(
            ", ".join(
                f"{name} {points[-1][1]:.2f} after {points[-1][0]} steps"
                for name, points in (("loss", losses), ("Dice on held-out labels", agreements))
                if points
            )
        )


def thin_curve(points: Points, most: int = _MOST_POINTS) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a curve of at most `most` points: means of neighbouring ones.

    Neighbours are grouped from the beginning and by powers of two, so that a curve that grows keeps the
    shape it had.

    Returns
    -------
    steps, values
        ``(N,)`` each; values that are not finite are left out.
    """
    flat = np.fromiter(chain.from_iterable(points), np.float64, 2 * len(points)).reshape(-1, 2)
    flat = flat[np.isfinite(flat).all(axis=1)]
    size = 1
    while len(flat) > most * size:
        size *= 2
    if size > 1:
        starts = np.arange(0, len(flat), size)
        counts = np.diff(starts, append=len(flat))
        flat = np.add.reduceat(flat, starts) / counts[:, None]
    return flat[:, 0], flat[:, 1]


def _colored(color: str, text: str) -> str:
    return f'<span style="color:{color}">{text}</span>'
