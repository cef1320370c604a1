"""A slider for a share."""

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLineEdit, QSlider, QVBoxLayout, QWidget

from napari_sparseseg.widgets.percent_slider import make_percent_slider
from tests.widgets.panel_window import shown


@pytest.fixture
def slider():
    page = QWidget()
    layout = QVBoxLayout(page)
    page.before, made = QLineEdit(), make_percent_slider(50)
    layout.addWidget(page.before)
    layout.addWidget(made)
    with shown(page):
        yield made


def test_keys_move_it_within_its_range(slider):
    slider.setFocus()
    hand = QApplication.focusWidget()
    assert isinstance(hand, QSlider)
    values = []
    for key in (Qt.Key.Key_End, Qt.Key.Key_Left, Qt.Key.Key_PageDown, Qt.Key.Key_Home):
        QTest.keyClick(hand, key)
        values.append(slider.value())
    assert values == [50, 45, 35, 0]


def test_a_number_can_be_typed(slider):
    number = slider.findChild(QLineEdit)
    number.setFocus()
    number.selectAll()
    QTest.keyClicks(number, "17")
    QTest.keyClick(number, Qt.Key.Key_Return)
    assert slider.value() == 17


def test_tab_stops_at_it_once(slider):
    before = slider.parentWidget().before
    before.setFocus()
    QTest.keyClick(before, Qt.Key.Key_Tab)
    hand = QApplication.focusWidget()
    assert isinstance(hand, QSlider)
    QTest.keyClick(hand, Qt.Key.Key_Tab)
    assert before.hasFocus()
