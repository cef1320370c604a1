"""What is folded away, and questions within a panel."""

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QLineEdit

from napari_sparseseg.widgets.fold import Fold
from tests.widgets.panel_window import click, record, shown


@pytest.fixture
def fold():
    made = Fold("More", "What few need")
    made.line = QLineEdit()
    made.add_widget(made.line)
    with shown(made):
        yield made


def test_it_opens_and_closes_by_mouse_and_by_key(fold):
    heard = record(fold, "toggled")
    assert not fold.line.isVisible()
    click(fold.heading)
    assert fold.unfolded
    assert fold.line.isVisible()
    QTest.keyClick(fold.heading, Qt.Key.Key_Space)
    assert not fold.line.isVisible()
    fold.unfold(False)
    assert heard == [("toggled", True), ("toggled", False)]


def test_its_state_and_its_note_are_told_in_words(fold):
    fold.set_note("not used yet")
    assert fold.heading.accessibleName() == "More · not used yet, folded away"
    fold.unfold()
    assert fold.heading.accessibleName() == "More · not used yet, shown"
    fold.set_note("")
    assert fold.heading.text().endswith("More")


def test_what_is_hidden_cannot_be_reached_by_tab(fold):
    fold.heading.setFocus()
    QTest.keyClick(fold.heading, Qt.Key.Key_Tab)
    assert not fold.line.hasFocus()
    fold.unfold()
    fold.heading.setFocus()
    QTest.keyClick(fold.heading, Qt.Key.Key_Tab)
    assert fold.line.hasFocus()
