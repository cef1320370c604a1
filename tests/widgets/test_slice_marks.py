"""The bar of slices, with real mouse and key events."""

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QToolTip

from napari_sparseseg.widgets.slice_marks import SliceMarks

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def marks():
    widget = SliceMarks()
    widget.resize(300, 24)
    widget.show()
    widget.show_slices(40, 120, (77, 3, 41))
    QApplication.processEvents()
    widget.asked = []
    widget.slice_requested.connect(widget.asked.append)
    yield widget
    widget.close()


def at(marks, index):
    return QPoint(round(marks.position_of(index)), 12)


def test_showing_asks_for_nothing(marks):
    marks.show_slices(7, 20, (5,))
    marks.show_slices(500, 20, (5, 99))
    assert (marks.value(), marks.maximum(), marks.marks) == (19, 19, (5,))
    assert not marks.asked


def test_every_slice_has_a_place(marks):
    marks.show_slices(0, 200, ())
    assert [marks.index_at(marks.position_of(index)) for index in range(200)] == list(range(200))
    assert marks.index_at(-50) == 0
    assert marks.index_at(5000) == 199


def test_a_click_jumps_there_and_a_drag_follows(marks):
    QTest.mouseClick(marks, LEFT, pos=at(marks, 100))
    assert marks.asked == [100]
    QTest.mousePress(marks, LEFT, pos=at(marks, 20))
    marks.show_slices(100, 120, (3, 41, 77))  # an answer that is late
    assert marks.value() == 20
    for index in (25, 30):
        QTest.mouseMove(marks, at(marks, index))
        QApplication.processEvents()
    QTest.mouseRelease(marks, LEFT, pos=at(marks, 30))
    assert marks.asked[1] == 20
    assert marks.asked[-1] == 30
    marks.show_slices(100, 120, (3, 41, 77))
    assert marks.value() == 100


def test_a_click_near_a_mark_goes_to_the_mark(marks):
    QTest.mouseClick(marks, LEFT, pos=at(marks, 77) + QPoint(3, 0))
    QTest.mouseClick(marks, LEFT, pos=at(marks, 3) - QPoint(3, 0))
    assert marks.asked == [77, 3]


def test_keys_move_by_slices_and_marks(marks):
    for key in (
        "Left",
        "Right",
        "Right",
        "PageUp",
        "PageUp",
        "PageDown",
        "Home",
        "End",
        "PageUp",
        "Up",
        "Down",
    ):
        QTest.keyClick(marks, getattr(Qt.Key, f"Key_{key}"))
    assert marks.asked == [39, 40, 41, 77, 41, 0, 119, 118]


def test_neighbouring_marks_are_known(marks):
    neighbours = {}
    for index in (0, 3, 20, 41, 100):
        marks.show_slices(index, 120, (3, 41, 77))
        neighbours[index] = (marks.previous_mark(), marks.next_mark())
    assert neighbours == {0: (None, 3), 3: (None, 41), 20: (3, 41), 41: (3, 77), 100: (77, None)}


def test_other_keys_and_the_wheel_are_left_to_the_window(marks):
    parent_saw = []

    class Window(type(marks).__mro__[2]):
        def keyPressEvent(self, event):
            parent_saw.append(event.key())

    window = Window()
    marks.setParent(window)
    window.show()
    QTest.keyClick(marks, Qt.Key.Key_2)
    assert parent_saw == [Qt.Key.Key_2]
    wheel = QWheelEvent(
        QPointF(5, 5), QPointF(5, 5), QPoint(0, 120), QPoint(0, 120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(marks, wheel)
    assert not wheel.isAccepted()
    assert not marks.asked
    marks.setParent(None)


def test_the_tooltip_says_which_slice(marks):
    from qtpy.QtCore import QEvent
    from qtpy.QtGui import QHelpEvent

    said = []
    for index in (41, 90):
        place = at(marks, index)
        QApplication.sendEvent(marks, QHelpEvent(QEvent.Type.ToolTip, place, marks.mapToGlobal(place)))
        said.append(QToolTip.text())
    assert said == ["Slice 41, labelled", "Go to slice 90"]
    QToolTip.hideText()


def test_a_single_slice_cannot_be_left(marks):
    marks.show_slices(0, 1, (0,))
    assert not marks.isEnabled()
    QTest.mouseClick(marks, LEFT, pos=QPoint(200, 12))
    assert not marks.asked
    marks.show_slices(0, 0, ())
    assert not marks.isEnabled()


def test_marks_and_handle_are_visible(marks):
    marks.setStyleSheet("background-color: white; color: black;")
    image = marks.grab().toImage()
    ratio = image.width() / marks.width()

    def color(index, y=5):
        return image.pixelColor(round(marks.position_of(index) * ratio), round(y * ratio))

    assert color(77).lightness() < 60  # a mark
    assert color(100).lightness() > 220  # nothing
    assert color(40, 12).blue() > color(40, 12).red() + 80  # the handle
