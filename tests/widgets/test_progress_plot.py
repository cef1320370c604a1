"""The plot of loss and agreement."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qtpy.QtGui import QColor, QPalette

from napari_sparseseg.widgets.progress_plot import ProgressPlot, thin_curve
from tests.widgets.conftest import settle
from tests.widgets.panel_window import shown, turn_wheel

LOSSES = tuple((step, 1 / step) for step in range(1, 201))
AGREEMENTS = tuple((step, 1 - 1 / step) for step in range(10, 200, 10))

curves = st.lists(st.floats(0, 1e6), max_size=700).map(lambda values: list(enumerate(values)))


def contrast(first, second):
    """Return the contrast of two colors as WCAG 2 has it, 1 to 21."""
    lightness = []
    for color in (first, second):
        parts = np.array(color.getRgbF()[:3])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        lightness.append(linear @ (0.2126, 0.7152, 0.0722) + 0.05)
    return max(lightness) / min(lightness)


def grabbed_colors(widget):
    image = widget.grab().toImage()
    return {image.pixelColor(x, y).name() for x in range(image.width()) for y in range(image.height())}


def line_color(curve):
    return QColor(curve.opts["pen"].color())


@given(curves, st.integers(1, 200))
def test_a_thinned_curve_keeps_the_course(points, most):
    steps, values = thin_curve(points, most)
    assert len(steps) == len(values) <= most
    assert (np.diff(steps) > 0).all()
    if points:
        heights = [height for _, height in points]
        slack = 1e-9 * max(heights)
        assert min(heights) - slack <= values.min()
        assert values.max() <= max(heights) + slack
    if len(points) <= most:
        assert list(zip(steps, values, strict=True)) == points


@given(curves, st.integers(1, 50))
def test_a_growing_curve_keeps_the_shape_it_had(points, most):
    before, after = thin_curve(points[:-1], most), thin_curve(points, most)
    same_grouping = len(before[0]) <= len(after[0])
    if same_grouping and len(before[0]):
        assert np.array_equal(before[1][:-1], after[1][: len(before[1]) - 1])


def test_numbers_that_are_none_are_left_out():
    steps, values = thin_curve([(1, 1.0), (2, float("nan")), (3, float("inf")), (4, 0.5)])
    assert steps.tolist() == [1, 4]
    assert values.tolist() == [1.0, 0.5]


def test_words_stand_in_for_the_curves_until_there_are_some():
    with shown(ProgressPlot()) as plot:
        assert plot.placeholder.isVisible()
        assert not plot.view.isVisible()
        plot.show_curves(LOSSES, ())
        assert not plot.placeholder.isVisible()
        assert plot.view.isVisible()
        plot.show_curves((), ())
        assert plot.placeholder.isVisible()


def test_the_last_figures_are_told_in_words():
    with shown(ProgressPlot()) as plot:
        plot.show_curves(LOSSES, AGREEMENTS)
        assert "loss 0.005" in plot.legend.text()
        assert "Dice, held out 0.99" in plot.legend.text()
        assert "Dice on held-out labels 0.99 after 190 steps" in plot.accessibleDescription()
        plot.show_curves(LOSSES[:1], ())
        assert "Dice" not in plot.legend.text()


def test_each_curve_has_its_own_axis_over_the_same_steps():
    with shown(ProgressPlot()) as plot:
        plot.show_curves(LOSSES, AGREEMENTS)
        settle()
        loss_box, dice_box = plot.loss_curve.getViewBox(), plot.dice_curve.getViewBox()
        assert loss_box is not dice_box
        low, high = dice_box.viewRange()[1]
        assert -0.1 < low <= 0 < 1 <= high < 1.1
        assert loss_box.viewRange()[0] == pytest.approx(dice_box.viewRange()[0])
        assert loss_box.viewRange()[0][1] >= 200
        corners = [box.sceneBoundingRect().getCoords() for box in (loss_box, dice_box)]
        assert corners[0] == pytest.approx(corners[1], abs=1)


def test_a_long_curve_costs_what_a_short_one_does():
    with shown(ProgressPlot()) as plot:
        long = tuple((step, 1.0) for step in range(10_000))
        plot.show_curves(long, long)
        for curve in (plot.loss_curve, plot.dice_curve):
            assert len(curve.getData()[0]) <= 200
        drawn = []
        plot.loss_curve.sigPlotChanged.connect(drawn.append)
        plot.show_curves(*[tuple(point for point in long)] * 2)
        assert drawn == []
        plot.show_curves((*long, (10_000, 1.0)), long)
        assert len(drawn) == 1


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_both_curves_show_on_the_ground_of_the_theme(theme):
    with shown(ProgressPlot(), theme) as plot:
        plot.show_curves(LOSSES, AGREEMENTS)
        settle()
        ground = plot.grab().toImage().pixelColor(2, plot.height() // 2)
        assert (ground.lightnessF() < 0.5) is (theme == "dark")
        colors = grabbed_colors(plot)
        for curve in (plot.loss_curve, plot.dice_curve):
            assert contrast(line_color(curve), ground) >= 4.5
            assert line_color(curve).name() in colors
        axis = plot.view.getAxis("bottom").textPen().color()
        assert contrast(axis, ground) >= 4.5


def test_the_colors_follow_a_change_of_theme():
    from napari.qt import get_stylesheet

    with shown(ProgressPlot(), "dark") as plot:
        plot.show_curves(LOSSES, AGREEMENTS)
        before = line_color(plot.loss_curve)
        plot.window().setStyleSheet(get_stylesheet("light"))
        settle()
        assert line_color(plot.loss_curve) != before
        text = plot.palette().color(QPalette.ColorRole.WindowText)
        assert plot.view.getAxis("bottom").textPen().color() == text


def test_the_mouse_moves_nothing_in_it():
    with shown(ProgressPlot()) as plot:
        plot.show_curves(LOSSES, AGREEMENTS)
        settle()
        before = plot.loss_curve.getViewBox().viewRange()
        assert not turn_wheel(plot)
        assert plot.loss_curve.getViewBox().viewRange() == before
        assert plot.childAt(plot.rect().center()) is not plot.view.viewport()
        assert "Dice" in plot.toolTip()
