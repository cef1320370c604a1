"""The wheel over an editor."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QLineEdit, QVBoxLayout, QWidget

from napari_sparseseg.widgets.wheel_guard import WheelGuard
from tests.widgets.conftest import wait_for
from tests.widgets.panel_window import shown, turn_wheel


def test_the_wheel_is_the_editors_only_while_it_has_the_focus():
    page = QWidget()
    layout = QVBoxLayout(page)
    other, box = QLineEdit(), QComboBox()
    box.addItems(["first", "second", "third"])
    layout.addWidget(other)
    layout.addWidget(box)
    box.setFocusPolicy(Qt.FocusPolicy.WheelFocus)
    WheelGuard(page).protect(box)
    with shown(page):
        other.setFocus()
        assert not turn_wheel(box)
        assert other.hasFocus()
        assert box.currentText() == "first"
        box.setFocus()
        wait_for(box.hasFocus)
        assert turn_wheel(box)
        assert box.currentText() == "second"
