"""The panel opens and closes without a word of Qt's, and leaves no widget behind."""

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QtMsgType, qInstallMessageHandler
from qtpy.QtWidgets import QApplication

from napari_sparseseg.widgets.dock import BatchDock, CasesDock, PredictDock, SparseSegmentationDock
from tests.widgets.conftest import settle


@pytest.fixture
def complaints():
    """What Qt warns of while the test runs."""
    heard = []

    def take(kind, context, text):
        if kind != QtMsgType.QtDebugMsg:
            heard.append(text)

    before = qInstallMessageHandler(take)
    yield heard
    qInstallMessageHandler(before)


@pytest.mark.parametrize("kind", [SparseSegmentationDock, CasesDock, PredictDock, BatchDock])
def test_opening_and_closing_draws_no_warning(make_coordinator, complaints, kind):
    import napari

    before = {id(each) for each in QApplication.allWidgets()}  # of other tests, which wait for an event loop
    viewer = napari.Viewer(show=True)
    viewer.add_image(np.zeros((4, 20, 20), np.float32), name="scan")
    settle(0.2)
    complaints.clear()  # napari's own, of a screen without a window manager
    widget = kind(viewer, make_coordinator)
    viewer.window.add_dock_widget(widget, name="Sparse segmentation")
    settle(0.3)
    viewer.window.remove_dock_widget(widget)
    viewer.close()
    settle(0.2)
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert complaints == []
    left = [each for each in QApplication.allWidgets() if id(each) not in before]
    assert [each for each in left if type(each).__module__.startswith("napari_sparseseg")] == []
