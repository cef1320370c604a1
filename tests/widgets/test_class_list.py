"""The classes of a prediction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qtpy.QtCore import QSize, Qt
from qtpy.QtTest import QTest

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.widgets.class_list import ClassList, format_volume, make_swatch
from tests.widgets.conftest import settle, wait_for
from tests.widgets.panel_window import click, record, shown

NAMES = {2: "liver", 3: "vessel & wall", 5: "a name that is far too long for any dock at all"}
TABLE = ClassTable.from_values([2, 3, 5], NAMES)


@pytest.fixture
def classes():
    with shown(ClassList()) as made:
        made.show_classes(TABLE, frozenset({3}), {2: 12.34, 3: 0.0})
        settle()
        made.heard = record(made, "class_visible_requested")
        yield made


def test_each_class_but_background_is_shown_with_its_volume(classes):
    assert [classes.box(value).isChecked() for value in (2, 3, 5)] == [True, False, True]
    assert [classes.volume(value).text() for value in (2, 3, 5)] == ["12.3 ml", "0 ml", "– ml"]
    assert set(classes.values) == {2, 3, 5}


def test_names_are_written_as_they_are_and_end_in_an_ellipsis_where_too_long(classes):
    assert classes.box(2).text() == "liver"
    assert classes.box(3).text() == "vessel && wall"  # Qt takes a single & for a key
    assert classes.box(5).text().endswith("…")
    assert NAMES[5] in classes.box(5).toolTip()
    assert classes.box(5).geometry().right() < classes.volume(5).geometry().left()


def test_clicks_and_keys_ask_for_one_class(classes):
    click(classes.box(3))
    QTest.keyClick(classes.box(5), Qt.Key.Key_Space)
    assert classes.heard == [
        ("class_visible_requested", 3, True),
        ("class_visible_requested", 5, False),
    ]


def test_what_is_shown_asks_for_nothing_and_keeps_the_rows(classes):
    box = classes.box(2)
    box.setFocus()
    for hidden in (frozenset(), frozenset({2, 3, 5})):
        classes.show_classes(TABLE, hidden, {2: 99.0})
        assert classes.box(2) is box
        assert box.isChecked() is (2 not in hidden)
    assert classes.volume(2).text() == "99.0 ml"
    assert box.hasFocus()
    assert classes.heard == []


def test_another_table_makes_other_rows(classes):
    classes.show_classes(ClassTable.from_values([7], {7: "spleen"}), frozenset(), {})
    settle()
    assert set(classes.values) == {7}
    assert classes.box(7).isVisible()
    assert classes.box(7).text() == "spleen"


def test_a_reason_disables_every_row(classes):
    classes.show_classes(TABLE, frozenset(), {}, "There is no prediction yet.")
    for value in classes.values:
        assert not classes.box(value).isEnabled()
        assert classes.box(value).toolTip() == "There is no prediction yet."
    click(classes.box(2))
    assert classes.heard == []


def test_few_rows_are_all_in_sight_and_many_scroll(classes):
    wait_for(lambda: not classes.verticalScrollBar().isVisible())
    classes.show_classes(ClassTable.from_values(range(2, 120)), frozenset(), {})
    wait_for(classes.verticalScrollBar().isVisible)
    assert classes.sizeHint().height() <= 220
    assert classes.box(119).geometry().right() < classes.viewport().width()


def test_a_swatch_has_the_color_of_the_class():
    pixels = make_swatch("#d55e00").pixmap(QSize(12, 12)).toImage()
    assert pixels.pixelColor(pixels.width() // 2, pixels.height() // 2).name() == "#d55e00"


@pytest.mark.parametrize(
    ("millilitres", "text"),
    [
        (None, "– ml"), (0.0, "0 ml"), (0.004, "< 0.01 ml"), (0.05, "0.05 ml"), (9.994, "9.99 ml"),
        (9.996, "10.0 ml"), (99.94, "99.9 ml"), (99.96, "100 ml"), (1523.4, "1,523 ml"),
    ],
)  # fmt: skip
def test_volumes_are_written_to_be_read(millilitres, text):
    assert format_volume(millilitres) == text


@given(st.floats(0.1, 1e6))
def test_a_volume_in_words_is_right_to_three_digits(millilitres):
    number = float(format_volume(millilitres).removesuffix(" ml").replace(",", ""))
    assert number == pytest.approx(millilitres, rel=0.006, abs=0.00501)
