"""The docks, as napari opens them."""

import os
import signal
import subprocess
import sys

import napari
import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_sparseseg.widgets.coordinator import Coordinator
from napari_sparseseg.widgets.dock import (
    AnnotateDock,
    BatchDock,
    BoxesDock,
    CasesDock,
    ClassMapsDock,
    PredictDock,
    PretrainDock,
    SparseSegmentationDock,
    TrainDock,
    find_coordinator,
)
from tests.widgets.conftest import settle, wait_for

DOCKS = (
    SparseSegmentationDock, CasesDock, AnnotateDock, BoxesDock, ClassMapsDock, PretrainDock, TrainDock,
    PredictDock, BatchDock,
)  # fmt: skip


@pytest.fixture
def dock(viewer, make_coordinator):
    def add(kind):
        widget = kind(viewer, make_coordinator)
        viewer.window.add_dock_widget(widget, name=kind.__name__)
        return widget

    return add


def test_all_docks_of_a_viewer_share_one_coordinator(viewer, dock, workers):
    widgets = [dock(kind) for kind in DOCKS]
    assert len({id(widget.coordinator) for widget in widgets}) == 1
    assert find_coordinator(viewer) is widgets[0].coordinator
    assert len(workers) == 1


def test_two_viewers_work_side_by_side(viewer, make_coordinator, image):
    other = napari.Viewer(show=False)
    try:
        made = []
        for each in (viewer, other):
            each.add_image(image, name="scan")
            made.append(SparseSegmentationDock(each, make_coordinator))
            each.window.add_dock_widget(made[-1], name="dock")
        first, second = (widget.coordinator for widget in made)
        assert first is not second
        wait_for(lambda: first.session.image == second.session.image == "scan")
        layer = viewer.layers["labels of scan"]
        with layer.block_history():
            layer.paint((6, 20, 24), 2)
        assert first.session.changes == 1
        assert second.session.changes == 0
        assert not other.layers["labels of scan"].data.any()
        assert first.session.project != ""
        with (other_layer := other.layers["labels of scan"]).block_history():
            other_layer.paint((6, 20, 24), 2)
        assert second.session.project not in ("", first.session.project)
    finally:
        other.close()
        settle(0.05)
    assert second.closed
    assert not first.closed


@pytest.mark.parametrize("end", ["remove", "viewer"])
def test_the_worker_ends_with_the_last_dock_or_the_window(make_coordinator, workers, end):
    viewer = napari.Viewer(show=False)
    for kind in (AnnotateDock, TrainDock):
        viewer.window.add_dock_widget(kind(viewer, make_coordinator), name=kind.__name__)
    coordinator = find_coordinator(viewer)
    if end == "remove":
        for number, widget in enumerate(list(viewer.window.dock_widgets.values())):
            assert not workers[0].closed
            viewer.window.remove_dock_widget(widget)
            settle()
            assert workers[0].closed is (number == 1)
    else:
        viewer.close()
        wait_for(lambda: workers[0].closed)
    assert coordinator.closed
    viewer.close()
    QApplication.processEvents()


def test_the_manifest_offers_the_docks():
    import npe2

    manifest = npe2.PluginManifest.from_distribution("napari-sparseseg")
    names = [widget.display_name for widget in manifest.contributions.widgets]
    assert names == [
        "Sparse segmentation", "Cases", "Annotate", "Boxes", "Class maps", "Pre-train", "Train", "Predict",
        "Batch",
    ]  # fmt: skip
    for widget, kind in zip(manifest.contributions.widgets, DOCKS, strict=True):
        (command,) = (each for each in manifest.contributions.commands if each.id == widget.command)
        assert command.python_name == f"{kind.__module__}:{kind.__name__}"


def test_the_window_never_loads_what_only_the_worker_needs():
    slow = {"torch", "monai", "sklearn", "nibabel", "SimpleITK", "pydicom"}
    code = f"import sys, napari_sparseseg.widgets.dock; print(sorted({slow!r} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_a_real_worker_starts_comes_back_and_ends_with_the_panel(viewer, projects, told):
    viewer.add_image(np.zeros((4, 8, 8), np.float32), name="scan")
    widget = SparseSegmentationDock(viewer, Coordinator)
    coordinator = widget.coordinator
    client = coordinator._place.link._worker
    wait_for(lambda: coordinator.session.worker == "ready", 120)
    first = client.pid
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: told, 60)
    assert "no stroke is lost" in told[0]
    wait_for(lambda: coordinator.session.worker == "ready", 120)
    assert client.pid != first
    coordinator.close()
    assert not client.alive
    widget.deleteLater()
    settle()
