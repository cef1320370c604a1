"""The main job on the sample volume, with a picture and a report."""

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from napari_sparseseg.annotation import annotation_from_file, mask_from_channels
from napari_sparseseg.atomic import write_text
from napari_sparseseg.evaluation import Evaluation, evaluate_prediction
from napari_sparseseg.events import Event
from napari_sparseseg.report import draw_comparison
from napari_sparseseg.sample_data import load_sample
from napari_sparseseg.segmentation import segment_volume
from napari_sparseseg.settings import TrainingConfig
from napari_sparseseg.sparsification import sparsify_labels
from napari_sparseseg.volume import save_labels, save_map

_SLICES = 3
_UNLABELLED = 255


@dataclass(frozen=True)
class DemoResult:
    """Scores on the voxels that were not labelled, and how the mask came about."""

    evaluation: Evaluation
    shown: str
    labelled_share: float


def run_demo(folder: Path, config: TrainingConfig) -> Generator[Event, None, DemoResult]:
    """Keep three slices of the sample's labels, segment the rest, and compare with the truth.

    Writes `sparse_labels.nii.gz`, `mask.nii.gz`, `uncertainty.nii.gz`, `comparison.png` and
    `report.json` to `folder`.
    """
    volume, truth, table = load_sample()
    sparse = sparsify_labels(
        truth, _SLICES, orientations="zyx", seed=config.seed, unlabelled=_UNLABELLED, spacing=volume.spacing
    )
    annotation = annotation_from_file(sparse, table, _UNLABELLED)
    result = yield from segment_volume(volume.data, volume.spacing, annotation, table, config)
    mask = mask_from_channels(result.channels, table)
    evaluation = evaluate_prediction(mask, truth, volume.spacing, table, annotation == 0)
    labelled_share = float((annotation > 0).mean())
    save_labels(folder / "sparse_labels.nii.gz", sparse, volume)
    save_labels(folder / "mask.nii.gz", mask, volume)
    save_map(folder / "uncertainty.nii.gz", result.uncertainty, volume)
    draw_comparison(folder / "comparison.png", volume, annotation, mask, truth, table)
    report = {
        "slices": _SLICES,
        "labelled_share": labelled_share,
        "shown": result.shown,
        "held_out_dice": result.held_out_dice,
        "on_unlabelled_voxels": evaluation.to_json(),
        "training": dict(result.model.summary),
    }
    write_text(folder / "report.json", json.dumps(report, indent=1))
    return DemoResult(evaluation, result.shown, labelled_share)
