"""Shows a widget as the dock does, and uses it as a hand does."""

from contextlib import contextmanager

from napari.qt import get_stylesheet
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFrame, QScrollArea

from tests.widgets.conftest import settle, wait_for

WIDTH = 320  # of the dock, at 1280 × 800


@contextmanager
def shown(widget, theme="dark", height=640):
    """Show a widget in a scroll area of the dock's width, under napari's style."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(widget)
    area.setStyleSheet(get_stylesheet(theme))
    area.resize(WIDTH, height)
    area.show()
    area.activateWindow()
    wait_for(lambda: QApplication.activeWindow() is area)
    settle()
    try:
        yield widget
    finally:
        area.close()
        area.deleteLater()
        settle()


def record(widget, *names):
    """Return a list that grows by name and arguments of each signal emitted."""
    heard = []
    for name in names:
        getattr(widget, name).connect(lambda *given, name=name: heard.append((name, *given)))
    return heard


def click(widget):
    """Click a widget: a check box at its mark, anything else in its middle."""
    center = widget.rect().center()
    place = QPoint(9, center.y()) if hasattr(widget, "checkState") else center
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton, pos=place)
    settle()


def turn_wheel(widget):
    """Turn the mouse wheel by one notch over a widget; tell whether it kept that for itself."""
    place = QPointF(widget.rect().center())
    event = QWheelEvent(
        place, QPointF(widget.mapToGlobal(place.toPoint())), QPoint(), QPoint(0, -120),
        Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(widget, event)
    settle()
    return event.isAccepted()


def cut_off(widget):
    """Return the visible texts that have less room than they need."""
    from qtpy.QtWidgets import QAbstractButton, QCheckBox, QLabel

    short = []
    for part in (*widget.findChildren(QAbstractButton), *widget.findChildren(QLabel)):
        if not part.isVisible() or not part.text():
            continue
        wraps = isinstance(part, QLabel) and part.wordWrap()
        needed = part.heightForWidth(part.width()) if wraps else part.sizeHint().width()
        free = part.height() if wraps else part.width()
        ends_in_ellipsis = isinstance(part, QCheckBox) and part.text().endswith("…")
        if needed > free and not ends_in_ellipsis:
            short.append(part.text())
    return short
