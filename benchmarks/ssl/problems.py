"""The sets of real volumes: what is learnt from without labels, what is labelled, and what is measured on."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import ClassTable, OverlapCounter, annotation_from_file
from napari_sparseseg.cases import Case
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.events import finish
from napari_sparseseg.inference import place_model, predict_volume
from napari_sparseseg.linear_probe import LabelledVolume
from napari_sparseseg.resampling import resample_image, shape_at
from napari_sparseseg.settings import InferenceConfig
from napari_sparseseg.sparsification import sparsify_labels
from napari_sparseseg.volume import load_labels, load_volume
from napari_sparseseg.volume_pool import ReadVolume, VolumeSource

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
UNLABELLED = 255
_ORDER_SEED = 2026


@dataclass(frozen=True)
class Budget:
    """How much is labelled: so many slices in each of so many volumes."""

    volumes: int
    slices: int

    def __str__(self) -> str:
        volumes = "1 volume" if self.volumes == 1 else f"{self.volumes} volumes"
        return f"{volumes} × {self.slices} slice{'s' if self.slices > 1 else ''}"


@dataclass(frozen=True, eq=False)
class Scan:
    """A volume and its truth ``(Z, Y, X)`` in channels, 0 = background."""

    name: str
    image: NDArray[np.float32]
    spacing: tuple[float, float, float]
    truth: NDArray[np.int64]

    def label(self, table: ClassTable, slices: int, seed: int) -> Case:
        """Return it with a few whole axial slices labelled, as an annotator would choose them."""
        sparse = sparsify_labels(
            self.truth, slices, orientations="z", seed=seed, unlabelled=UNLABELLED, spacing=self.spacing
        )
        annotation = annotation_from_file(sparse, table, UNLABELLED)
        return Case(self.image, self.spacing, annotation, name=self.name)


@dataclass(frozen=True, eq=False)
class Problem:
    """A set of volumes.

    Attributes
    ----------
    unlabelled
        Learnt from without labels.
    labelled
        Of these some are labelled a little and learnt from.
    tests
        Measured on; empty: the unlabelled voxels of the labelled ones.
    budgets
        How much is labelled, the least first.
    """

    unlabelled: tuple[VolumeSource, ...]
    labelled: tuple[Scan, ...]
    tests: tuple[Scan, ...]
    table: ClassTable
    budgets: tuple[Budget, ...]

    def cases(self, budget: Budget, seed: int) -> list[Case]:
        """Return what is labelled; other seeds label other volumes and slices."""
        order = np.random.default_rng([_ORDER_SEED, seed]).permutation(len(self.labelled))
        chosen = [self.labelled[index] for index in order[: budget.volumes]]
        return [scan.label(self.table, budget.slices, seed) for scan in chosen]

    def sources(self, cases: Sequence[Case] = ()) -> list[VolumeSource]:
        """Return what is learnt from without labels, and `cases` with theirs."""
        labelled = [VolumeSource(case.name, _constant(case)) for case in cases]
        names = {case.name for case in cases}
        return [*labelled, *(source for source in self.unlabelled if source.name not in names)]

    def measure(self, model: Model, cases: Sequence[Case], device: str) -> float:
        """Return the mean Dice over classes and volumes of a network on what it was not told."""
        placed, config = place_model(model, device), InferenceConfig(device=device)
        by_name = {case.name: case for case in cases}
        scans = self.tests or [scan for scan in self.labelled if scan.name in by_name]
        scores = []
        for scan in scans:
            answer = finish(predict_volume(model, scan.image, scan.spacing, config, placed=placed)).channels
            case = by_name.get(scan.name)
            where = np.ones(answer.shape, bool) if case is None else case.annotation == 0
            counter = OverlapCounter(len(self.table))
            counter.add(scan.truth[where], answer[where])
            scores.append(counter.mean_dice())
        return float(np.mean(scores))

    def truths(self, cases: Sequence[Case]) -> list[LabelledVolume]:
        """Return image, spacing and dense annotation of what is measured on, but for what `cases` tell."""
        told = {case.name: case.annotation > 0 for case in cases}
        rows = []
        for scan in self.tests or self.labelled:
            annotation = (scan.truth + 1).astype(np.uint8)
            annotation[told.get(scan.name, np.zeros(annotation.shape, bool))] = 0
            rows.append((scan.image, scan.spacing, annotation))
        return rows


def _constant(case: Case) -> Callable[[], ReadVolume]:
    read = ReadVolume(case.image, case.spacing, case.annotation.astype(np.uint8))
    return lambda: read


def _source(path: Path, spacing: tuple[float, float, float] | None = None) -> VolumeSource:
    """Return a volume, at `spacing` mm where that is given."""

    def read() -> ReadVolume:
        volume = load_volume(path)
        wanted = spacing or volume.spacing
        shape = shape_at(volume.shape, volume.spacing, wanted)
        return ReadVolume(resample_image(volume.data, shape), wanted)

    return VolumeSource(str(path.relative_to(DATA)), read)


def _scan(image: Path, labels: Path, keep: Sequence[int]) -> Scan:
    volume = load_volume(image)
    stored = load_labels(labels, volume)
    truth = np.zeros(stored.shape, np.int64)
    for channel, value in enumerate(keep, start=1):
        truth[stored == value] = channel
    return Scan(str(image.relative_to(DATA)), volume.data, volume.spacing, truth)


def hippocampus() -> Problem:
    """Anterior and posterior hippocampus: 60 volumes without labels, 10 that may be labelled, 30 others."""
    images = sorted((DATA / "hippocampus_mr/images").iterdir())
    order = np.random.default_rng(_ORDER_SEED).permutation(len(images))
    mixed = [images[index] for index in order]
    scans = [_scan(image, DATA / "hippocampus_mr/labels" / image.name, (1, 2)) for image in mixed[60:]]
    return Problem(
        tuple(_source(image) for image in mixed[:60]),
        tuple(scans[:10]),
        tuple(scans[10:]),
        ClassTable.from_values([1, 2], {1: "anterior", 2: "posterior"}),
        (Budget(1, 1), Budget(3, 2), Budget(10, 3)),
    )


def organs() -> Problem:
    """Five abdominal organs in a CT: learnt from it and four others; measured on the rest of it."""
    names = json.loads((DATA / "totalseg_ct/labels.json").read_text())
    value_of = {str(name): int(value) for value, name in names.items()}
    wanted = ("liver", "spleen", "kidney_left", "kidney_right", "aorta")
    scan = _scan(
        DATA / "totalseg_ct/ct.nii.gz", DATA / "totalseg_ct/labels.nii.gz", [value_of[n] for n in wanted]
    )
    others = [DATA / "lung_ct_gtv/ct.nii.gz", *sorted((DATA / "sarcoma_ct_mr_pet").glob("*/CT_image.nii.gz"))]
    return Problem(
        (_source(DATA / "totalseg_ct/ct.nii.gz"), *(_source(path, scan.spacing) for path in others)),
        (scan,),
        (),
        ClassTable.from_values(range(1, 6), dict(enumerate(wanted, start=1))),
        (Budget(1, 1), Budget(1, 3)),
    )


PROBLEMS: Mapping[str, Callable[[], Problem]] = {"hippocampus": hippocampus, "organs": organs}
"""Name of a set → makes it."""
