"""The Annotate panel, with real mouse and key events."""

import re
from dataclasses import replace

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLabel, QPushButton, QWidget

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.widgets.annotate_panel import AnnotatePanel
from napari_sparseseg.widgets.shortcuts import SHORTCUTS
from napari_sparseseg.widgets.snapshots import TOOLS, AnnotateState

LEFT = Qt.MouseButton.LeftButton
SIGNALS = (
    "image", "class_add", "class_rename", "class_recolor", "class_delete", "class_select", "tool",
    "brush_size", "orientation", "slice", "accept_slice", "interpolate", "clear_interpolated",
)  # fmt: skip
READY = AnnotateState(
    images=("CT", "MR"),
    image="CT",
    table=ClassTable.from_values([2, 3], {2: "liver", 3: "spleen"}),
    selected=3,
    tool="paint",
    brush_size=12,
    slice_index=41,
    slice_count=120,
    voxels={1: 20533, 2: 1204},
    labelled_slices=((3, 41, 77), (12,), ()),
    why_no_paint="",
    why_no_accept="",
    why_no_interpolation="",
    why_no_clear="",
)


@pytest.fixture
def panel():
    made = AnnotatePanel()
    made.resize(300, 660)
    made.asked = []
    for name in SIGNALS:
        signal = getattr(made, f"{name}_requested")
        signal.connect(lambda *given, name=name: made.asked.append((name, *given)))
    made.show()
    made.show_state(READY)
    QApplication.processEvents()
    yield made
    made.close()


def click(widget):
    QTest.mouseClick(widget, LEFT, pos=widget.rect().center())
    QApplication.processEvents()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"images": ()},
        {"image": None},
        {"images": ("MR", "other", "CT"), "image": "MR"},
        {"tool": "polygon", "brush_size": 1},
        {"brush_size": 150},
        {"orientation": 2, "slice_index": 0, "slice_count": 7},
        {"slice_count": 0},
        {"table": ClassTable.from_values([9]), "selected": 9},
        {"selected": 1},
        {"why_no_paint": "No.", "why_no_accept": "No.", "why_no_interpolation": "No.", "why_no_clear": "No."},
    ],
)
def test_showing_asks_for_nothing(panel, changes):
    for state in (replace(READY, **changes), AnnotateState(), READY):
        panel.show_state(state)
        QApplication.processEvents()
        panel.show_state(state)
    assert not panel.asked


def test_it_shows_the_state(panel):
    assert panel.image.currentText() == "CT"
    assert not panel.hint.isVisible()
    assert panel.tool_buttons["paint"].isChecked()
    assert panel.brush.value() == 12
    assert [button.text() for button in panel.orientation_buttons] == ["Axial · 3", "Coronal · 1", "Sagittal"]
    assert panel.orientation_buttons[0].isChecked()
    assert panel.slice_text.text() == "Slice 41 / 119 · labelled"
    assert panel.marks.marks == (3, 41, 77)
    panel.show_state(replace(READY, orientation=1, slice_index=5, slice_count=60, brush_size=1))
    assert panel.slice_text.text() == "Slice 5 / 59"
    assert panel.marks.marks == (12,)
    assert "1 voxel" in [label.text() for label in panel.findChildren(QLabel)]
    assert "coronal slices; 1 slice is labelled" in panel.orientation_buttons[1].toolTip()
    assert "no slices are labelled" in panel.orientation_buttons[2].toolTip()


def test_before_an_image_is_open_it_says_what_to_do(panel):
    panel.show_state(AnnotateState())
    assert panel.hint.isVisible()
    assert "drag a file" in panel.hint.text()
    assert not panel.image.isEnabled()
    assert panel.classes.add.isEnabled()
    panel.show_state(AnnotateState(images=("CT",)))
    assert panel.image.isEnabled()
    assert panel.image.currentIndex() == -1
    assert panel.image.placeholderText()
    assert panel.hint.text() == "Open an image first."


def test_what_cannot_be_done_is_disabled_and_says_why(panel):
    panel.show_state(
        replace(
            READY,
            why_no_paint="Why a.",
            why_no_accept="Why b.",
            why_no_interpolation="Why c.",
            why_no_clear="Why d.",
            labelled_slices=((), (), ()),
        )
    )
    reasons = {
        panel.brush: "Why a.",
        panel.accept: "Why b.",
        panel.interpolate: "Why c.",
        panel.clear: "Why d.",
    }
    reasons |= dict.fromkeys(panel.tool_buttons.values(), "Why a.")
    for widget, why in reasons.items():
        assert not widget.isEnabled()
        assert widget.toolTip() == why
        click(widget)
    for arrow in (panel.before, panel.after):
        assert not arrow.isEnabled()
        assert "is labelled" in arrow.toolTip()
    assert not panel.asked
    panel.show_state(READY)
    assert all(widget.isEnabled() and "Why" not in widget.toolTip() for widget in reasons)


def test_the_image_is_chosen(panel):
    panel.image.setFocus()
    QTest.keyClick(panel.image, Qt.Key.Key_Down)
    assert panel.asked == [("image", "MR")]
    panel.show_state(READY)  # it was refused
    assert panel.image.currentText() == "CT"


def test_tools_are_asked_for_and_follow_the_state(panel):
    for tool in TOOLS:
        click(panel.tool_buttons[tool])
    assert panel.asked == [("tool", tool) for tool in TOOLS]
    panel.show_state(READY)
    assert [tool for tool, button in panel.tool_buttons.items() if button.isChecked()] == ["paint"]


def test_the_brush_is_sized(panel):
    panel.brush.setFocus()
    QTest.keyClick(panel.brush, Qt.Key.Key_Right)
    assert panel.asked == [("brush_size", 13)]
    QTest.keyClick(panel.brush, Qt.Key.Key_Home)
    assert panel.asked[-1] == ("brush_size", 1)
    panel.show_state(replace(READY, brush_size=150))
    assert "150 voxels" in [label.text() for label in panel.findChildren(QLabel)]


def test_orientation_and_slice_are_asked_for(panel):
    click(panel.orientation_buttons[2])
    assert panel.asked == [("orientation", 2)]
    panel.show_state(replace(READY, orientation=2, labelled_slices=((), (), (10, 90)), slice_index=50))
    QTest.mouseClick(panel.marks, LEFT, pos=QPoint(round(panel.marks.position_of(90)), 12))
    assert panel.asked[-1] == ("slice", 2, 90)
    click(panel.before)
    assert panel.asked[-1] == ("slice", 2, 10)
    panel.show_state(replace(READY, orientation=2, labelled_slices=((), (), (10, 90)), slice_index=10))
    assert not panel.before.isEnabled()
    click(panel.after)
    assert panel.asked[-1] == ("slice", 2, 90)


def test_labels_from_others_are_asked_for(panel):
    for button in (panel.accept, panel.interpolate, panel.clear):
        click(button)
    assert panel.asked == [("accept_slice",), ("interpolate",), ("clear_interpolated",)]


def test_classes_are_passed_on(panel):
    background, liver, spleen = panel.classes.rows
    click(background)
    click(liver.delete)
    click(liver.question.accept_button)
    spleen.swatch.menu().actions()[0].trigger()
    QTest.mouseDClick(spleen, LEFT, pos=spleen.name.geometry().center())
    QTest.keyClicks(spleen.name, "kidney")
    QTest.keyClick(spleen.name, Qt.Key.Key_Return)
    click(panel.classes.add)
    assert panel.asked == [
        ("class_select", 1),
        ("class_delete", 2),
        ("class_recolor", 3, "#56b4e9"),
        ("class_rename", 3, "kidney"),
        ("class_add",),
    ]


def test_a_state_in_between_disturbs_nothing(panel):
    panel.activateWindow()
    spleen = panel.classes.rows[2]
    spleen.rename()
    QTest.keyClicks(spleen.name, "kid")
    for size in (13, 14):
        panel.show_state(replace(READY, brush_size=size, voxels={1: size}))
    assert spleen.name.text() == "kid"
    assert spleen.name.cursorPosition() == 3
    QTest.keyClicks(spleen.name, "ney")
    QTest.keyClick(spleen.name, Qt.Key.Key_Return)
    assert panel.asked == [("class_rename", 3, "kidney")]
    panel.brush.setSliderDown(True)
    panel.brush.setValue(30)
    panel.show_state(READY)
    assert panel.brush.value() == 30
    panel.brush.setSliderDown(False)
    panel.show_state(READY)
    assert panel.brush.value() == 12


def test_the_wheel_changes_no_setting_in_passing(panel):
    panel.setFocus()
    for widget in (panel.image, panel.brush, panel.marks):
        wheel = QWheelEvent(
            QPointF(5, 5), QPointF(5, 5), QPoint(0, -120), QPoint(0, -120), Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(widget, wheel)
    assert not panel.asked


def test_keys_in_tooltips_are_those_that_work(panel):
    keys = {shortcut.key: shortcut.help for shortcut in SHORTCUTS}
    help_of = {
        panel.tool_buttons["move"]: "Move",
        panel.tool_buttons["paint"]: "Paintbrush",
        panel.tool_buttons["erase"]: "Eraser",
        panel.tool_buttons["fill"]: "Fill",
        panel.tool_buttons["polygon"]: "polygon",
        panel.accept: "Accept",
        panel.interpolate: "Interpolate",
    }
    for button, words in help_of.items():
        (key,) = re.findall(r"\((\w)\)$", button.toolTip())
        assert words in keys[key]
    assert "orientation" in keys["O"]
    assert "Smaller" in keys["["]


def test_everything_has_a_tooltip_and_a_name(panel):
    for widget in panel.findChildren(QWidget):
        if widget.isVisible() and widget.focusPolicy() != Qt.FocusPolicy.NoFocus:
            name = widget.accessibleName() or getattr(widget, "text", str)()
            assert name, widget
            assert widget.toolTip() or widget is panel.marks, name


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("state", [READY, AnnotateState()])
def test_nothing_is_cut_off_in_a_narrow_dock(theme, state):
    from napari.qt import get_stylesheet

    long = replace(
        state,
        images=("CT_abdomen_portal_venous_phase_2mm_axial_reconstruction",),
        image="CT_abdomen_portal_venous_phase_2mm_axial_reconstruction",
        labelled_slices=(tuple(range(100, 119)), tuple(range(20)), tuple(range(50))),
        brush_size=200,
    )
    panel = AnnotatePanel()
    panel.setStyleSheet(get_stylesheet(theme))
    panel.show_state(long)
    panel.resize(300, panel.sizeHint().height())
    panel.show()
    QApplication.processEvents()
    assert panel.width() == 300
    for button in panel.findChildren(QPushButton):
        if button.isVisible():
            assert button.fontMetrics().horizontalAdvance(button.text()) <= button.width() - 4, button.text()
    for label in panel.findChildren(QLabel):
        if label.isVisible() and not label.wordWrap():
            assert label.fontMetrics().horizontalAdvance(label.text()) <= label.width(), label.text()
        elif label.isVisible():
            assert label.heightForWidth(label.width()) <= label.height() + 1, label.text()
    panel.close()
