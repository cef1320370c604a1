"""The list of boxes and its rows."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.widgets.box_list import BoxList
from napari_sparseseg.widgets.snapshots import BoxRow
from tests.widgets.conftest import settle, wait_for
from tests.widgets.panel_window import click, record, shown, turn_wheel

TABLE = ClassTable.from_values([2, 3], {2: "liver", 3: "tumour"})
MANY = tuple(BoxRow(number, 2 + number % 2, "20 × 18 × 20 mm", number, number + 30) for number in range(30))


@pytest.fixture
def boxes():
    with shown(BoxList()) as made:
        made.show_boxes(MANY[:3], TABLE, 1, 100)
        settle()
        made.heard = record(made, "chosen", "range_requested", "delete_requested")
        yield made


rows = st.builds(
    BoxRow, st.integers(1, 9), st.integers(2, 4), st.sampled_from(["20 mm", "a × b"]),
    st.integers(0, 40), st.integers(0, 40), st.sampled_from(["", "only 1 slice deep"]),
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data())
def test_what_is_shown_is_the_last_state_whatever_came_before(data):
    boxes = BoxList()
    heard = record(boxes, "chosen", "range_requested", "delete_requested")
    for _ in range(3):
        given_rows = data.draw(st.lists(rows, max_size=6, unique_by=lambda row: row.number))
        chosen = data.draw(st.none() | st.integers(1, 9))
        boxes.show_boxes(tuple(given_rows), TABLE, chosen, 50)
        assert boxes.numbers == tuple(row.number for row in given_rows)
        for row in given_rows:
            line = boxes.line(row.number)
            assert (line.first.value(), line.last.value()) == (row.first, row.last)
            assert line.extent.whole_text == row.size
            assert line.name.whole_text == {2: "liver", 3: "tumour"}.get(row.value, f"class {row.value}")
            assert line.property("chosen") == (row.number == chosen)
            assert line.warning.isHidden() == (not row.warning)
    assert heard == []
    boxes.deleteLater()


def test_rows_are_kept_not_made_anew(boxes):
    lines = [boxes.line(number) for number in (0, 1, 2)]
    boxes.show_boxes((MANY[5], replace(MANY[2], first=7), MANY[0]), TABLE, 0, 100)
    assert boxes.line(0) is lines[0]
    assert boxes.line(2) is lines[2]
    assert boxes.numbers == (5, 2, 0)


def test_a_box_is_chosen_by_click_and_by_key(boxes):
    click(boxes.line(2).name)
    boxes.line(0).setFocus()
    QTest.keyClick(boxes.line(0), Qt.Key.Key_Space)
    QTest.keyClick(boxes.line(0), Qt.Key.Key_Delete)
    click(boxes.line(2).delete)
    assert boxes.heard == [("chosen", 2), ("chosen", 0), ("delete_requested", 0), ("delete_requested", 2)]


def test_whoever_edits_the_slices_of_a_box_means_that_box(boxes):
    click(boxes.line(2).first.lineEdit())
    click(boxes.line(1).first.lineEdit())  # is chosen already
    assert boxes.heard == [("chosen", 2)]


def test_slices_are_taken_when_they_are_complete_and_one_end_pushes_the_other(boxes):
    line = boxes.line(1)
    line.first.setFocus()
    line.first.selectAll()
    QTest.keyClicks(line.first, "20")
    boxes.show_boxes(MANY[:4], TABLE, 1, 100)  # the state comes again meanwhile
    assert line.first.text() == "20"
    assert boxes.heard == []
    QTest.keyClick(line.first, Qt.Key.Key_Return)
    line.first.selectAll()
    QTest.keyClicks(line.first, "50")
    QTest.keyClick(line.first, Qt.Key.Key_Return)
    line.last.setFocus()
    line.last.selectAll()
    QTest.keyClicks(line.last, "9")
    QTest.keyClick(line.last, Qt.Key.Key_Return)
    ranges = [(20, 31), (50, 50), (9, 9)]
    assert boxes.heard == [("range_requested", 1, *ends) for ends in ranges]
    boxes.show_boxes((MANY[0], replace(MANY[1])), TABLE, 1, 100)  # which was refused
    assert (line.first.value(), line.last.value()) == (1, 31)


def test_slices_beyond_the_stack_cannot_be_asked_for(boxes):
    line = boxes.line(1)
    line.last.setFocus()
    line.last.selectAll()
    QTest.keyClicks(line.last, "123")
    QTest.keyClick(line.last, Qt.Key.Key_Return)
    assert all(last <= 99 for *_, last in boxes.heard)


def test_the_wheel_changes_no_slice_in_passing(boxes):
    line = boxes.line(1)
    turn_wheel(line.first)
    assert boxes.heard == []
    line.first.setFocus()
    wait_for(line.first.hasFocus)
    turn_wheel(line.first)
    assert boxes.heard == [("range_requested", 1, 0, 31)]


def test_thirty_boxes_scroll_inside_and_the_chosen_one_comes_into_view(boxes):
    boxes.show_boxes(MANY, TABLE, 27, 100)
    line = boxes.line(27)
    wait_for(lambda: line.height() > 40 and line.visibleRegion().boundingRect().height() == line.height())
    assert boxes.sizeHint().height() <= 300
    boxes.show_boxes(MANY, TABLE, 2, 100)
    wait_for(lambda: not boxes.line(2).visibleRegion().isEmpty())
    assert boxes.line(27).visibleRegion().isEmpty()


def test_tab_enters_only_the_chosen_row(boxes):
    boxes.line(0).setFocus()
    passed = []
    for _ in range(6):
        passed.append(QApplication.focusWidget())
        QTest.keyClick(passed[-1], Qt.Key.Key_Tab)
    assert passed == [boxes.line(0), *boxes.line(1).tab_stops(), boxes.line(2)]


def test_a_size_in_short_is_told_in_whole(boxes):
    boxes.show_boxes((replace(MANY[0], size="1420.55 × 1380.25 × 1200.75 mm in all"),), TABLE, 0, 100)
    settle()
    line = boxes.line(0)
    assert line.extent.text().endswith("…")
    assert "1200.75 mm in all" in line.toolTip()
    assert line.delete.geometry().right() <= line.width()
