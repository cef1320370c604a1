"""What the small plots of the panels have in common: they are only looked at, and follow the theme."""

from collections.abc import Mapping

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QFont, QPalette
from qtpy.QtWidgets import QWidget

# qtpy has chosen Qt's binding by now, and pyqtgraph takes the one that is loaded.
# isort: split
import pyqtgraph

# Blue and orange, told apart with any color vision; each pair is readable on its ground.
LOSS_COLORS = {"dark": "#6db8f2", "light": "#00619c"}
"""Of what should fall, by the ground that it is drawn on."""
DICE_COLORS = {"dark": "#f5ad42", "light": "#a34d00"}
"""Of agreement, by the ground that it is drawn on."""


class ThemedPlot(QWidget):
    """A plot that leaves mouse and keys alone and whose colors show on the ground that the theme gives.

    Parameters
    ----------
    sides
        Which axes it has, and how many pixels each takes.
    """

    def __init__(self, sides: Mapping[str, int]) -> None:
        super().__init__()
        self._color = ""
        plot = self.view = pyqtgraph.PlotWidget(background=None)
        plot.setMenuEnabled(False)
        plot.setMouseEnabled(False, False)
        plot.hideButtons()
        # The wheel scrolls the dock, and the tooltip is the whole plot's.
        plot.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        small = QFont(self.font())
        small.setPointSizeF(8)
        for side, size in sides.items():
            plot.showAxis(side)
            axis = plot.getAxis(side)
            axis.setStyle(tickFont=small, tickLength=-4, tickTextOffset=3)
            (axis.setHeight if side == "bottom" else axis.setWidth)(size)
        self._sides = tuple(sides)

    def event(self, event: QEvent) -> bool:  # noqa: D102 - Qt's name
        handled = bool(super().event(event))
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange, QEvent.Type.Polish):
            self.follow_theme()
        return handled

    def follow_theme(self) -> None:
        """Choose colors that show on the ground that the theme gives; called once the curves are made."""
        if not self.is_made():  # Qt polishes while the parts are still being made
            return
        color = self.palette().color(QPalette.ColorRole.WindowText)
        if color.name() == self._color:
            return
        self._color = color.name()
        inks = self.color_curves("dark" if color.lightnessF() > 0.5 else "light")
        for side in self._sides:
            axis = self.view.getAxis(side)
            axis.setTextPen(inks.get(side, self._color))
            axis.setPen(pyqtgraph.mkPen(self._color, width=0.5))

    def is_made(self) -> bool:
        """Whether the curves are there."""
        raise NotImplementedError

    def color_curves(self, ground: str) -> Mapping[str, str]:
        """Color the curves for a "dark" or "light" ground, and return the colors of axes that follow them."""
        raise NotImplementedError
