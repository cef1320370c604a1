"""Volumes for the measurements, and the networks that segment them: made once, then kept."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sparseseg.annotation import ClassTable, annotation_from_file
from napari_sparseseg.cases import Case
from napari_sparseseg.checkpoint import save_model
from napari_sparseseg.events import finish
from napari_sparseseg.sample_data import generate_case
from napari_sparseseg.settings import TrainingConfig
from napari_sparseseg.sparsification import sparsify_labels
from napari_sparseseg.training import train_network
from napari_sparseseg.volume import Volume, load_labels, load_volume, save_labels

HIPPOCAMPI = Path(__file__).resolve().parents[3] / "shared" / "data" / "hippocampus_mr"
SIDE = 256
_TRAINED_ON = 8
_REAL = (300, 9)  # steps, and slices labelled in each volume
_GENERATED = (1000, 30)
_UNLABELLED = 255
_SPACING = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Cohort:
    """Volumes, their truth, and a network for them.

    Attributes
    ----------
    model
        Folder of the network.
    images, truths
        File by file; an image may be there more than once, under several names.
    """

    model: Path
    images: tuple[Path, ...]
    truths: tuple[Path, ...]


def collect_hippocampi(folder: Path, count: int) -> Cohort:
    """Copy `count` real volumes of the hippocampus to `folder`, each as often as that takes."""
    images = sorted((HIPPOCAMPI / "images").glob("*.nii.gz"))
    if not images:
        raise SystemExit(f"{HIPPOCAMPI} is missing; it lies beside the checkout.")
    if not (folder / "model" / "model.json").exists():
        table = ClassTable.from_values([1, 2], {1: "head", 2: "body and tail"})
        read = ((load_volume(image), _truth_of(image)) for image in images[:: len(images) // _TRAINED_ON])
        _train(((volume, load_labels(truth, volume)) for volume, truth in read), table, folder, *_REAL)
    copies, truths = [], []
    for number in range(count):
        image = images[number % len(images)]
        copy = folder / "images" / f"{number // len(images)}_{image.name}"
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image, copy)
        copies.append(copy)
        truths.append(_truth_of(image))
    return Cohort(folder / "model", tuple(copies), tuple(truths))


def generate_volumes(folder: Path, count: int) -> Cohort:
    """Generate `count` volumes of `SIDE` voxels along each axis, with their truth."""
    shape = (SIDE, SIDE, SIDE)
    if not (folder / "model" / "model.json").exists():
        table = generate_case(0, (32, 32, 32), _SPACING)[2]
        _train((generate_case(seed, shape, _SPACING)[:2] for seed in (101, 102)), table, folder, *_GENERATED)
    images, truths = [], []
    for seed in range(count):
        image, truth = folder / "images" / f"{seed}.nii.gz", folder / "truths" / f"{seed}.nii.gz"
        if not truth.exists():
            volume, labels, _ = generate_case(seed, shape, _SPACING)
            _save_whole_numbers(image, volume)
            save_labels(truth, labels, volume)
        images.append(image)
        truths.append(truth)
    return Cohort(folder / "model", tuple(images), tuple(truths))


def generate_depths(folder: Path, depths: tuple[int, ...], side: int) -> list[Path]:
    """Generate one volume for each number of slices, all with planes of the same size."""
    images = []
    for depth in depths:
        images.append(folder / f"{depth}_{side}" / "volume.nii.gz")
        if not images[-1].exists():
            volume, _, _ = generate_case(depth, (depth, side, side), _SPACING)
            _save_whole_numbers(images[-1], volume)
    return images


def _truth_of(image: Path) -> Path:
    return image.parents[1] / "labels" / image.name


def _save_whole_numbers(path: Path, volume: Volume) -> None:
    """Write int16, as scanners do."""
    save_labels(path, np.rint(volume.data[0]).astype(np.int16), volume)


def _train(
    cases: Iterator[tuple[Volume, np.ndarray]], table: ClassTable, folder: Path, steps: int, slices: int
) -> None:
    labelled = []
    for number, (volume, labels) in enumerate(cases):
        sparse = sparsify_labels(labels, slices, unlabelled=_UNLABELLED)
        annotation = annotation_from_file(sparse, table, _UNLABELLED)
        labelled.append(Case(volume.data, volume.spacing, annotation, name=str(number)))
    config = TrainingConfig(steps=steps, preview_weight=0.0)
    save_model(folder / "model", finish(train_network(labelled, table, config)).model)
