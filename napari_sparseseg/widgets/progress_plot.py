"""A small plot of how learning goes: the loss, and Dice on held-out labels, over the training steps."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QFont, QPalette
from qtpy.QtWidgets import QLabel, QStackedLayout, QVBoxLayout, QWidget

# qtpy has chosen Qt's binding by now, and pyqtgraph takes the one that is loaded.
# isort: split
import pyqtgraph

_HEIGHT = 150
_MOST_POINTS = 200
_MOST_DOTS = 40
# Blue and orange, told apart with any color vision; each pair is readable on its ground.
_LOSS = {"dark": "#6db8f2", "light": "#00619c"}
_DICE = {"dark": "#f5ad42", "light": "#a34d00"}

Points = Sequence[tuple[int, float]]


class ProgressPlot(QWidget):
    """Loss by the left axis, Dice on held-out labels by the right one (0 to 1).

    A long curve is drawn as means of neighbouring points, so that it costs as little as a short one and
    the noise of single steps does not hide the course.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: tuple[Points, Points] = ((), ())
        self._color = ""
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
        self._follow_theme()

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

    def event(self, event: QEvent) -> bool:  # noqa: D102 - Qt's name
        handled = bool(super().event(event))
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange, QEvent.Type.Polish):
            self._follow_theme()
        return handled

    def _make_plot(self) -> None:
        plot = self.view = pyqtgraph.PlotWidget(background=None)
        plot.setMenuEnabled(False)
        plot.setMouseEnabled(False, False)
        plot.hideButtons()
        # The wheel scrolls the dock, and the tooltip is the whole plot's.
        plot.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        plot.showAxis("right")
        small = QFont(self.font())
        small.setPointSizeF(8)
        for side in ("left", "bottom", "right"):
            plot.getAxis(side).setStyle(tickFont=small, tickLength=-4, tickTextOffset=3)
        plot.getAxis("left").setWidth(38)
        plot.getAxis("right").setWidth(30)
        plot.getAxis("right").setTicks([[(0, "0"), (0.5, "0.5"), (1, "1")]])
        plot.getAxis("bottom").setHeight(18)
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

    def _follow_theme(self) -> None:
        """Choose colors that show on the ground that the theme gives."""
        if not hasattr(self, "dice_curve"):  # Qt polishes while the parts are still being made
            return
        color = self.palette().color(QPalette.ColorRole.WindowText)
        if color.name() == self._color:
            return
        self._color = color.name()
        ground = "dark" if color.lightnessF() > 0.5 else "light"
        self._loss_color, self._dice_color = _LOSS[ground], _DICE[ground]
        self.loss_curve.setPen(pyqtgraph.mkPen(self._loss_color, width=1.5))
        self.dice_curve.setPen(pyqtgraph.mkPen(self._dice_color, width=1.5))
        self.dice_curve.setSymbolBrush(self._dice_color)
        self.dice_curve.setSymbolPen(None)
        for side, text in (("left", self._loss_color), ("right", self._dice_color), ("bottom", self._color)):
            axis = self.view.getAxis(side)
            axis.setTextPen(text)
            axis.setPen(pyqtgraph.mkPen(self._color, width=0.5))
        self._write_legend()

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
