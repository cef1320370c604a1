"""Box-to-mask on real volumes: the table of Khoreva et al. 2017 ("Simple Does It") in 3D.

    python benchmarks/boxes.py [--rows hippocampus …] [--device cuda] [--steps 300]

Boxes are taken from the truth.  Per row: each method without training; naive and de-noised recursion over
five rounds; one round from each method's labels; full supervision.  All trainings of a row share network,
steps and patch, so they see the same number of voxels.  Finished rows are kept in the JSON beside the record
and skipped by the next run.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from numpy.typing import NDArray

from napari_sparseseg.annotation import ClassTable, OverlapCounter
from napari_sparseseg.box_geometry import Box, boxes_of_labels
from napari_sparseseg.box_cases import BoxedCase, find_box_region
from napari_sparseseg.box_training import train_from_boxes
from napari_sparseseg.cases import Case
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.events import BoxRoundMade, StepDone, finish
from napari_sparseseg.inference import predict_volume
from napari_sparseseg.settings import (
    BOX_METHODS,
    DENOISING,
    BoxConfig,
    InferenceConfig,
    RecursionConfig,
    TrainingConfig,
)
from napari_sparseseg.training import train_network
from napari_sparseseg.volume import load_labels, load_volume

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RECORDS = Path(__file__).resolve().parent / "records"
ROUNDS = 5
ALL_STEPS = ",".join(DENOISING)
RECURSIONS = {
    "naive, from box": ("box", "none"),
    "de-noised, from box": ("box", ALL_STEPS),
    "de-noised, from box_inner": ("box_inner", ALL_STEPS),
    "naive, from grabcut_plus": ("grabcut_plus", "none"),
    "de-noised, from grabcut_plus": ("grabcut_plus", ALL_STEPS),
}


@dataclass(frozen=True, eq=False)
class Problem:
    """Volumes to learn from by boxes, and volumes that are only predicted."""

    cases: list[BoxedCase]
    table: ClassTable
    new: list[BoxedCase]


def read_case(
    image: Path | list[Path], labels: Path, keep: Sequence[int], *, parts: bool = False
) -> BoxedCase:
    """Read a volume and its truth, and draw a box round each class, or round each connected part."""
    volume = load_volume(image)
    stored = load_labels(labels, volume)
    truth = np.ones(stored.shape, np.uint8)
    for channel, value in enumerate(keep, start=1):
        truth[stored == value] = channel + 1
    boxes = boxes_of_labels(truth, parts=parts)
    return BoxedCase(volume.data, volume.spacing, boxes, truth=truth, name=volume.name)


def hippocampus() -> Problem:
    """Anterior and posterior hippocampus: 20 volumes to learn from, 20 new ones."""
    images = sorted((DATA / "hippocampus_mr/images").iterdir())
    cases = [read_case(i, DATA / "hippocampus_mr/labels" / i.name, (1, 2)) for i in images[40:80]]
    return Problem(cases[:20], ClassTable.from_values([1, 2]), cases[20:])


def organs() -> Problem:
    """Abdominal CT: liver, spleen, both kidneys."""
    names = json.loads((DATA / "totalseg_ct/labels.json").read_text())
    value_of = {str(name): int(value) for value, name in names.items()}
    keep = [value_of[n] for n in ("liver", "spleen", "kidney_left", "kidney_right")]
    case = read_case(DATA / "totalseg_ct/ct.nii.gz", DATA / "totalseg_ct/labels.nii.gz", keep)
    table = ClassTable.from_values(
        [1, 2, 3, 4], {1: "liver", 2: "spleen", 3: "left kidney", 4: "right kidney"}
    )
    return Problem([case], table, [])


def lung_tumour() -> Problem:
    """Thoracic CT with a tumour."""
    case = read_case(DATA / "lung_ct_gtv/ct.nii.gz", DATA / "lung_ct_gtv/gtv.nii.gz", [1])
    return Problem([case], ClassTable.from_values([1], {1: "tumour"}), [])


def sarcoma() -> Problem:
    """T1 MR of three patients with a sarcoma."""
    folder = DATA / "sarcoma_ct_mr_pet"
    cases = [
        read_case(patient / "MR_T1_image.nii.gz", patient / "MR_T1_mask.nii.gz", [1])
        for patient in sorted(folder.iterdir())
    ]
    return Problem(cases, ClassTable.from_values([1], {1: "sarcoma"}), [])


def lesions() -> Problem:
    """FLAIR and T1 MR: a box round each multiple-sclerosis lesion of at least 100 voxels."""
    folder = DATA / "ms_lesions_mr4"
    case = read_case(
        [folder / "patient19_FLAIR.nii.gz", folder / "patient19_T1.nii.gz"],
        folder / "patient19_lesions.nii.gz",
        [1],
        parts=True,
    )
    assert case.truth is not None
    large = [b for b in case.boxes if np.count_nonzero(case.truth[b.region] == 2) >= 100]
    return Problem([replace(case, boxes=large)], ClassTable.from_values([1], {1: "lesion"}), [])


ROWS: dict[str, Callable[[], Problem]] = {
    "hippocampus": hippocampus,
    "organs": organs,
    "lung tumour": lung_tumour,
    "sarcoma": sarcoma,
    "lesions": lesions,
}


def score(
    channels: Sequence[NDArray[np.uint8]], cases: Sequence[BoxedCase], table: ClassTable
) -> list[float]:
    """Return mean Dice and mean IoU over the classes, all volumes counted together."""
    counter = OverlapCounter(len(table))
    for answer, case in zip(channels, cases, strict=True):
        assert case.truth is not None
        counter.add(case.truth.reshape(-1).astype(np.int64) - 1, answer.reshape(-1))
    dice = counter.dice()
    return [float(np.mean(dice)), float(np.mean(dice / (2 - dice)))]


def whole(made: BoxRoundMade, case: BoxedCase) -> NDArray[np.uint8]:
    """Return a round's answer on the whole volume."""
    channels = np.zeros(case.image.shape[1:], np.uint8)
    z, y, x = (slice(first, last) for first, last in made.region)
    channels[z, y, x] = made.channels
    return channels


def predict_new(model: Model | None, problem: Problem, device: str) -> list[float] | None:
    """Score a network on the new volumes, without boxes."""
    if model is None or not problem.new:
        return None
    config = InferenceConfig(overlap=0.25, device=device)
    answers = [finish(predict_volume(model, c.image, c.spacing, config)).channels for c in problem.new]
    return score(answers, problem.new, problem.table)


def run(problem: Problem, method: str, denoise: str, rounds: int, steps: int, device: str) -> dict[str, Any]:
    """Make labels by `method` and train `rounds` rounds; return the scores of each."""
    answers: dict[int, list[NDArray[np.uint8]]] = {}
    taken = 0

    def note(event: object) -> None:
        nonlocal taken
        if isinstance(event, BoxRoundMade):
            answers.setdefault(event.number, []).append(whole(event, problem.cases[event.case]))
        taken += isinstance(event, StepDone)

    start = time.perf_counter()
    work = train_from_boxes(
        problem.cases,
        problem.table,
        BoxConfig(method=method),
        RecursionConfig(rounds=rounds, round_steps=steps, denoise=denoise, device=device),
        training=TrainingConfig(device=device),
    )
    result = finish(work, note)
    seconds = time.perf_counter() - start
    scores = [score(answers[number], problem.cases, problem.table) for number in sorted(answers)]
    return {
        "scores": scores,
        "new": predict_new(result.model, problem, device),
        "seconds": seconds,
        "steps": taken,
        "fallen_back": sum(len(boxes) for boxes in result.fallen_back),
        "patch": None if result.model is None else list(result.model.plan.patch),
    }


def supervise(problem: Problem, steps: int, device: str) -> dict[str, Any]:
    """Train the same network on the truth."""
    cases = []
    for case in problem.cases:
        depth, height, width = case.image.shape[1:]
        region = find_box_region(case.boxes, (depth, height, width))
        assert case.truth is not None
        cases.append(Case(case.image, case.spacing, case.truth, name=case.name, region=region))
    config = TrainingConfig(steps=steps, preview_weight=0.0, held_out_share=0.0, device=device)
    start = time.perf_counter()
    model = finish(train_network(cases, problem.table, config)).model
    seconds = time.perf_counter() - start
    inference = InferenceConfig(overlap=0.25, device=device)
    answers = []
    for case, part in zip(problem.cases, cases, strict=True):
        predicted = finish(predict_volume(model, case.image, case.spacing, inference)).channels
        answer = np.zeros_like(predicted)  # the region is known from the boxes, here as there
        answer[part.region] = predicted[part.region]
        answers.append(answer)
    return {
        "scores": [score(answers, problem.cases, problem.table)],
        "new": predict_new(model, problem, device),
        "seconds": seconds,
        "steps": steps,
        "patch": list(model.plan.patch),
    }


def fill(boxes: Sequence[Box], truth: NDArray[np.uint8]) -> list[float]:
    """Return what share of each box its object fills."""
    return [np.count_nonzero(truth[b.region] == b.label) / b.volume for b in boxes]


def measure(name: str, steps: int, device: str) -> dict[str, Any]:
    """Run everything of one row."""
    problem = ROWS[name]()
    entry: dict[str, Any] = {
        "volumes": len(problem.cases),
        "boxes": sum(len(case.boxes) for case in problem.cases),
        "fill": float(
            np.median([f for c in problem.cases if c.truth is not None for f in fill(c.boxes, c.truth)])
        ),
        "round_steps": steps,
        "device": device,
    }
    entry["full supervision"] = supervise(problem, steps, device)
    print(name, "full supervision", entry["full supervision"], flush=True)
    for method in BOX_METHODS:
        entry[f"one round, from {method}"] = run(problem, method, ALL_STEPS, 1, steps, device)
        print(name, method, entry[f"one round, from {method}"], flush=True)
    for title, (method, denoise) in RECURSIONS.items():
        entry[title] = run(problem, method, denoise, ROUNDS, steps, device)
        print(name, title, entry[title], flush=True)
    return entry


def main() -> None:
    """Run the rows that are not there yet, and write table and plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, default=RECORDS / "boxes.json")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    if arguments.results.exists():
        results = json.loads(arguments.results.read_text())
    for name in arguments.rows:
        if name not in results.get("rows", {}):
            results.setdefault("rows", {})[name] = measure(name, arguments.steps, arguments.device)
            results["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
            arguments.results.write_text(json.dumps(results, indent=1) + "\n")
    write_record(results, arguments.results.with_suffix(".md"))
    draw(results, arguments.results.with_suffix(".png"))


def write_record(results: dict[str, Any], path: Path) -> None:
    """Write the tables."""


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw Dice by round."""


if __name__ == "__main__":
    main()
