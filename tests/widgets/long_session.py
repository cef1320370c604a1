"""Half an hour's worth of the loop in a minute, in a process of its own: prints its sizes in MiB as JSON.

The computing is left to a worker that answers at once, for it is the window's memory that is measured.
"""

import gc
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

STROKES = 450  # one every four seconds
STEPS = 18_000  # ten training steps a second
VOLUMES = 20
SHAPE = (48, 96, 96)


def resident():
    """Return this process's resident memory in MiB."""
    release()
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def release():
    """Delete the widgets that napari has given up; outside a running event loop Qt leaves them be."""
    from qtpy.QtCore import QEvent
    from qtpy.QtWidgets import QApplication

    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def main():
    """Work, and measure before and after."""
    import napari

    from napari_sparseseg.events import HeldOutScored, PictureChanged, StepDone
    from napari_sparseseg.widgets.dock import SparseSegmentationDock
    from tests.widgets.conftest import InstantWorker, settle, wait_for

    viewer = napari.Viewer()
    workers = []

    def make_coordinator(viewer):
        from napari_sparseseg.widgets.coordinator import Coordinator

        def make_worker(*callbacks, dispatch):
            workers.append(InstantWorker(*callbacks, dispatch=dispatch))
            return workers[-1]

        return Coordinator(viewer, make_worker=make_worker)

    dock = SparseSegmentationDock(viewer, make_coordinator)
    viewer.window.add_dock_widget(dock, name="Sparse segmentation")
    coordinator, worker = dock.coordinator, workers[0]
    gc.collect()
    gc.freeze()  # napari makes a collection for each layer taken out
    random = np.random.default_rng(0)

    def open_volume(number):
        name = f"volume {number}"
        viewer.add_image(random.normal(size=SHAPE).astype(np.float32), name=name)
        coordinator.images.choose(name)
        wait_for(lambda: coordinator.session.image == name)
        settle()

    def work(strokes, steps):
        layer = coordinator._place.case.layers.annotation
        for number in range(strokes):
            place = random.integers((0, 8, 8), np.array(SHAPE) - 8)
            viewer.dims.set_current_step(0, int(place[0]))
            with layer.block_history():
                layer.paint(tuple(place), 1 + number % 2)
            for step in range(steps // strokes):
                worker.on_event(StepDone(number * 40 + step, random.random(), 0.5))
            worker.on_event(HeldOutScored(number, 0.5, {"class 2": 0.5}))
            worker.on_event(PictureChanged(((0, SHAPE[0]), (0, SHAPE[1]), (0, SHAPE[2])), "both"))
            if number % 10 == 0:
                worker.picture(np.full(SHAPE, 1 + number % 2, np.uint8))
            settle()

    open_volume(0)
    coordinator.predict.train(True)
    work(60, 2_400)
    sizes = {"first": resident()}
    work(STROKES, STEPS)
    sizes["after the loop"] = resident()
    for number in range(1, VOLUMES + 1):
        viewer.layers.remove(f"volume {number - 1}")
        release()
        open_volume(number)
        work(4, 40)
    sizes["after the volumes"] = resident()
    sizes["torch"] = "torch" in sys.modules
    viewer.close()
    settle(0.2)
    sys.stdout.write(json.dumps(sizes) + "\n")


if __name__ == "__main__":
    main()
