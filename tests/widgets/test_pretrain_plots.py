"""The plots of learning without labels."""

import math

import pytest
from qtpy.QtGui import QColor, QPalette

from napari_sparseseg.widgets.pretrain_plot import FeaturePlot, TaskPlot
from napari_sparseseg.widgets.pretrain_words import (
    describe_encoder,
    describe_features,
    describe_figure,
    describe_probe,
    percent,
)
from napari_sparseseg.widgets.probe_plot import ProbePlot
from tests.widgets.conftest import settle
from tests.widgets.panel_window import shown, turn_wheel

LOSSES = tuple((step, 1 / step) for step in range(1, 2001))
FIGURES = ((0, 0.04), (1000, 0.4), (2000, 0.63))
PROBES = (("", 0.52), ("jigsaw-1", 0.71), ("something else", 0.0), ("byol-2", 1.0))


@pytest.fixture(params=["dark", "light"])
def theme(request):
    return request.param


def test_words_stand_in_for_the_curves_until_there_are_some(theme):
    with shown(TaskPlot(), theme) as plot:
        assert plot.placeholder.isVisible()
        plot.show_curves(LOSSES, (), "accuracy", None)
        assert plot.view.isVisible()
        assert not plot.trivial_line.isVisible()
        assert "loss" in plot.legend.text()
        plot.show_curves((), (), "accuracy", None)
        assert plot.placeholder.isVisible()


def test_an_accuracy_is_drawn_from_0_to_1_with_guessing_as_a_dashed_line(theme):
    with shown(TaskPlot(), theme) as plot:
        plot.show_curves(LOSSES, FIGURES, "accuracy", 1 / 26)
        settle()
        bottom, top = plot.right_box.viewRange()[1]
        assert bottom <= 0
        assert 1 <= top < 1.1
        assert plot.trivial_line.isVisible()
        assert plot.trivial_line.value() == 1 / 26
        assert plot.accessibleDescription() == "loss 0.0005, solved 63 %, guess 4 %"
        assert turn_wheel(plot) is False


@pytest.mark.parametrize("trivial", [0.62, 5.0, 1e-4, None])
def test_an_error_and_the_trivial_answer_are_always_in_sight(trivial):
    with shown(TaskPlot()) as plot:
        plot.show_curves(LOSSES, FIGURES, "error", trivial)
        settle()
        bottom, top = plot.right_box.viewRange()[1]
        assert bottom <= 0
        assert top >= max(0.63, trivial or 0)
        assert top <= 1.2 * max(0.63, trivial or 0)
        assert plot.trivial_line.isVisible() == (trivial is not None)
        assert ("guess" in plot.legend.text()) == (trivial is not None)


def test_a_plot_of_the_same_keeps_its_curves(monkeypatch):
    with shown(TaskPlot()) as plot:
        plot.show_curves(LOSSES, FIGURES, "error", 0.5)
        monkeypatch.setattr(plot, "_draw", None)
        plot.show_curves(LOSSES, FIGURES, "error", 0.5)


def test_how_good_features_are(theme):
    with shown(FeaturePlot(), theme) as plot:
        assert plot.placeholder.isVisible()
        plot.show_curves(((0, 1.0), (10, 0.25)), ((0, -0.1), (10, -2.5)))
        assert plot.accessibleDescription() == "alignment 0.25, uniformity −2.50"
        assert plot.view.isVisible()


def test_curves_show_on_any_ground():
    with shown(TaskPlot(), "dark") as plot:
        plot.show_curves(LOSSES, FIGURES, "accuracy", 0.1)
        before = plot.legend.text()
        palette = QPalette(plot.palette())
        palette.setColor(QPalette.ColorRole.WindowText, QColor("black"))
        plot.window().setStyleSheet("")
        plot.setPalette(palette)
        settle()
        assert plot.legend.text() != before
        pens = (plot.left_curve.opts["pen"], plot.right_curve.opts["pen"], plot.trivial_line.pen)
        assert all(pen.color().lightnessF() < 0.5 for pen in pens)


def test_bars_compare_encoders_with_random_weights(theme):
    with shown(ProbePlot(), theme) as plot:
        plot.show_probes(PROBES)
        settle()
        assert list(plot.bars.opts["width"]) == [0.52, 0.71, 0.0, 1.0]
        assert plot.random_line.value() == 0.52
        (ticks,) = plot.view.getAxis("left")._tickLevels
        assert [name for _, name in ticks] == [
            "Random weights", "Jigsaw puzzle 1", "Something else", "Agree with a twin 2",
        ]  # fmt: skip
        assert [text.toPlainText() for text in plot.values] == ["0.52", "0.71", "0.00", "1.00"]
        right = plot.view.viewRange()[0][1]
        assert right > 1.1  # where the figure of a full bar is written
        colors = [QColor(brush) for brush in plot.bars.opts["brushes"]]
        assert colors[0] not in colors[1:]
        assert "Jigsaw puzzle 1: Dice 0.71" in plot.toolTip()
        plot.show_probes(())
        assert not plot.isVisible()


def test_bars_keep_their_place_while_others_come():
    with shown(ProbePlot()) as plot:
        heights = set()
        for count in range(len(PROBES) + 1):
            plot.show_probes(PROBES[:count], len(PROBES))
            settle()
            assert plot.isVisible()
            assert len(plot.values) == count
            heights.add((plot.height(), tuple(plot.view.viewRange()[1])))
        assert len(heights) == 1


def test_a_dice_that_is_none_has_no_bar():
    with shown(ProbePlot()) as plot:
        plot.show_probes((("", 0.5), ("jigsaw-1", math.nan)))
        assert [text.toPlainText() for text in plot.values] == ["0.50"]


@pytest.mark.parametrize(
    ("share", "words"), [(0, "0 %"), (0.004, "0.4 %"), (1 / 26, "4 %"), (0.634, "63 %"), (1, "100 %")]
)
def test_small_shares_are_not_rounded_to_none(share, words):
    assert percent(share) == words


@pytest.mark.parametrize(
    ("name", "words"),
    [("masked_autoencoder-12", "Fill in hidden blocks 12"), ("jigsaw", "jigsaw"), ("scan-2", "scan-2")],
)
def test_names_that_the_project_gave_are_told_in_words(name, words):
    assert describe_encoder(name) == words


def test_random_weights_have_a_name():
    assert describe_probe("") == describe_probe("random weights") == "Random weights"


@pytest.mark.parametrize("figure", ["accuracy", "error"])
def test_only_what_beats_the_trivial_answer_is_told_without_a_but(figure):
    better = (0.7, 0.5) if figure == "accuracy" else (0.5, 0.7)
    assert "no better" not in describe_figure(figure, *better)
    assert "no better" in describe_figure(figure, *better[::-1])
    assert "no better" in describe_figure(figure, 0.5, 0.5)
    assert "no better" not in describe_figure(figure, 0.5, None)


def test_collapse_is_told_even_where_the_spread_is_not_known():
    assert "collapsed" in describe_features(None, True)
    assert describe_features(None, False) == ""
