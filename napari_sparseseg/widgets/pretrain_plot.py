"""Small plots of learning without labels: how well the task is solved, and how good the features are."""

from collections.abc import Mapping

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QStackedLayout, QVBoxLayout, QWidget

from napari_sparseseg.widgets.pretrain_words import percent
from napari_sparseseg.widgets.progress_plot import Points, thin_curve
from napari_sparseseg.widgets.themed_plot import DICE_COLORS, LOSS_COLORS, ThemedPlot

# qtpy has chosen Qt's binding by now, and pyqtgraph takes the one that is loaded.
# isort: split
import pyqtgraph

_MOST_DOTS = 40
_MARGIN = 1.08  # room above the largest error


class TwinPlot(ThemedPlot):
    """Two curves over the training steps, one by the left axis and one, with dots, by the right axis.

    Parameters
    ----------
    name, explanation
        What it shows, for those who cannot see it, and its tooltip.
    placeholder
        Shown while there are no curves.
    height
        In pixels.
    """

    def __init__(self, name: str, explanation: str, placeholder: str, height: int) -> None:
        super().__init__({"left": 38, "right": 38, "bottom": 18})
        self._curves: tuple[Points, Points] = ((), ())
        self._colors = ("", "")
        self.setToolTip(explanation)
        self.setAccessibleName(name)
        self.legend = QLabel()
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.placeholder = QLabel(placeholder)
        self.placeholder.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.placeholder.setWordWrap(True)
        self._make_curves()
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
        self.setFixedHeight(height)
        self.follow_theme()

    def is_made(self) -> bool:
        """Whether the curves are there."""
        return hasattr(self, "right_curve")

    def color_curves(self, ground: str) -> Mapping[str, str]:
        """Color the curves and the legend, and the axes that they are read by."""
        self._colors = (LOSS_COLORS[ground], DICE_COLORS[ground])
        for curve, color in zip((self.left_curve, self.right_curve), self._colors, strict=True):
            curve.setPen(pyqtgraph.mkPen(color, width=1.5))
        self.right_curve.setSymbolBrush(self._colors[1])
        self.right_curve.setSymbolPen(None)
        self._write_legend()
        return dict(zip(("left", "right"), self._colors, strict=True))

    def _make_curves(self) -> None:
        box = self.view.getViewBox()
        self.right_box = pyqtgraph.ViewBox(enableMenu=False)
        self.right_box.setMouseEnabled(False, False)
        self.view.scene().addItem(self.right_box)
        self.view.getAxis("right").linkToView(self.right_box)
        self.right_box.setXLink(box)
        box.sigResized.connect(lambda: self.right_box.setGeometry(box.sceneBoundingRect()))
        self.left_curve = pyqtgraph.PlotDataItem(antialias=True)
        self.view.addItem(self.left_curve)
        self.right_curve = pyqtgraph.PlotDataItem(antialias=True, symbolSize=5)
        self.right_box.addItem(self.right_curve)

    def _draw(self, left: Points, right: Points) -> bool:
        """Draw other curves, and tell whether there are any."""
        self._curves = (left, right)
        self._pages.setCurrentIndex(int(bool(left or right)))
        if not left and not right:
            return False
        self.left_curve.setData(*thin_curve(left))
        steps, values = thin_curve(right)
        self.right_curve.setData(steps, values, symbol="o" if len(steps) <= _MOST_DOTS else None)
        last_step = max(points[-1][0] for points in (left, right) if points)
        self.view.setXRange(0, max(last_step, 1), padding=0.02)
        self._write_legend()
        return True

    def _words(self) -> tuple[tuple[str, str], ...]:
        """Return what the legend says, each part with its color."""
        raise NotImplementedError

    def _write_legend(self) -> None:
        words = self._words()
        parts = (f'<span style="color:{color}">{text}</span>' for text, color in words)
        self.legend.setText(f'<span style="font-size:9pt">{"&nbsp; ".join(parts)}</span>')
        self.setAccessibleDescription(", ".join(text.lstrip("━●╌ ") for text, _ in words))


class TaskPlot(TwinPlot):
    """Loss by the left axis; by the right one the task's own figure, and a dashed line without learning."""

    def __init__(self) -> None:
        self._shown: tuple[Points, Points, str, float | None] = ((), (), "accuracy", None)
        super().__init__(
            "Plot of loss and of how well the task is solved",
            "Loss: what the network tries to make small; it should fall. The dots: how well it solves the "
            "task on pieces that it does not learn from. The dashed line: what guessing, or the simplest "
            "answer, reaches without having learnt anything. The share that is solved should rise above "
            "it, an error fall below it.",
            "The curves begin with the first steps.",
            150,
        )
        self.view.getViewBox().setLimits(yMin=0)

    def show_curves(self, losses: Points, figures: Points, figure: str, trivial: float | None) -> None:
        """Draw other curves.

        Parameters
        ----------
        losses, figures
            ``(step, value)`` of the loss and of the task's own figure, in the order of the steps.
        figure
            "accuracy" (0 to 1, larger is better) or "error" (smaller is better).
        trivial
            The figure by chance or for the trivial answer; None while it is not known.
        """
        shown = (losses, figures, figure, trivial)
        if shown == self._shown:
            return
        self._shown = shown
        if not self._draw(losses, figures):
            return
        self.trivial_line.setVisible(bool(figures) and trivial is not None)
        self.trivial_line.setValue(trivial or 0)
        axis = self.view.getAxis("right")
        if figure == "accuracy":
            axis.setTicks([[(0, "0 %"), (0.5, "50 %"), (1, "100 %")]])
            self.right_box.setYRange(0, 1, padding=0.04)
        else:
            axis.setTicks(None)
            most = max((value for _, value in figures), default=0)
            self.right_box.setYRange(0, max(most, trivial or 0, 1e-6) * _MARGIN, padding=0)

    def color_curves(self, ground: str) -> Mapping[str, str]:
        """Color the dashed line as the figure that it is compared with."""
        inks = super().color_curves(ground)
        pen = pyqtgraph.mkPen(inks["right"], width=1.2, style=Qt.PenStyle.DashLine)
        self.trivial_line.setPen(pen)
        return inks

    def _make_curves(self) -> None:
        self.trivial_line = pyqtgraph.InfiniteLine(angle=0)
        self.trivial_line.hide()
        super()._make_curves()
        self.right_box.addItem(self.trivial_line, ignoreBounds=True)

    def _words(self) -> tuple[tuple[str, str], ...]:
        losses, figures, figure, trivial = self._shown
        words = []
        if losses:
            words.append((f"━ loss {losses[-1][1]:.3g}", self._colors[0]))
        if figures:
            value, is_share = figures[-1][1], figure == "accuracy"
            text = f"solved {percent(value)}" if is_share else f"error {value:.3g}"
            words.append((f"● {text}", self._colors[1]))
            if trivial is not None:
                text = percent(trivial) if is_share else f"{trivial:.3g}"
                words.append((f"╌ guess {text}", self._colors[1]))
        return tuple(words)


class FeaturePlot(TwinPlot):
    """Alignment by the left axis, uniformity by the right one (Wang & Isola 2020)."""

    def __init__(self) -> None:
        super().__init__(
            "Plot of alignment and uniformity",
            "Alignment: how far apart the features of two copies of one piece lie; 0 is best. Uniformity: "
            "how evenly the features of different pieces are spread; the further below 0, the better. If "
            "both go to 0, the network says the same of everything.",
            "How good the features are is measured now and then.",
            110,
        )

    def show_curves(self, alignments: Points, uniformities: Points) -> None:
        """Draw other curves, ``(step, value)`` in the order of the steps."""
        if (alignments, uniformities) != self._curves:
            self._draw(alignments, uniformities)

    def _words(self) -> tuple[tuple[str, str], ...]:
        return tuple(
            (f"{mark} {name} {points[-1][1]:.2f}".replace("-", "−"), color)
            for mark, name, points, color in zip(
                ("━", "●"), ("alignment", "uniformity"), self._curves, self._colors, strict=True
            )
            if points
        )
