"""Class maps on real volumes: where a network looks that was told only which slices show what.

    python benchmarks/cam.py [--rows "lung tumour" …] [--device cuda] [--steps 300]

The ranges of slices are taken from the truth.  Per row: the classifier; each method of `CAM_METHODS` beside
two maps that look at no image; then U-Nets that learn from seeds of the maps, from one labelled slice, or
from both, all with the same network, patch, region and steps.  Finished parts are kept in the JSON beside
the record and skipped by the next run, unless the steps or the device differ.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from numpy.typing import NDArray
from scipy import ndimage

from napari_sparseseg.annotation import ClassTable, OverlapCounter, source_code
from napari_sparseseg.cam import map_class
from napari_sparseseg.cam_check import check_map
from napari_sparseseg.cases import Case
from napari_sparseseg.classifier import Classifier, save_classifier
from napari_sparseseg.classifier_training import TaggedCase, train_classifier
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import ClassifierScored, Event, finish
from napari_sparseseg.image_labels import ImageLabel, Presence
from napari_sparseseg.inference import predict_volume
from napari_sparseseg.sample_data import generate_cohort, load_sample
from napari_sparseseg.seeds import make_seeds
from napari_sparseseg.settings import (
    CAM_METHODS,
    CamConfig,
    ClassifierConfig,
    InferenceConfig,
    SeedConfig,
    TrainingConfig,
)
from napari_sparseseg.training import train_network
from napari_sparseseg.volume import Volume, load_labels, load_volume

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RECORDS = Path(__file__).resolve().parent / "records"
ALL_AXES, AXIAL = (0, 1, 2), (0,)
THRESHOLDS = np.arange(0.05, 1, 0.05)
BOX_SHARE = {"grad_cam": 0.15, "grad_cam_pp": 0.15}  # Selvaraju 2017; the others as Zhou 2016
USUAL_BOX_SHARE = 0.2
MARGIN = 8  # voxels round what the ranges leave possible, in which the U-Nets learn and answer
LEAST_PART = 100  # voxels of a connected part of the truth that a box must fit
SEED_METHOD = CamConfig().method
_PEAK = """
import sys
import numpy as np
import torch
from napari_sparseseg.cam import map_class
from napari_sparseseg.classifier import load_classifier
from napari_sparseseg.events import finish
from napari_sparseseg.settings import CamConfig

folder, method, label, device = sys.argv[1:]
subject, image = load_classifier(folder), np.load(folder + "/image.npy")
spacing = tuple(np.load(folder + "/spacing.npy").tolist())


def resident(line):
    with open("/proc/self/status") as file:
        return next(int(row.split()[1]) for row in file if row.startswith(line))


with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # begin to count the peak anew
before = resident("VmRSS")
finish(map_class(subject, image, spacing, int(label), CamConfig(method=method), device=device))
peak = resident("VmHWM") - before
if device == "cuda":
    peak = torch.cuda.max_memory_allocated() / 1024
print(peak / 1024)
"""


@dataclass(frozen=True, eq=False)
class Scan:
    """A volume, its truth (1 background, 2… classes) and its image-level labels."""

    image: NDArray[np.float32]
    spacing: tuple[float, float, float]
    truth: NDArray[np.uint8]
    labels: tuple[ImageLabel, ...]
    name: str

    def presence(self, classes: int) -> Presence:
        """Return what the labels say."""
        depth, height, width = self.truth.shape
        return Presence(self.labels, (depth, height, width), classes)


@dataclass(eq=False)
class Problem:
    """Volumes to learn from; volumes to measure maps on, where these are others; and what is made of them."""

    learnt: list[Scan]
    table: ClassTable
    device: str
    classifier_steps: int
    new: Sequence[Scan] = ()

    @property
    def mapped(self) -> Sequence[Scan]:
        """Volumes whose maps are measured."""
        return self.new or self.learnt

    @cached_property
    def trained(self) -> tuple[Classifier, dict[str, Any]]:
        """The classifier, and its figures on what was held out."""
        scored: list[ClassifierScored] = []

        def note(event: Event) -> None:
            if isinstance(event, ClassifierScored):
                scored[:] = [event]

        config = ClassifierConfig(classifier_steps=self.classifier_steps, device=self.device)
        cases = [TaggedCase(scan.image, scan.spacing, scan.labels, scan.name) for scan in self.learnt]
        start = time.perf_counter()
        classifier = finish(train_classifier(cases, self.table, config), note)
        figures = {
            "seconds": time.perf_counter() - start,
            "balanced_accuracy": scored[0].balanced_accuracy if scored else {},
            "auc": scored[0].auc if scored else {},
            "within_volume": scored[0].within_volume if scored else None,
        }
        return classifier, figures

    @cached_property
    def seeds(self) -> list[NDArray[np.uint8]]:
        """Seeds of each volume learnt from."""
        made = []
        for scan in self.learnt:
            presence = scan.presence(len(self.table))
            maps = {
                label: self.look(scan, label, SEED_METHOD)
                for label in range(2, len(self.table) + 1)
                if presence.is_present(label) is not False
            }
            made.append(make_seeds(maps, presence, SeedConfig()))
        return made

    def look(self, scan: Scan, label: int, method: str) -> NDArray[np.float32]:
        """Return the map of a class."""
        config = CamConfig(method=method)
        work = map_class(self.trained[0], scan.image, scan.spacing, label, config, device=self.device)
        return finish(work).values


def find_ranges(truth: NDArray[np.uint8], classes: int, axes: Sequence[int]) -> tuple[ImageLabel, ...]:
    """Return what an annotator who pages through the slices would say: ranges, or that a class is nowhere."""
    labels = []
    for label in range(2, classes + 1):
        where = truth == label
        if not where.any():
            labels.append(ImageLabel(label, False))
            continue
        for axis in axes:
            shown = where.any(axis=tuple({0, 1, 2} - {axis}))
            parts, number = ndimage.label(shown)
            for part in range(1, number + 1):
                slices = np.flatnonzero(parts == part)
                labels.append(ImageLabel(label, True, axis, int(slices[0]), int(slices[-1])))
    return tuple(labels)


def make_scan(volume: Volume, stored: NDArray[np.int32], keep: Sequence[int], axes: Sequence[int]) -> Scan:
    """Put a volume and the values `keep` of its truth together."""
    truth = np.ones(stored.shape, np.uint8)
    for channel, value in enumerate(keep, start=1):
        truth[stored == value] = channel + 1
    labels = find_ranges(truth, len(keep) + 1, axes)
    return Scan(volume.data, volume.spacing, truth, labels, volume.name)


def read_scan(image: Path | list[Path], labels: Path, keep: Sequence[int], axes: Sequence[int]) -> Scan:
    """Read a volume and its truth."""
    volume = load_volume(image)
    return make_scan(volume, load_labels(labels, volume), keep, axes)


_Scans = tuple[list[Scan], ClassTable, list[Scan]]


def organs(axes: Sequence[int]) -> _Scans:
    """Abdominal CT: liver, spleen, both kidneys."""
    names = json.loads((DATA / "totalseg_ct/labels.json").read_text())
    value_of = {str(name): int(value) for value, name in names.items()}
    keep = [value_of[n] for n in ("liver", "spleen", "kidney_left", "kidney_right")]
    scan = read_scan(DATA / "totalseg_ct/ct.nii.gz", DATA / "totalseg_ct/labels.nii.gz", keep, axes)
    table = ClassTable.from_values(
        [2, 3, 4, 5], {2: "liver", 3: "spleen", 4: "left kidney", 5: "right kidney"}
    )
    return [scan], table, []


def hippocampus() -> _Scans:
    """Anterior and posterior hippocampus: 12 volumes to learn from, 6 new ones to map."""
    images = sorted((DATA / "hippocampus_mr/images").iterdir())[40:58]
    scans = [read_scan(i, DATA / "hippocampus_mr/labels" / i.name, (1, 2), ALL_AXES) for i in images]
    return scans[:12], ClassTable.from_values([2, 3], {2: "anterior", 3: "posterior"}), scans[12:]


def lung_tumour() -> _Scans:
    """Thoracic CT: slabs with and without the tumour."""
    scan = read_scan(DATA / "lung_ct_gtv/ct.nii.gz", DATA / "lung_ct_gtv/gtv.nii.gz", [1], AXIAL)
    return [scan], ClassTable.from_values([2], {2: "tumour"}), []


def lesions() -> _Scans:
    """FLAIR and T1 MR: slabs with and without multiple-sclerosis lesions."""
    folder = DATA / "ms_lesions_mr4"
    scan = read_scan(
        [folder / "patient19_FLAIR.nii.gz", folder / "patient19_T1.nii.gz"],
        folder / "patient19_lesions.nii.gz",
        [1],
        AXIAL,
    )
    return [scan], ClassTable.from_values([2], {2: "lesion"}), []


def sample_brain() -> _Scans:
    """Sample that comes with the package: tissues that nearly every slice shows."""
    volume, labels, table = load_sample()
    return [make_scan(volume, labels, (1, 2, 3), ALL_AXES)], table, []


def generated() -> _Scans:
    """Synthetic bodies with three organs: four to learn from, two new ones to map."""
    cohort = list(generate_cohort(6))
    scans = [make_scan(volume, labels, (1, 2, 3), ALL_AXES) for volume, labels, _ in cohort]
    return scans[:4], cohort[0][2], scans[4:]


ROWS: dict[str, Callable[[], _Scans]] = {
    "organs, axial": partial(organs, AXIAL),
    "organs, three orientations": partial(organs, ALL_AXES),
    "hippocampus": hippocampus,
    "lung tumour": lung_tumour,
    "lesions": lesions,
    "sample brain": sample_brain,
    "generated": generated,
}


def judge_map(
    values: NDArray[np.float32], truth: NDArray[np.bool_], share: float, possible: NDArray[np.bool_]
) -> dict[str, float]:
    """Measure a map ``(Z, Y, X)`` against the object that it should show."""
    held = np.where(possible, values, 0)
    return {
        "pointing": float(points_inside(values, truth)),
        "iou": best_iou(values, truth),
        "box_error": float(box_iou(values, truth, share) < 0.5),
        "energy": float(values[truth].sum() / max(values.sum(), 1e-9)),
        "held_pointing": float(points_inside(held, truth)),
        "held_iou": best_iou(held, truth),
    }


def points_inside(values: NDArray[np.float32], truth: NDArray[np.bool_]) -> bool:
    """Return whether the highest voxel is in the object (pointing game, without the tolerance)."""
    return bool(values.any() and truth.reshape(-1)[values.argmax()])


def best_iou(values: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Return the IoU at the threshold that suits best, of shares of the largest value."""
    if not values.any():
        return 0.0
    steps = np.searchsorted(THRESHOLDS * values.max(), values.reshape(-1), side="right")
    found = np.bincount(steps, minlength=len(THRESHOLDS) + 1)[::-1].cumsum()[:-1]
    right = np.bincount(steps[truth.reshape(-1)], minlength=len(THRESHOLDS) + 1)[::-1].cumsum()[:-1]
    return float((right / (found + np.count_nonzero(truth) - right)).max())


def box_iou(values: NDArray[np.float32], truth: NDArray[np.bool_], share: float) -> float:
    """Return the IoU of the box round the largest part over a share of the maximum with a true part's box."""
    if not values.any():
        return 0.0
    parts, _ = ndimage.label(values > share * values.max())
    largest = int(np.bincount(parts.reshape(-1))[1:].argmax()) + 1
    (found,) = ndimage.find_objects((parts == largest).astype(np.uint8))
    true_parts, _ = ndimage.label(truth, np.ones((3, 3, 3)))
    counts = np.bincount(true_parts.reshape(-1))
    boxes = [*ndimage.find_objects(truth.astype(np.uint8))]
    boxes += [
        box for number, box in enumerate(ndimage.find_objects(true_parts), 1) if counts[number] >= LEAST_PART
    ]
    return max(_overlap(found, box) for box in boxes)


def _overlap(first: tuple[slice, ...], second: tuple[slice, ...]) -> float:
    common = np.prod(
        [max(0, min(a.stop, b.stop) - max(a.start, b.start)) for a, b in zip(first, second, strict=True)]
    )
    sizes = [np.prod([side.stop - side.start for side in box]) for box in (first, second)]
    return float(common / (sum(sizes) - common))


def objects(problem: Problem) -> Iterator[tuple[Scan, int, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield each volume to map with each class in it: the object, and where the ranges let it be."""
    for scan in problem.mapped:
        presence = scan.presence(len(problem.table))
        for label in range(2, len(problem.table) + 1):
            if (scan.truth == label).any():
                yield scan, label, scan.truth == label, presence.possible(label)


def summarise(problem: Problem, rows: list[tuple[int, dict[str, float]]]) -> dict[str, Any]:
    """Return the means of figures by class label, over all and by class."""
    keys = rows[0][1]
    by_class = {
        problem.table.names[label - 1]: {
            key: float(np.mean([row[key] for other, row in rows if other == label])) for key in keys
        }
        for label in sorted({label for label, _ in rows})
    }
    means = {key: float(np.mean([row[key] for _, row in rows])) for key in keys}
    return {"maps": len(rows), **means, "classes": by_class}


def classify(problem: Problem) -> dict[str, Any]:
    """Return the classifier's figures."""
    return problem.trained[1]


def look(problem: Problem, method: str) -> dict[str, Any]:
    """Measure a method."""
    rows = []
    for scan, label, truth, possible in objects(problem):
        start = time.perf_counter()
        values = problem.look(scan, label, method)
        seconds = time.perf_counter() - start
        figures = judge_map(values, truth, BOX_SHARE.get(method, USUAL_BOX_SHARE), possible)
        rows.append((label, {**figures, "seconds": seconds}))
    scan, label, _, _ = next(objects(problem))
    work = check_map(
        problem.trained[0], scan.image, scan.spacing, label, CamConfig(method=method), device=problem.device
    )
    checked = finish(work)
    return {
        **summarise(problem, rows),
        "mebibytes": peak_memory(problem, scan, label, method),
        "similarity": checked.similarity,
        "depends": checked.depends,
    }


def peak_memory(problem: Problem, scan: Scan, label: int, method: str) -> float:
    """Return by how many MiB a process of its own grows in making a map (Linux); on a GPU, its memory."""
    with tempfile.TemporaryDirectory() as folder:
        save_classifier(folder, problem.trained[0])
        np.save(f"{folder}/image.npy", scan.image)
        np.save(f"{folder}/spacing.npy", scan.spacing)
        command = [sys.executable, "-c", _PEAK, folder, method, str(label), problem.device]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(answer.stdout.split()[-1])


def fill_box(shape: Sequence[int], start: Sequence[float], stop: Sequence[float]) -> NDArray[np.float32]:
    """Return a map: 1 in the middle of a box, falling to 0 at the ellipsoid that touches its faces."""
    grids = np.ogrid[tuple(slice(0, length) for length in shape)]
    square = sum(
        ((grid + 0.5 - (low + high) / 2) / max((high - low) / 2, 0.5)) ** 2
        for grid, low, high in zip(grids, start, stop, strict=True)
    )
    return np.maximum(0, 1 - np.sqrt(square)).astype(np.float32)


def guess_centre(problem: Problem) -> dict[str, Any]:
    """Measure a map that knows nothing: the middle of the volume."""
    rows = []
    for _, label, truth, possible in objects(problem):
        values = fill_box(truth.shape, (0, 0, 0), truth.shape)
        rows.append((label, judge_map(values, truth, USUAL_BOX_SHARE, possible)))
    return summarise(problem, rows)


def relative_box(problem: Problem, label: int) -> NDArray[np.float64]:
    """Return the mean box ``(2, 3)`` that the ranges learnt from imply, as shares of a volume."""
    boxes = []
    for scan in problem.learnt:
        hull = scan.presence(len(problem.table)).hull(label)
        if hull is not None:
            ends = np.array([[side.start for side in hull], [side.stop for side in hull]])
            boxes.append(ends / scan.truth.shape)
    return np.mean(boxes, axis=0)


def guess_ranges(problem: Problem) -> dict[str, Any]:
    """Measure a map that knows the ranges only: the middle of their box (of other volumes, on new ones)."""
    rows = []
    for _, label, truth, possible in objects(problem):
        start, stop = relative_box(problem, label) * truth.shape
        values = fill_box(truth.shape, start, stop)
        rows.append((label, judge_map(values, truth, USUAL_BOX_SHARE, possible)))
    return summarise(problem, rows)


def choose_slice(scan: Scan, classes: int) -> tuple[int, int]:
    """Return axis and index of the slice that shows the most classes, and of these as much as possible."""
    best = (-1, 0.0, 0, 0)
    for axis in range(3):
        others = tuple({0, 1, 2} - {axis})
        areas = np.array([(scan.truth == label).sum(axis=others) for label in range(2, classes + 1)])
        order = [((area > 0).sum(), np.sqrt(area).sum(), axis, index) for index, area in enumerate(areas.T)]
        best = max(best, max(order))
    return int(best[2]), int(best[3])


def label_slice(scan: Scan, classes: int) -> NDArray[np.uint8]:
    """Return an annotation that holds the truth on one slice."""
    axis, index = choose_slice(scan, classes)
    annotation = np.zeros_like(scan.truth)
    place = tuple(index if a == axis else slice(None) for a in range(3))
    annotation[place] = scan.truth[place]
    return annotation


def score(problem: Problem, answers: Sequence[NDArray[np.uint8]], scans: Sequence[Scan]) -> list[float]:
    """Return mean Dice and IoU over the classes, outside of the slices that some of the networks know."""
    counter = OverlapCounter(len(problem.table))
    for answer, scan in zip(answers, scans, strict=True):
        where = label_slice(scan, len(problem.table)) == 0
        counter.add(scan.truth[where].astype(np.int64) - 1, answer[where])
    dice = counter.dice()
    return [float(np.mean(dice)), float(np.mean(dice / (2 - dice)))]


@dataclass(frozen=True)
class Teaching:
    """What a U-Net learns from."""

    seeds: bool = False
    slice: bool = False
    expansion: float = 0.0
    constraint: float = 0.0
    full: bool = False


UNETS = {
    "seeds": Teaching(seeds=True),
    "seeds, expansion": Teaching(seeds=True, expansion=0.3),
    "seeds, expansion, constraint (SEC)": Teaching(seeds=True, expansion=0.3, constraint=0.1),
    "one slice": Teaching(slice=True),
    "one slice, seeds": Teaching(slice=True, seeds=True),
    "one slice, SEC": Teaching(slice=True, seeds=True, expansion=0.3, constraint=0.1),
    "full supervision": Teaching(full=True),
}


def find_region(scan: Scan, classes: int) -> tuple[slice, slice, slice]:
    """Return the box in which any class can be by the ranges, and a margin; all U-Nets keep to it."""
    presence = scan.presence(classes)
    hulls = [hull for label in range(2, classes + 1) if (hull := presence.hull(label)) is not None]
    z, y, x = (
        slice(
            max(0, min(hull[axis].start for hull in hulls) - MARGIN),
            min(scan.truth.shape[axis], max(hull[axis].stop for hull in hulls) + MARGIN),
        )
        for axis in range(3)
    )
    return z, y, x


def teach(problem: Problem, teaching: Teaching, steps: int) -> dict[str, Any]:
    """Train a U-Net and score it on what was not labelled, and on new volumes."""
    cases = []
    for number, scan in enumerate(problem.learnt):
        annotation = scan.truth if teaching.full else np.zeros_like(scan.truth)
        if teaching.slice:
            annotation = label_slice(scan, len(problem.table))
        seeded = teaching.seeds & (annotation == 0)
        sources = np.where(seeded, np.uint8(source_code("cam")), np.uint8(source_code("stroke")))
        if teaching.seeds:
            annotation = np.where(seeded, problem.seeds[number], annotation)
        told = scan.labels if teaching.expansion else ()
        cases.append(
            Case(
                scan.image,
                scan.spacing,
                annotation,
                name=scan.name,
                sources=np.where(annotation > 0, sources, np.uint8(0)),
                image_labels=told,
                region=find_region(scan, len(problem.table)),
            )
        )
    config = TrainingConfig(
        steps=steps,
        preview_weight=0.0,
        held_out_share=0.0,
        expansion=teaching.expansion,
        constraint=teaching.constraint,
        device=problem.device,
    )
    start = time.perf_counter()
    try:
        model = finish(train_network(cases, problem.table, config)).model
    except InputError as error:  # seeds of nothing
        return {"failed": str(error)}
    seconds = time.perf_counter() - start
    inference = InferenceConfig(overlap=0.25, device=problem.device)

    def answer(scans: Sequence[Scan]) -> list[float]:
        answers = []
        for scan in scans:
            whole = finish(predict_volume(model, scan.image, scan.spacing, inference)).channels
            region = find_region(scan, len(problem.table))
            answers.append(np.zeros_like(whole))
            answers[-1][region] = whole[region]
        return score(problem, answers, scans)

    return {
        "scores": answer(problem.learnt),
        "new": answer(problem.new) if problem.new else None,
        "seconds": seconds,
        "patch": list(model.plan.patch),
    }


def measure_seeds(problem: Problem) -> dict[str, Any]:
    """Return which share of the seeds of each kind is right, and which share of the voxels they are."""
    right, number = np.zeros(len(problem.table)), np.zeros(len(problem.table))
    voxels = 0
    for seeds, scan in zip(problem.seeds, problem.learnt, strict=True):
        voxels += seeds.size
        for channel in range(len(problem.table)):
            where = seeds == channel + 1
            number[channel] += np.count_nonzero(where)
            right[channel] += np.count_nonzero(scan.truth[where] == channel + 1)
    names = problem.table.names
    return {
        "right": {name: float(r / n) if n else None for name, r, n in zip(names, right, number, strict=True)},
        "share": {name: float(n / voxels) for name, n in zip(names, number, strict=True)},
    }


def mask_of_ranges(problem: Problem) -> dict[str, Any]:
    """Score the boxes that the ranges imply as if they were the mask, smaller ones in front."""
    answers = []
    for scan in problem.learnt:
        presence = scan.presence(len(problem.table))
        answer = np.zeros_like(scan.truth)
        hulls = {label: presence.hull(label) for label in range(2, len(problem.table) + 1)}
        places = {label: hull for label, hull in hulls.items() if hull is not None}
        sizes = {label: np.count_nonzero(presence.possible(label)) for label in places}
        for label in sorted(places, key=lambda label: -sizes[label]):
            answer[places[label]] = label - 1
        answers.append(answer)
    return {"scores": [*score(problem, answers, problem.learnt)], "new": None}


BASELINES = {"centre of the volume": guess_centre, "middle of the ranges": guess_ranges}


def parts_of(steps: int) -> dict[str, Callable[[Problem], dict[str, Any]]]:
    """Return everything that is measured of a row, by name."""
    parts: dict[str, Callable[[Problem], dict[str, Any]]] = {"classifier": classify, **BASELINES}
    for method in CAM_METHODS:
        parts[method] = partial(look, method=method)
    parts |= {"quality of the seeds": measure_seeds, "box of the ranges": mask_of_ranges}
    for title, teaching in UNETS.items():
        parts[title] = partial(teach, teaching=teaching, steps=steps)
    return parts


def measure(
    name: str, results: dict[str, Any], path: Path, steps: dict[str, int], device: str, wanted: Sequence[str]
) -> None:
    """Run what is wanted and missing of one row, and keep each part as soon as it is there."""
    row = results.setdefault("rows", {}).setdefault(name, {})
    settings = {**steps, "device": device}
    if row.get("settings") != settings:
        row.clear()
    parts = parts_of(steps["steps"])
    missing = {part: work for part, work in parts.items() if part in wanted and part not in row}
    if not missing:
        return
    learnt, table, new = ROWS[name]()
    problem = Problem(learnt, table, device, steps["classifier_steps"], new)
    row |= {"settings": settings, "volumes": len(learnt), "new_volumes": len(new)}
    for part, work in missing.items():
        row[part] = work(problem)
        print(name, part, row[part], flush=True)
        path.write_text(json.dumps(results, indent=1) + "\n")


def main() -> None:
    """Run what is not there yet, and write tables and plots."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parts = list(parts_of(1))
    parser.add_argument(
        "--parts", nargs="*", choices=parts, default=parts, help="what to measure of each row"
    )
    parser.add_argument("--steps", type=int, default=300, help="of each U-Net")
    parser.add_argument(
        "--classifier-steps", type=int, default=ClassifierConfig().classifier_steps, help="of the classifier"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, default=RECORDS / "cam_cpu.json")
    arguments = parser.parse_args()
    path: Path = arguments.results
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    steps = {"steps": arguments.steps, "classifier_steps": arguments.classifier_steps}
    for name in arguments.rows:
        measure(name, results, path, steps, arguments.device, arguments.parts)
    write_record(results, path.with_suffix(".md"))
    draw_maps(results, path.with_suffix(".png"))
    draw_unets(results, path.with_name(f"{path.stem}_training.png"))


MEASURES = {
    "pointing": "pointing accuracy",
    "iou": "IoU, best threshold",
    "box_error": "localisation error",
    "energy": "energy inside",
    "held_pointing": "pointing accuracy, held to the ranges",
    "held_iou": "IoU, held to the ranges",
}


def write_record(results: dict[str, Any], path: Path) -> None:
    """Write the tables."""
    rows = results["rows"]
    settings = next(iter(rows.values()))["settings"]
    lines = [
        "# Class maps: where a network looks that was told which slices show what",
        "",
        f"Machine: {results['machine']}. Command: `python benchmarks/cam.py --steps {settings['steps']}`; "
        f"classifiers of {settings['classifier_steps']} steps.",
        "",
        "Ranges of slices from the truth: of axial slices (organs, axial; lung tumour; lesions), or of all",
        "three orientations. The maps of hippocampus and generated are of volumes that were not learnt from.",
        "",
        "## The classifiers on parts that were held out",
        "",
        *_classifier_table(rows),
        "",
        "## Where they look",
        "",
        "Mean over volumes and classes. Localisation error: share of boxes round the largest part over 20 %",
        "of the maximum (15 % for the Grad-CAMs) whose IoU with a true part's box is under 0.5.",
        "Energy inside: share of the map's sum that lies in the object. Held to the ranges: 0 outside of the",
        "slices in which the class may be. Likeness: rank correlation with the maps of networks with random",
        "weights, of the first class. MiB: growth of a process of its own. The last two look at no image.",
        "",
    ]
    for name, row in rows.items():
        lines += [f"### {name}", "", *_map_table(row), ""]
    lines += ["## IoU at the best threshold, by class", "", *_class_table(rows), ""]
    lines += [
        "## Seeds",
        "",
        f"Of `{SEED_METHOD}`, default settings: share that is right (share of all voxels).",
        "",
    ]
    lines += [*_seed_table(rows), "", "## U-Nets", ""]
    lines += [
        f"Dice / IoU, mean over the classes, after {settings['steps']} steps without the instant preview",
        "(`preview_weight` 0), outside of the slice that some of them know; *new*: volumes not learnt from.",
        "",
        *_unet_table(rows),
        "",
        "Seconds of training:",
        "",
        *_seconds_table(rows),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _classifier_table(rows: dict[str, Any]) -> list[str]:
    lines = ["| row | volumes | seconds | held out | balanced accuracy / AUC by class |", "|---" * 5 + "|"]
    for name, row in rows.items():
        made = row.get("classifier")
        if made is None:
            continue
        pairs = [
            f"{title} {value:.2f} / {made['auc'].get(title, float('nan')):.2f}"
            for title, value in made["balanced_accuracy"].items()
        ]
        where = {True: "slices of the same", False: "other volumes", None: "–"}[made["within_volume"]]
        lines.append(
            f"| {name} | {row['volumes']} | {made['seconds']:.0f} | {where} | {', '.join(pairs) or '–'} |"
        )
    return lines


def _map_table(row: dict[str, Any]) -> list[str]:
    titles = [*MEASURES.values(), "s per map", "MiB", "likeness to random"]
    lines = [f"| | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for part in (*CAM_METHODS, *BASELINES):
        made = row.get(part, {})
        cells = [f"{made[key]:.2f}" if key in made else "–" for key in MEASURES]
        cells.append(f"{made['seconds']:.1f}" if "seconds" in made else "–")
        cells.append(f"{made['mebibytes']:.0f}" if "mebibytes" in made else "–")
        likeness = f"{made['similarity']:.2f}" if "similarity" in made else "–"
        cells.append(likeness + (" (does not depend)" if made.get("depends") is False else ""))
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return lines


def _class_table(rows: dict[str, Any]) -> list[str]:
    parts = (*CAM_METHODS, *BASELINES)
    lines = [f"| row, class | {' | '.join(parts)} |", "|---" * (len(parts) + 1) + "|"]
    for name, row in rows.items():
        titles = {title: None for part in parts for title in row.get(part, {}).get("classes", {})}
        for title in titles:
            cells = [f"{row[part]['classes'][title]['iou']:.2f}" if part in row else "–" for part in parts]
            lines.append(f"| {name}, {title} | {' | '.join(cells)} |")
    return lines


def _seed_table(rows: dict[str, Any]) -> list[str]:
    lines = ["| row | seeds |", "|---|---|"]
    for name, row in rows.items():
        made = row.get("quality of the seeds")
        if made:
            cells = [
                f"{title} {_percent(right)} ({_percent(made['share'][title])})"
                for title, right in made["right"].items()
            ]
            lines.append(f"| {name} | {', '.join(cells)} |")
    return lines


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.3g} %"


def _unet_table(rows: dict[str, Any]) -> list[str]:
    titles = [title for name, row in rows.items() for title in _columns(name, row)]
    lines = [f"| learnt from | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for part in (*UNETS, "box of the ranges"):
        cells = []
        for name, row in rows.items():
            made = row.get(part, {})
            pairs = [made.get("scores"), made.get("new")][: len(_columns(name, row))]
            cells += [f"{pair[0]:.3f} / {pair[1]:.3f}" if pair else "–" for pair in pairs]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return lines


def _columns(name: str, row: dict[str, Any]) -> list[str]:
    return [name, f"{name}, new"] if row.get("new_volumes") else [name]


def _seconds_table(rows: dict[str, Any]) -> list[str]:
    lines = [f"| | {' | '.join(rows)} |", "|---" * (len(rows) + 1) + "|"]
    for part in UNETS:
        made = [row.get(part, {}).get("seconds") for row in rows.values()]
        lines.append(f"| {part} | {' | '.join('–' if s is None else f'{s:.0f}' for s in made)} |")
    return lines


def draw_maps(results: dict[str, Any], path: Path) -> None:
    """Draw the figures of the maps, one plot for each figure."""
    shown = {key: MEASURES[key] for key in ("pointing", "iou", "box_error", "energy")}
    _draw_bars(results["rows"], shown, (*CAM_METHODS, *BASELINES), path)


def draw_unets(results: dict[str, Any], path: Path) -> None:
    """Draw the Dice of the U-Nets."""
    rows = {
        name: {part: {"dice": row[part]["scores"][0]} for part in UNETS if row.get(part, {}).get("scores")}
        for name, row in results["rows"].items()
    }
    _draw_bars(rows, {"dice": "Dice where nothing is labelled"}, tuple(UNETS), path)


def _draw_bars(rows: dict[str, Any], shown: dict[str, str], parts: Sequence[str], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(shown),
        1,
        figsize=(max(8, 1.7 * len(rows) + 2), 2.3 * len(shown) + 1.2),
        sharex=True,
        squeeze=False,
    )
    width = 0.85 / len(parts)
    for axis, (key, title) in zip(axes[:, 0], shown.items(), strict=True):
        for number, part in enumerate(parts):
            known = [(place, row[part][key]) for place, row in enumerate(rows.values()) if part in row]
            places = [place + (number - (len(parts) - 1) / 2) * width for place, _ in known]
            colour = "0.6" if part in BASELINES or part == "full supervision" else f"C{number}"
            hatch = "//" if part == "middle of the ranges" else None
            axis.bar(places, [value for _, value in known], width, label=part, color=colour, hatch=hatch)
        axis.set(ylabel=title, ylim=(0, 1))
        axis.set_xticks(range(len(rows)), list(rows), fontsize=8)
    handles, titles = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, titles, loc="lower center", ncols=4, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.5 / figure.get_figheight(), 1, 1))
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
