"""The head of the dock: what is saved, the offer, the project menu, help."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from qtpy.QtWidgets import QLabel, QMenu, QPushButton, QToolButton

from napari_sparseseg.project import ProjectSummary
from napari_sparseseg.widgets.header import Header
from napari_sparseseg.widgets.shortcuts import SHORTCUTS
from napari_sparseseg.widgets.snapshots import DockState

NOW = datetime(2026, 3, 4, 14, 5, tzinfo=UTC)
RECENT = [
    ProjectSummary(Path("/data/one"), "one", NOW, ("CT & abdomen",), 12, clean=True, in_use=False),
    ProjectSummary(Path("/data/two"), "two", NOW, ("MR",), 3, clean=False, in_use=True),
]


@pytest.fixture
def header():
    made = Header(lambda: RECENT)
    yield made
    made.deleteLater()


def test_an_offer_does_not_stop_the_work(header):
    header.show_state(DockState(project="scan of today", saved="12 changes saved", offer="Go on?"))
    asked = []
    header.restore_requested.connect(lambda: asked.append("restore"))
    header.dismiss_requested.connect(lambda: asked.append("dismiss"))
    for button in header.findChildren(QPushButton):
        button.click()
    assert asked == ["restore", "dismiss"]
    assert "12 changes saved" in {label.text() for label in header.findChildren(QLabel)}
    header.show_state(DockState(project="scan of today"))
    assert all(button.parentWidget().isHidden() for button in header.findChildren(QPushButton))


def test_the_help_lists_every_key(header):
    (button,) = (each for each in header.findChildren(QToolButton) if each.text() == "?")
    button.click()
    (dialog,) = (
        each for each in header.children() if each.isWidgetType() and each.isWindow() and each.isVisible()
    )
    assert not dialog.isModal()
    texts = {label.text() for label in dialog.findChildren(QLabel)}
    assert {shortcut.help for shortcut in SHORTCUTS} <= texts
    dialog.close()


def test_the_menu_opens_recent_projects(header):
    asked = []
    header.open_requested.connect(asked.append)
    header.begin_requested.connect(asked.append)
    (menu,) = header.findChildren(QMenu)
    for _ in range(2):  # it is filled anew each time
        menu.aboutToShow.emit()
    new, new_in, open_folder, _, first, second = menu.actions()
    assert [each.text() for each in (new, new_in, open_folder)] == [
        "New project", "New project in a folder…", "Open a folder…",
    ]  # fmt: skip
    assert first.text() == "04 Mar 14:05 · CT && abdomen · 12 strokes"
    assert not second.isEnabled()
    assert "open elsewhere" in second.text()
    first.trigger()
    new.trigger()
    assert asked == [Path("/data/one"), None]
