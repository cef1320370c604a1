"""Make the README's pictures: real sessions on the sample volumes, painted and drawn by mouse events.

xvfb-run -a -s "-screen 0 1280x800x24" python docs/screenshots.py
"""

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "tests"))

SIZE = (1280, 800)
TALL = (1280, 1100)  # for a long panel
GREY, WHITE = 2, 3
SLICES = (40, 46, 52)
SHOWN = 49  # nothing is labelled on it
STEPS = 350
BOX_STEPS = 150
VOLUMES = 20  # without labels
COHORT, LABELLED = 10, 3


def show_strokes() -> None:
    """Paint, train, and take pictures on the way."""
    import napari
    from robot import Robot

    from napari_sparseseg.events import PictureCompleted, StepDone

    viewer = napari.Viewer()
    image, truth_layer = viewer.open_sample("napari-sparseseg", "mni")
    truth = np.asarray(truth_layer.data)
    viewer.layers.remove(truth_layer)
    wanted = np.select([truth == 2, truth == 3], [GREY, WHITE], 1)
    _, dock = viewer.window.add_plugin_dock_widget("napari-sparseseg", "Sparse segmentation")
    robot = Robot(viewer)
    robot.window.resize(*SIZE)
    coordinator, events = dock.coordinator, []
    coordinator._place.link.arrived.connect(events.append)
    robot.wait(lambda: coordinator.session.worker == "ready" and coordinator.session.image, what="the image")
    coordinator.annotate.add_class()
    coordinator.annotate.rename_class(GREY, "grey matter")
    coordinator.annotate.rename_class(WHITE, "white matter")
    labels = viewer.layers[f"labels of {image.name}"]
    labels.brush_size = 2

    def picture(name: str) -> None:
        robot.settle(0.8)
        viewer.window.screenshot(str(FOLDER / name), canvas_only=False, flash=False)

    def paint(index: int, number: int) -> None:
        viewer.dims.set_current_step(0, index)
        robot.settle(0.2)
        for value, length in ((1, 14), (GREY, 6), (WHITE, 8)):
            labels.selected_label = value
            for y, first, last in find_runs(wanted[index] == value, number, length, index + value):
                robot.stroke(labels, [(index, y, x) for x in range(first, last + 1)])

    paint(SLICES[0], 12)
    paint(SLICES[1], 12)
    picture("quick_start_1.png")
    robot.wait(lambda: any(isinstance(e, PictureCompleted) for e in events), what="the preview")
    paint(SLICES[2], 12)
    viewer.dims.set_current_step(0, SHOWN)
    dock.show_panel("Train")
    coordinator.predict.train(True)
    robot.wait(
        lambda: any(isinstance(e, StepDone) and e.step >= STEPS for e in events), 240, "the network's steps"
    )
    picture("quick_start_2.png")
    viewer.window.screenshot(str(FOLDER / "loop.png"), canvas_only=False, flash=False)
    coordinator.predict.train(False)
    before = len(events)
    robot.wait(lambda: any(isinstance(e, PictureCompleted) for e in events[before:]), what="the last picture")
    dock.show_panel("Predict")
    coordinator.predict.suggest_slice()
    picture("quick_start_3.png")
    viewer.close()
    robot.settle(0.5)


def show_boxes() -> None:
    """Draw a box round each organ of the generated sample, and make masks in rounds."""
    import napari
    from robot import Robot

    from napari_sparseseg.box_geometry import boxes_of_labels

    viewer = napari.Viewer()
    image, truth = viewer.open_sample("napari-sparseseg", "synthetic")
    truth.data = np.where(truth.data > 0, truth.data + 1, 0)  # as painted here: classes begin with 2
    truth.name, truth.visible = "truth", False
    _, dock = viewer.window.add_plugin_dock_widget("napari-sparseseg", "Sparse segmentation")
    robot = Robot(viewer)
    robot.window.resize(*SIZE)
    coordinator = dock.coordinator
    robot.wait(lambda: coordinator.session.worker == "ready" and coordinator.session.image, what="the image")
    dock.show_panel("Boxes")
    work = coordinator.session.boxes
    for box in boxes_of_labels(np.asarray(truth.data)):
        while box.label not in coordinator.session.table.mask_values:
            coordinator.annotate.add_class()
        coordinator.annotate.select(box.label)
        coordinator.box_drawing.draw(True)
        (first, top, left), (after, bottom, right) = box.start, box.stop
        for index in ((first + after) // 2, first, after - 1):
            viewer.dims.set_current_step(0, index)
            robot.settle(0.3)
            robot.stroke(
                image,
                [
                    (index, top - 0.4, left - 0.4),
                    (index, bottom - 2, right - 2),
                    (index, bottom - 0.6, right - 0.6),
                ],
            )
            robot.settle(0.3)
    coordinator.boxes.compare_with("truth")
    session = coordinator.session
    recursion = replace(session.recursion, rounds=2, round_steps=BOX_STEPS)
    coordinator.boxes.change_settings(session.box_config, recursion, session.crf)
    viewer.dims.set_current_step(0, image.data.shape[-3] // 2)
    coordinator.boxes.run()
    robot.wait(lambda: len(work.rounds) == 3 and not work.running, 240, "the rounds")
    robot.settle(0.5)
    panel = dock.panels.currentWidget()
    panel.verticalScrollBar().setValue(panel.verticalScrollBar().maximum())
    robot.settle(0.8)
    viewer.window.screenshot(str(FOLDER / "boxes.png"), canvas_only=False, flash=False)
    viewer.close()
    robot.settle(0.5)


def show_class_maps() -> None:
    """Say in which slices each organ of the generated sample is, let a classifier learn, and map one."""
    import napari
    from robot import Robot

    viewer = napari.Viewer()
    _, truth_layer = viewer.open_sample("napari-sparseseg", "synthetic")
    truth = np.asarray(truth_layer.data)
    viewer.layers.remove(truth_layer)
    _, dock = viewer.window.add_plugin_dock_widget("napari-sparseseg", "Sparse segmentation")
    robot = Robot(viewer)
    robot.window.resize(*SIZE)
    coordinator = dock.coordinator
    robot.wait(lambda: coordinator.session.worker == "ready" and coordinator.session.image, what="the image")
    dock.show_panel("Class maps")
    names = {1: "liver", 2: "kidney", 3: "spleen"}
    for value, name in names.items():
        while value + 1 not in coordinator.session.table.mask_values:
            coordinator.annotate.add_class()
        coordinator.annotate.rename_class(value + 1, name)
        coordinator.annotate.select(value + 1)
        for axis in range(3):
            coordinator.annotate.turn(axis)
            shown = np.flatnonzero((truth == value).any(tuple({0, 1, 2} - {axis})))
            coordinator.annotate.go_to_slice(axis, int(shown[0]))
            robot.settle(0.3)
            coordinator.cam.begin_range()
            coordinator.annotate.go_to_slice(axis, int(shown[-1]))
            robot.settle(0.3)
            coordinator.cam.end_range()
    coordinator.annotate.turn(0)
    coordinator.annotate.select(2)
    coordinator.annotate.go_to_slice(0, int(np.argmax((truth == 1).sum((1, 2)))))
    work = coordinator.session.cam
    coordinator.cam.train()
    robot.wait(lambda: work.has_classifier and not work.running, 300, "the classifier")
    coordinator.cam.make_map()
    robot.wait(lambda: work.mapped is not None and not work.running, 120, "the map")
    robot.settle(1.0)
    viewer.window.screenshot(str(FOLDER / "class_maps.png"), canvas_only=False, flash=False)
    viewer.close()
    robot.settle(0.5)


def show_pretraining() -> None:
    """Let two encoders learn from generated volumes without labels, and compare them on a few strokes."""
    import napari
    from robot import Robot

    viewer = napari.Viewer()
    image, truth_layer = viewer.open_sample("napari-sparseseg", "synthetic")
    wanted = np.asarray(truth_layer.data) + 1  # as painted here: 1 is background
    viewer.layers.remove(truth_layer)
    _, dock = viewer.window.add_plugin_dock_widget("napari-sparseseg", "Sparse segmentation")
    robot = Robot(viewer)
    robot.window.resize(*TALL)
    coordinator, session = dock.coordinator, dock.coordinator.session
    robot.wait(lambda: session.worker == "ready" and session.image, what="the image")
    pretrain, work = coordinator.pretrain, session.pretrain
    while session.table.mask_values[-1] < wanted.max():
        coordinator.annotate.add_class()
    paint_slices(robot, image.name, wanted)
    dock.show_panel("Pre-train")
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "unlabelled scans")
        write_scans(folder, VOLUMES, seed=100)
        pretrain.choose_folder(str(folder))
        robot.wait(lambda: session.volumes.folder_files, what="the folder")
        for task, seconds in (("simclr", 45), ("masked_autoencoder", 60)):
            config = replace(session.pretraining, task=task, seconds=seconds)
            pretrain.change_settings(config, session.pretext)
            pretrain.train()
            robot.wait(lambda: not work.running, 300, "the encoder")
        pretrain.probe()
        robot.wait(lambda: not work.running, 120, "the comparison")
    robot.settle(0.5)
    panel = dock.panels.currentWidget()
    panel.verticalScrollBar().setValue(panel.verticalScrollBar().maximum())
    robot.settle(0.8)
    viewer.window.screenshot(str(FOLDER / "pretrain.png"), canvas_only=False, flash=False)
    viewer.close()
    robot.settle(0.5)


def show_cohort() -> None:
    """Label some cases of a project, let one network learn from them, and segment a folder with it."""
    import napari
    from robot import Robot

    from napari_sparseseg.widgets.batch_panel import BatchPanel

    viewer = napari.Viewer()
    _, dock = viewer.window.add_plugin_dock_widget("napari-sparseseg", "Sparse segmentation")
    robot = Robot(viewer)
    robot.window.resize(*TALL)
    coordinator, session = dock.coordinator, dock.coordinator.session
    robot.wait(lambda: session.worker == "ready", what="the worker")
    with tempfile.TemporaryDirectory() as parent:
        cases, scans = Path(parent, "ten cases"), Path(parent, "abdomen, May 2026")
        truths = write_scans(cases, COHORT, seed=0)
        write_scans(scans, VOLUMES, seed=200)
        for name in ("scan_05", "scan_13"):
            (scans / f"{name}.nii.gz").write_bytes(b"cut off")
        dock.show_panel("Cases")
        coordinator.cases.add((str(cases),))
        robot.wait(lambda: len(session.cohort.cases) == COHORT, what="the cases")
        for case, wanted in list(zip(session.cohort.cases, truths, strict=True))[:LABELLED]:
            coordinator.cases.open(case.key)
            robot.wait(
                lambda case=case: session.cohort.opened == case.key and session.paintable, what=case.name
            )
            for value, organ in enumerate(("liver", "kidney", "spleen"), 2):
                if value not in session.table.mask_values:
                    coordinator.annotate.add_class()
                coordinator.annotate.rename_class(value, organ)
            robot.settle(0.5)
            paint_slices(robot, session.image, wanted)
            coordinator.cases.mark_done({case.key}, True)
        coordinator.cohort.set_minutes(2)
        coordinator.cohort.train()
        robot.wait(lambda: not session.cohort.running, 600, "the network of all cases")
        coordinator.cohort.ask_which_next()
        robot.wait(lambda: not session.cohort.running, 240, "which case is next")
        robot.settle(1.5)
        viewer.window.screenshot(str(FOLDER / "cases.png"), canvas_only=False, flash=False)
        dock.show_panel("Batch")
        coordinator.batch.choose_sources((str(scans),))
        robot.wait(lambda: not session.batching.looking, what="the volumes")
        coordinator.batch.run()
        robot.wait(lambda: not session.batching.running, 240, "the batch")
        robot.settle(0.5)
        names = dock.findChild(BatchPanel).results.names
        coordinator.batch.show_result(names[2])
        robot.wait(lambda: f"mask of {names[2]}" in viewer.layers, what="the mask")
        panel = dock.panels.currentWidget()
        panel.verticalScrollBar().setValue(panel.verticalScrollBar().maximum())
        robot.settle(1.5)
        viewer.window.screenshot(str(FOLDER / "batch.png"), canvas_only=False, flash=False)
    viewer.close()
    robot.settle(0.5)


def write_scans(folder: Path, number: int, seed: int) -> list[np.ndarray]:
    """Write generated volumes; return where their organs are, ``(Z, Y, X)`` as they are painted here."""
    import nibabel

    from napari_sparseseg.sample_data import generate_cohort

    folder.mkdir()
    truths = []
    for index, (volume, truth, _) in enumerate(generate_cohort(number, seed=seed)):
        # In the orientation that all images are shown in, so that the truth need not be turned.
        scan = nibabel.Nifti1Image(
            volume.data[0].T, np.diag([-1, -1, 1, 1.0]) @ np.diag([*volume.spacing[::-1], 1])
        )
        nibabel.save(scan, folder / f"scan_{index:02}.nii.gz")
        truths.append(truth + 1)
    return truths


def paint_slices(robot, name: str, wanted: np.ndarray) -> None:
    """Paint strokes on five slices of an image, each within what `wanted` ``(Z, Y, X)`` has there."""
    viewer = robot.viewer
    labels = viewer.layers[f"labels of {name}"]
    labels.brush_size = 1  # a wider one would spill over
    middle = len(wanted) // 2
    for index in (middle - 16, middle - 8, middle - 2, middle + 6, middle + 15):
        viewer.dims.set_current_step(0, index)
        robot.settle(0.2)
        for value in range(1, wanted.max() + 1):
            labels.selected_label = value
            runs = find_runs(wanted[index] == value, 24, 3, index + value)
            if value == 1:  # between the organs, too
                runs += find_runs(wanted[index] == value, 24, 8, index)
            for y, first, last in runs:
                robot.stroke(labels, [(index, y, first), (index, y, last)])
    viewer.dims.set_current_step(0, middle)


def find_runs(mask: np.ndarray, number: int, length: int, seed: int) -> list[tuple[int, int, int]]:
    """Return `number` runs ``(y, first x, last x)`` of at least `length` voxels inside a mask ``(Y, X)``."""
    runs = []
    for y, line in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(np.int8), [0]])))
        runs += [(y, int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    runs = [run for run in runs if length <= run[2] - run[1] <= 3 * length]
    chosen = np.random.default_rng(seed).permutation(len(runs))[:number]
    return [runs[place] for place in chosen]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SPARSESEG_PROJECTS"] = folder
        show_strokes()
        show_boxes()
        show_class_maps()
        show_pretraining()
        show_cohort()
