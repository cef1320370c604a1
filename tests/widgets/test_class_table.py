"""The class table, with real mouse and key events."""

from dataclasses import replace

import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QColorDialog, QLabel, QVBoxLayout, QWidget

from napari_sparseseg.annotation import ClassTable, LabelClass
from napari_sparseseg.widgets.class_row import COLORS
from napari_sparseseg.widgets.class_table import ClassTableEditor

LEFT = Qt.MouseButton.LeftButton
SIGNALS = ("add", "rename", "recolor", "delete", "select")
TABLE = ClassTable.from_values([2, 3, 12], {2: "liver", 3: "spleen", 12: "vessels"})


class Window(QWidget):
    """Takes the keys that nothing in it wants, as napari's window does."""

    def __init__(self):
        super().__init__()
        self.keys = []

    def keyPressEvent(self, event):
        self.keys.append(event.text())


@pytest.fixture
def window():
    made = Window()
    made.resize(300, 400)
    yield made
    made.close()


@pytest.fixture
def editor(window):
    made = ClassTableEditor()
    QVBoxLayout(window).addWidget(made)
    window.show()
    window.activateWindow()
    made.asked = []
    for name in SIGNALS:
        signal = getattr(made, f"{name}_requested")
        signal.connect(lambda *given, name=name: made.asked.append((name, *given)))
    made.show_classes(TABLE, 2, {1: 20533, 2: 1204})
    QApplication.processEvents()
    return made


def row(editor, value):
    (found,) = [each for each in editor.rows if each.value == value]
    return found


def click(widget):
    QTest.mouseClick(widget, LEFT, pos=widget.rect().center())
    QApplication.processEvents()


def rename(editor, value, text, key=Qt.Key.Key_Return):
    each = row(editor, value)
    QTest.mouseDClick(each, LEFT, pos=each.name.geometry().center())
    QTest.keyClicks(each.name, text)
    QTest.keyClick(each.name, key)
    QApplication.processEvents()


def test_rows_show_what_there_is(editor):
    assert [each.value for each in editor.rows] == [1, 2, 3, 12]
    assert [each.name.text() for each in editor.rows] == ["background", "liver", "spleen", "vessels"]
    assert [each.key.text() for each in editor.rows] == ["1", "2", "3", ""]
    assert [each.count.text() for each in editor.rows] == ["20,533", "1,204", "0", "0"]
    assert [bool(each.property("chosen")) for each in editor.rows] == [False, True, False, False]
    assert "in use" in row(editor, 2).accessibleName()
    assert not editor.asked


def test_only_the_difference_is_applied(editor):
    before = editor.rows
    editor.show_classes(TABLE, 3, {1: 20600, 3: 1})
    assert all(one is other for one, other in zip(editor.rows, before, strict=True))
    assert row(editor, 1).count.text() == "20,600"
    assert row(editor, 3).property("chosen")
    smaller = ClassTable((TABLE.classes[0], replace(TABLE.classes[3], name="veins"), TABLE.classes[1]))
    editor.show_classes(smaller, 2, {})
    assert [each.value for each in editor.rows] == [1, 12, 2]
    assert row(editor, 12).name.text() == "veins"
    assert row(editor, 2) is before[1]
    assert not editor.asked


def test_a_click_on_a_row_picks_the_class(editor):
    for value in (3, 1, 12):
        each = row(editor, value)
        click(each)
        place = each.mapTo(each.window(), each.name.geometry().center())
        QTest.mouseClick(each.window().windowHandle(), LEFT, Qt.KeyboardModifier.NoModifier, place)
        click(each.count)
    assert editor.asked == [("select", value) for value in (3, 1, 12) for _ in range(3)]


def test_keys_of_a_row(editor, window):
    each = row(editor, 3)
    each.setFocus()
    QTest.keyClick(each, Qt.Key.Key_Space)
    QTest.keyClick(each, Qt.Key.Key_Return)
    assert editor.asked == [("select", 3)] * 2
    QTest.keyClick(each, Qt.Key.Key_2)
    assert window.keys == ["2"]  # napari's key
    QTest.keyClick(each, Qt.Key.Key_F2)
    assert each.name.editing
    QTest.keyClick(each.name, Qt.Key.Key_Escape)
    assert not each.name.editing
    each.setFocus()
    QTest.keyClick(each, Qt.Key.Key_Delete)
    assert each.question.is_asked


def test_a_name_is_edited_in_place(editor, window):
    rename(editor, 3, "  right   kidney ")
    assert editor.asked[-1] == ("rename", 3, "right kidney")
    assert not row(editor, 3).name.editing
    assert row(editor, 3).name.text() == "spleen"  # until it is so
    rename(editor, 3, "2", Qt.Key.Key_Escape)
    rename(editor, 3, " ")
    rename(editor, 3, "spleen")
    assert [name for name, *_ in editor.asked].count("rename") == 1
    assert not window.keys  # what is typed is no key of the viewer


def test_what_is_being_typed_is_not_taken_away(editor):
    each = row(editor, 2)
    QTest.mouseDClick(each, LEFT, pos=each.name.geometry().center())
    QTest.keyClicks(each.name, "live")
    editor.show_classes(TABLE, 3, {2: 99})
    assert each.name.text() == "live"
    assert each.name.editing
    click(row(editor, 3))  # takes it, as leaving the name does
    assert ("rename", 2, "live") in editor.asked
    assert editor.asked[-1] == ("select", 3)


def test_background_keeps_its_name_and_stays(editor):
    each = row(editor, 1)
    QTest.mouseDClick(each, LEFT, pos=each.name.geometry().center())
    assert not each.name.editing
    assert not each.delete.isEnabled()
    assert "Background stays" in each.delete.toolTip()
    click(each.delete)
    assert not each.question.is_asked


def test_the_last_class_stays(editor):
    editor.show_classes(ClassTable(TABLE.classes[:2]), 2, {})
    assert not row(editor, 2).delete.isEnabled()
    assert "must stay" in row(editor, 2).delete.toolTip()


def test_deletion_is_asked_in_the_row(editor):
    each = row(editor, 2)
    click(each.delete)
    assert each.question.is_asked
    assert not each.name.isVisible()
    assert each.question.findChild(QLabel).text() == (
        "Delete liver and its 1,204 labelled voxels? This cannot be undone."
    )
    editor.show_classes(TABLE, 2, {2: 1})
    assert "its 1 labelled voxel?" in each.question.findChild(QLabel).text()
    click(each.question.decline_button)
    assert not each.question.is_asked
    assert each.name.isVisible()
    assert not [name for name, *_ in editor.asked if name == "delete"]
    click(each.delete)
    click(each.question.accept_button)
    assert editor.asked[-1] == ("delete", 2)
    assert each.name.isVisible()  # the row goes when the class does


def test_a_question_is_withdrawn_when_it_has_no_point_any_more(editor):
    each = row(editor, 2)
    click(each.delete)
    editor.show_classes(ClassTable(TABLE.classes[:2]), 2, {})
    assert not each.question.is_asked
    assert each.name.isVisible()


def test_escape_keeps_the_class(editor):
    each = row(editor, 3)
    click(each.delete)
    QTest.keyClick(each.question.decline_button, Qt.Key.Key_Escape)
    assert not each.question.is_asked
    assert ("delete", 3) not in editor.asked


def test_colors_come_from_a_menu(editor):
    each = row(editor, 3)
    assert len(set(COLORS.values())) == 8
    each.swatch.menu().popup(QPoint(0, 0))
    QApplication.processEvents()
    for action in each.swatch.menu().actions():
        if action.text() == "Pink":
            QTest.mouseClick(each.swatch.menu(), LEFT, pos=each.swatch.menu().actionGeometry(action).center())
    assert editor.asked == [("recolor", 3, COLORS["Pink"])]


def test_or_from_a_dialog_that_stops_nothing(editor):
    each = row(editor, 3)
    for _ in range(2):
        each.swatch.menu().actions()[-1].trigger()
    (dialog,) = each.findChildren(QColorDialog)
    assert not dialog.isModal()
    assert dialog.currentColor().name() == TABLE.classes[2].color
    dialog.setCurrentColor("#102030")
    dialog.accept()
    assert editor.asked == [("recolor", 3, "#102030")]
    assert not dialog.isVisible()


def test_a_new_class_is_named_at_once(editor):
    click(editor.add)
    assert editor.asked == [("add",)]
    larger = ClassTable((*TABLE.classes, LabelClass(4, "class 4", "#000000")))
    editor.show_classes(larger, 4, {})
    each = row(editor, 4)
    assert each.name.editing
    assert each.name.selectedText() == "class 4"
    QTest.keyClicks(each.name, "gall bladder")
    QTest.keyClick(each.name, Qt.Key.Key_Return)
    assert editor.asked[-1] == ("rename", 4, "gall bladder")


def test_a_class_that_came_by_itself_takes_no_keys(editor):
    click(editor.add)
    editor.show_classes(TABLE, 2, {})  # refused
    larger = ClassTable((*TABLE.classes, LabelClass(4, "class 4", "#000000")))
    editor.show_classes(larger, 4, {})
    assert not row(editor, 4).name.editing


def test_a_long_name_ends_in_an_ellipsis_and_is_edited_whole(editor):
    long = "left kidney with a cyst that has been there for long"
    classes = list(TABLE.classes)
    classes[2] = replace(classes[2], name=long)
    editor.show_classes(ClassTable(tuple(classes)), 3, {3: 1234567})
    QApplication.processEvents()
    each = row(editor, 3)
    assert each.name.text().endswith("…")
    assert long in each.toolTip()
    assert each.window().width() == 300
    each.rename()
    assert each.name.text() == long


def test_the_tab_key_goes_through_the_rows_in_order(editor):
    start = row(editor, 1)
    start.setFocus()
    seen = [start]
    while seen[-1] is not editor.add:
        QTest.keyClick(seen[-1], Qt.Key.Key_Tab)
        seen.append(QApplication.focusWidget())
        assert len(seen) < 40
    assert [each for each in seen if each in editor.rows] == list(editor.rows)
    assert row(editor, 2).swatch in seen
    assert row(editor, 2).delete in seen


def test_a_click_takes_no_keys_from_the_picture(editor, window):
    window.setFocus()
    for widget in (row(editor, 3), editor.add, row(editor, 3).delete):
        QTest.mouseClick(widget, LEFT, pos=widget.rect().center())
        assert QApplication.focusWidget() in (window, row(editor, 3).question.decline_button)
