"""The list of rounds, and the plot of how good each is."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QPalette
from qtpy.QtTest import QTest

from napari_sparseseg.widgets.agreement_plot import AgreementPlot
from napari_sparseseg.widgets.round_list import RoundList
from napari_sparseseg.widgets.snapshots import RoundRow
from tests.widgets.conftest import settle, wait_for
from tests.widgets.panel_window import click, record, shown, turn_wheel

ROUNDS = (RoundRow(0, "GrabCut, before training", 0.612), RoundRow(1, "round 1", 0.8), RoundRow(2, "round 2"))

rounds = st.lists(
    st.builds(RoundRow, st.integers(0, 9), st.sampled_from(["a", "b & c"]), st.none() | st.floats(0, 1)),
    max_size=6,
    unique_by=lambda row: row.number,
).map(lambda rows: tuple(sorted(rows, key=lambda row: row.number)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(st.lists(rounds, min_size=1, max_size=3), st.none() | st.integers(0, 9), st.integers(0, 9))
def test_what_is_shown_is_the_last_state_whatever_came_before(states, shown_round, kept_round):
    made = RoundList()
    heard = record(made, "shown_requested")
    for rows in states:
        made.show_rounds(rows, shown_round, kept_round)
        assert made.numbers == tuple(row.number for row in rows)
        for row in rows:
            assert made.button(row.number).isChecked() == (row.number == shown_round)
            text = made.figure(row.number).text()
            assert ("kept" in text) == (row.number == kept_round)
            assert (row.agreement is not None) == ("." in text)
    assert heard == []
    made.deleteLater()


def test_a_click_only_asks():
    with shown(RoundList()) as made:
        heard = record(made, "shown_requested")
        made.show_rounds(ROUNDS, 1, 1)
        wait_for(lambda: all(made.button(number).visibleRegion().contains(made.button(number).rect().center())
                             for number in made.numbers))  # fmt: skip
        assert made.figure(1).text() == "kept · 0.80"
        assert made.figure(0).text() == "0.61"
        click(made.button(2))
        click(made.button(1))
        QTest.keyClick(made.button(0), Qt.Key.Key_Space)
        assert heard == [("shown_requested", number) for number in (2, 1, 0)]
        assert [made.button(number).isChecked() for number in (0, 1, 2)] == [False, True, False]


def test_many_rounds_scroll_inside_and_long_words_end_in_an_ellipsis():
    with shown(RoundList()) as made:
        words = "round with a description that no dock of this width has room for"
        made.show_rounds(tuple(RoundRow(number, words, 0.5) for number in range(51)), 0, 7)
        settle()
        assert made.sizeHint().height() <= 200
        assert made.button(7).text().endswith("…")
        assert made.figure(7).text() == "kept · 0.50"
        assert words[1:] in made.button(7).toolTip()


@pytest.mark.parametrize(("ground", "ink"), [("#262930", "#f0f1f2"), ("#efebe9", "#3b3a39")])
def test_the_plot_follows_the_theme(ground, ink):
    plot = AgreementPlot()
    palette = QPalette()
    palette.setColor(QPalette.ColorRole.WindowText, QColor(ink))
    plot.setPalette(palette)
    settle()
    drawn = QColor(plot.curve.opts["pen"].color())
    assert abs(drawn.lightnessF() - QColor(ground).lightnessF()) > 0.3
    plot.deleteLater()


def test_the_plot_shows_known_rounds_and_marks_the_shown_one():
    with shown(AgreementPlot()) as plot:
        plot.show_rounds(ROUNDS, 1)
        settle()
        assert plot.isVisible()
        assert [list(values) for values in plot.curve.getData()] == [[0, 1], [0.612, 0.8]]
        assert plot.curve.opts["symbolSize"][1] > plot.curve.opts["symbolSize"][0]
        assert plot.accessibleDescription() == "round 0: 0.61, round 1: 0.80"
        (low, high), (bottom, top) = plot.view.viewRange()
        assert low <= 0 < 1 <= high
        assert bottom <= 0 < 1 <= top
        assert not turn_wheel(plot)
        plot.show_rounds(tuple(RoundRow(number, "round", 0.5) for number in range(51)), None)
        labels = [text for _, text in plot.view.getAxis("bottom")._tickLevels[0]]
        assert len(labels) <= 10
        assert all(label.isdigit() for label in labels)
        plot.show_rounds((), None)
        assert not plot.isVisible()
        plot.show_rounds(tuple(RoundRow(number, "round", 0.5) for number in range(51)), None)
        assert plot.isVisible()


def test_one_round_alone_is_drawn():
    with shown(AgreementPlot()) as plot:
        plot.show_rounds(ROUNDS[:1], 0)
        settle()
        assert plot.isVisible()
