"""How long a user waits: from a stroke to its answer, and how smoothly the window goes on meanwhile.

    xvfb-run -a python benchmarks/interaction.py [--size 128]

A real napari window with a generated volume is painted on by mouse events.  Times run from the release of the
mouse button to the moment the layer is drawn anew.  A frame is one scroll or mouse movement with all that the
window does about it, drawing included; frames come at most sixty times a second, as a screen asks for them.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

RECORD = Path(__file__).resolve().parent / "records" / "interaction.md"
FRAME = 1 / 60
STROKES = 20
FRAMES = 400


class Bench:
    """The window, and what has been measured."""

    def __init__(self, size: int) -> None:
        import napari
        from robot import Robot

        from napari_sparseseg.sample_data import generate_case

        volume, self.truth, _ = generate_case(0, (size, size, size), (1.5, 1.0, 1.0), classes=1)
        self.viewer = napari.Viewer()
        self.viewer.add_image(volume.data[0], name="volume", affine=volume.affine)
        start = time.perf_counter()
        _, panel = self.viewer.window.add_plugin_dock_widget("napari-sparseseg", "Sparse segmentation")
        self.panel_seconds = time.perf_counter() - start
        self.coordinator = panel.coordinator
        self.events: list[tuple[float, object]] = []
        self.drawn: list[float] = []
        self.coordinator._place.link.arrived.connect(lambda e: self.events.append((time.perf_counter(), e)))
        self.robot = Robot(self.viewer)

    @property
    def case(self):
        """The image in work."""
        return self.coordinator._place.case

    def heard(self, kind, since, where=lambda event: True):
        """Return when the first event of a kind came after a moment, or None."""
        return next((at for at, e in self.events if at >= since and isinstance(e, kind) and where(e)), None)

    def drawn_after(self, moment):
        """Return when the layer was first drawn after a moment, or None."""
        return next((at for at in self.drawn if at >= moment), None)

    def stroke(self, index, value, number=0):
        """Paint a stroke on an axial slice inside a class (painted value) and return when it ended."""
        layer = self.case.layers.annotation
        places = np.argwhere((self.truth[index] == value - 1) & (layer.data[index] == 0))
        row = np.random.default_rng(number).choice(places)
        last = self.truth.shape[2] - 1
        run = [(index, row[0], min(row[1] + step, last)) for step in range(0, 8, 2)]
        layer.selected_label = value
        self.robot.stroke(layer, run)
        return time.perf_counter()

    def show(self, index):
        """Go to an axial slice."""
        self.coordinator.annotate.go_to_slice(0, index)
        self.robot.settle(0.2)

    def frames(self, painting):
        """Scroll or paint for a while; return the seconds of each frame."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest
        from qtpy.QtWidgets import QApplication

        layer = self.case.layers.annotation
        size = self.truth.shape[0]
        seconds = []
        index = size // 2
        point = self.robot.canvas_position(layer, (index, size // 2, size // 2))
        if painting:
            QTest.mousePress(self.robot.canvas, Qt.MouseButton.LeftButton, pos=point)
        for frame in range(FRAMES):
            start = time.perf_counter()
            if painting:
                place = (index, size // 2 + 20 * np.sin(frame / 9), size // 2 + 20 * np.cos(frame / 7))
                point = self.robot.canvas_position(layer, place)
                QTest.mouseMove(self.robot.canvas, point)
            else:
                step = size // 2 + round(20 * np.sin(frame / 12))
                self.viewer.dims.set_current_step(0, step)
            QApplication.processEvents()
            seconds.append(time.perf_counter() - start)
            while time.perf_counter() - start < FRAME:
                time.sleep(0.001)
        if painting:
            QTest.mouseRelease(self.robot.canvas, Qt.MouseButton.LeftButton, pos=point)
            QApplication.processEvents()
            layer.undo()
        return seconds


def measure(size: int) -> dict[str, float]:
    """Run the loop and return seconds by what was measured."""
    from napari_sparseseg.events import ImageReady, PictureChanged, PictureCompleted, StepDone, StrokeLearnt

    begun = time.perf_counter()
    bench = Bench(size)
    robot, figures = bench.robot, {"opening the panel": bench.panel_seconds}
    robot.wait(lambda: bench.heard(ImageReady, 0), 120, "the image")
    figures["worker ready after"] = time.perf_counter() - begun
    layers = bench.case.layers
    layers.prediction.events.set_data.connect(lambda: bench.drawn.append(time.perf_counter()))
    bench.coordinator.annotate.use_tool("paint")
    layers.annotation.brush_size = 4
    counts = (bench.truth == 1).sum((1, 2))
    middle = int(counts.argmax())
    bench.show(middle)
    still = [*bench.frames(painting=False), *bench.frames(painting=True)]
    bench.show(middle)
    bench.stroke(middle, 1)
    ended = bench.stroke(middle, 2)

    def visible(event):
        return event.region[0][0] <= middle < event.region[0][1]

    def answered(since, where=visible):
        heard = bench.heard(PictureChanged, since, where)
        return None if heard is None else bench.drawn_after(heard)

    robot.wait(lambda: answered(ended), what="the preview")
    figures["first preview of the visible slice"] = answered(ended) - ended
    robot.wait(lambda: bench.heard(PictureCompleted, ended), what="the whole preview")
    figures["first preview of the whole volume"] = bench.heard(PictureCompleted, ended) - ended
    for number in range(4):
        bench.stroke(middle, 1 + number % 2, number + 10)
    bench.coordinator.predict.train(True)
    robot.wait(lambda: bench.heard(StepDone, 0, lambda event: event.step >= 120), 180, "120 steps")
    answers, learnt = [], []
    for number in range(STROKES):
        robot.settle(0.6)
        ended = bench.stroke(middle, 1 + number % 2, number)
        since = ended
        robot.wait(lambda since=since: bench.heard(StrokeLearnt, since), what="training")
        taken = bench.heard(StrokeLearnt, since)
        robot.wait(lambda taken=taken: answered(taken), what="the answer")
        learnt.append(taken - since)
        answers.append(answered(taken) - since)
    figures["stroke to the updated visible slice while training, median of 20"] = float(np.median(answers))
    figures["stroke to training, median of 20"] = float(np.median(learnt))
    figures["stroke to training, slowest of 20"] = max(learnt)
    busy = [*bench.frames(painting=False), *bench.frames(painting=True)]
    assert bench.heard(StepDone, time.perf_counter() - 3), "training ended before the frames were measured"
    figures["95th percentile of a frame without training"] = float(np.percentile(still, 95))
    figures["95th percentile of a frame while training"] = float(np.percentile(busy, 95))
    steps = [e.step for _, e in bench.events if isinstance(e, StepDone)]
    figures["training steps taken"] = float(max(steps))
    bench.viewer.close()
    robot.settle(0.5)
    return figures


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SPARSESEG_PROJECTS"] = folder
        figures = measure(options.size)
    aims = {
        "opening the panel": 1.0,
        "first preview of the visible slice": 2.0,
        "first preview of the whole volume": 5.0,
        "stroke to the updated visible slice while training, median of 20": 1.5,
        "stroke to training, median of 20": 0.3,
        "95th percentile of a frame without training": 0.040,
        "95th percentile of a frame while training": 0.050,
    }
    rows = [
        f"| {name} | {value:.3f} | {f'≤ {aims[name]:g}' if name in aims else ''} |"
        for name, value in figures.items()
    ]
    RECORD.write_text(
        "\n".join(
            [
                f"# The interactive loop on a {options.size}³ volume",
                "",
                f"`xvfb-run -a python benchmarks/interaction.py --size {options.size}`, "
                f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, software OpenGL, "
                f"Python {platform.python_version()}.",
                "",
                "| what | seconds | aim |",
                "|---|---|---|",
                *rows,
                "",
            ]
        ),
        encoding="utf-8",
    )
    print(RECORD.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
