"""The two rows of buttons above the panels."""

import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLabel

from napari_sparseseg.widgets.panel_switcher import PanelSwitcher
from tests.widgets.conftest import settle
from tests.widgets.panel_window import click, cut_off, record, shown

NAMES = ("Cases", "Annotate", "Boxes", "Class maps", "Pre-train", "Train", "Predict", "Batch")


@pytest.fixture(params=["dark", "light"])
def switcher(request):
    made = PanelSwitcher()
    for name in NAMES:
        made.add(name, QLabel(f"the {name} panel"))
    with shown(made, request.param, height=300):
        yield made


def checked(switcher):
    return [name for name in NAMES if switcher.button(name).isChecked()]


def test_each_button_shows_its_panel_and_nothing_is_cut_off(switcher):
    assert switcher.names == NAMES
    assert switcher.current == "Cases"
    heard = record(switcher, "panel_changed")
    rows = {switcher.button(name).y() for name in NAMES}
    assert len(rows) == 2
    for name in NAMES[::-1]:
        click(switcher.button(name))
        assert checked(switcher) == [switcher.current] == [name]
        assert switcher.currentWidget().text() == f"the {name} panel"
        assert switcher.currentWidget().isVisible()
        assert cut_off(switcher) == []
    assert [name for _, name in heard] == list(NAMES[::-1])
    click(switcher.button("Cases"))  # what is shown stays shown
    assert checked(switcher) == ["Cases"]
    switcher.show_panel("Train")
    assert checked(switcher) == [switcher.current] == ["Train"]
    assert len(heard) == len(NAMES) + 1
    with pytest.raises(ValueError, match="tuple"):
        switcher.show_panel("Coffee")


def test_the_keyboard_reaches_every_panel(switcher):
    switcher.show_panel("Annotate")
    switcher.setFocus()
    QTest.keyClick(switcher, Qt.Key.Key_Tab)
    assert QApplication.focusWidget().text() == "Annotate"
    for key, name in (
        (Qt.Key.Key_Right, "Boxes"), (Qt.Key.Key_Down, "Predict"), (Qt.Key.Key_Left, "Train"),
        (Qt.Key.Key_Up, "Annotate"),
    ):  # fmt: skip
        QTest.keyClick(QApplication.focusWidget(), key)
        settle()
        assert checked(switcher) == [switcher.current] == [name]
    control = Qt.KeyboardModifier.ControlModifier
    for _ in range(2):
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_PageUp, control)
    assert switcher.current == "Batch"
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_PageDown, control)
    assert switcher.current == "Cases"
