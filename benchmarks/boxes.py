"""Box-to-mask on real volumes: the table of Khoreva et al. 2017 ("Simple Does It") in 3D.

    python benchmarks/boxes.py [--rows hippocampus …] [--device cuda] [--steps 300]

Boxes are taken from the truth.  Per row: each method without training; naive and de-noised recursion over
five rounds; one round from each method's labels; full supervision, with the steps of one round and with those
of five.  All share network and patch.  Finished parts are kept in the JSON beside the record and skipped by
the next run, unless the steps or the device differ.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from numpy.typing import NDArray
from scipy import ndimage

from napari_sparseseg.annotation import ClassTable, OverlapCounter
from napari_sparseseg.box_cases import BoxedCase, find_box_region
from napari_sparseseg.box_geometry import Box, boxes_of_labels
from napari_sparseseg.box_training import train_from_boxes
from napari_sparseseg.boxes import label_boxes
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
    "de-noised, from consensus": ("consensus", ALL_STEPS),
}


FULL = "full supervision, steps of one round"
FULL_LONG = "full supervision, steps of five rounds"


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
    """Anterior and posterior hippocampus: 16 volumes to learn from, 16 new ones."""
    images = sorted((DATA / "hippocampus_mr/images").iterdir())
    cases = [read_case(i, DATA / "hippocampus_mr/labels" / i.name, (1, 2)) for i in images[40:72]]
    return Problem(cases[:16], ClassTable.from_values([1, 2]), cases[16:])


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
    parts, _ = ndimage.label(case.truth == 2, np.ones((3, 3, 3)))
    small = np.bincount(parts.reshape(-1)) < 100
    small[0] = False
    truth = np.where(small[parts], 0, case.truth).astype(np.uint8)  # neither boxed nor measured
    large = [box for place, box in enumerate(case.boxes, start=1) if not small[place]]
    return Problem([replace(case, boxes=large, truth=truth)], ClassTable.from_values([1], {1: "lesion"}), [])


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
        known = case.truth > 0
        counter.add(case.truth[known].astype(np.int64) - 1, answer[known])
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


def time_grabcut() -> dict[str, float]:
    """Return how long `grabcut_plus` takes for five boxes of 60³ in a noisy volume of 200³, and its Dice."""
    random = np.random.default_rng(0)
    image = random.normal(0, 0.6, (1, 200, 200, 200)).astype(np.float32)
    truth = np.zeros(image.shape[1:], bool)
    grid = np.ogrid[:200, :200, :200]
    boxes = []
    for centre in ((50, 50, 50), (50, 150, 50), (150, 50, 50), (150, 150, 150), (60, 60, 150)):
        offsets = ((g - c) / r for g, c, r in zip(grid, centre, (24, 27, 25), strict=True))
        truth |= sum(offset**2 for offset in offsets) < 1
        z, y, x = centre
        boxes.append(Box((z - 30, y - 30, x - 30), (z + 30, y + 30, x + 30), 2))
    image[0][truth] += 1
    start = time.perf_counter()
    found = finish(label_boxes(image, (1.0, 1.0, 1.0), boxes, BoxConfig())).annotation == 2
    seconds = time.perf_counter() - start
    dice = 2 * np.count_nonzero(found & truth) / (np.count_nonzero(found) + np.count_nonzero(truth))
    return {"seconds": seconds, "dice": float(dice)}


def fill(boxes: Sequence[Box], truth: NDArray[np.uint8]) -> list[float]:
    """Return what share of each box its object fills."""
    return [np.count_nonzero(truth[b.region] == b.label) / b.volume for b in boxes]


def parts_of(steps: int, device: str) -> dict[str, Callable[[Problem], dict[str, Any]]]:
    """Return everything that is measured of a row, by name."""
    parts: dict[str, Callable[[Problem], dict[str, Any]]] = {
        FULL: lambda problem: supervise(problem, steps, device),
        FULL_LONG: lambda problem: supervise(problem, ROUNDS * steps, device),
    }
    for method in BOX_METHODS:
        parts[f"one round, from {method}"] = partial(
            run, method=method, denoise=ALL_STEPS, rounds=1, steps=steps, device=device
        )
    for title, (method, denoise) in RECURSIONS.items():
        parts[title] = partial(run, method=method, denoise=denoise, rounds=ROUNDS, steps=steps, device=device)
    return parts


def measure(
    name: str, results: dict[str, Any], path: Path, steps: int, device: str, wanted: Sequence[str]
) -> None:
    """Run what is wanted and missing of one row, and keep each part as soon as it is there."""
    row = results.setdefault("rows", {}).setdefault(name, {})
    settings = {"round_steps": steps, "device": device}
    if row.get("settings") != settings:
        row.clear()
    parts = parts_of(steps, device)
    missing = {part: parts[part] for part in wanted if part not in row}
    if not missing:
        return
    problem = ROWS[name]()
    shares = [f for case in problem.cases if case.truth is not None for f in fill(case.boxes, case.truth)]
    row |= {
        "settings": settings,
        "volumes": len(problem.cases),
        "boxes": len(shares),
        "fill": float(np.median(shares)),
    }
    for part, work in missing.items():
        row[part] = work(problem)
        print(name, part, row[part], flush=True)
        path.write_text(json.dumps(results, indent=1) + "\n")


def main() -> None:
    """Run what is not there yet, and write table and plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parts = list(parts_of(1, "cpu"))
    parser.add_argument(
        "--parts", nargs="*", choices=parts, default=parts, help="what to measure of each row"
    )
    parser.add_argument("--steps", type=int, default=150, help="of one round")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, default=RECORDS / "boxes_cpu.json")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    if arguments.results.exists():
        results = json.loads(arguments.results.read_text())
    results["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    for name in arguments.rows:
        measure(name, results, arguments.results, arguments.steps, arguments.device, arguments.parts)
    if "speed" not in results:
        results["speed"] = time_grabcut()
        arguments.results.write_text(json.dumps(results, indent=1) + "\n")
    write_record(results, arguments.results.with_suffix(".md"))
    draw(results, arguments.results.with_suffix(".png"))


def write_record(results: dict[str, Any], path: Path) -> None:
    """Write the tables."""
    rows, speed = results["rows"], results["speed"]
    steps = next(iter(rows.values()))["settings"]["round_steps"]
    lines = [
        "# Boxes: masks without and with training, recursion, full supervision",
        "",
        f"Machine: {results['machine']}. Command: `python benchmarks/boxes.py --steps {steps}`.",
        "",
        "Boxes from the truth. Dice / IoU, mean over the classes, on the volumes learnt from (boxes",
        "known); *new*: on hippocampus volumes that were not learnt from, predicted without boxes.",
        "",
        "| row | volumes | boxes | median share of a box that its object fills | patch |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        patch = " × ".join(map(str, row[FULL]["patch"]))
        lines.append(f"| {name} | {row['volumes']} | {row['boxes']} | {100 * row['fill']:.0f} % | {patch} |")
    lines += ["", "## Each method, before and after one round of learning from it", "", *_methods_table(rows)]
    lines += ["", "## The best without masks, and full supervision", "", *_best_table(rows)]
    lines += ["", "## Recursion", "", *_rounds_table(rows)]
    lines += ["", "## Seconds, and million voxels seen in training", "", *_cost_table(rows)]
    lines += ["", "## Time of a graph cut", ""]
    lines.append(
        f"`grabcut_plus`, generated volume of 200³ with five boxes of 60³: {speed['seconds']:.1f} s, "
        f"Dice {speed['dice']:.3f}."
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _methods_table(rows: dict[str, Any]) -> list[str]:
    titles = [f"{name}, {when}" for name in rows for when in ("before", "after")]
    lines = [f"| labels from | {' | '.join(titles)} | new |", "|---" * (len(titles) + 2) + "|"]
    for method in BOX_METHODS:
        part = f"one round, from {method}"
        cells = [_score(row, part, place) for row in rows.values() for place in (0, -1)]
        lines.append(f"| {method} | {' | '.join(cells)} | {_new(rows, part)} |")
    for part in (FULL, FULL_LONG):
        cells = [cell for row in rows.values() for cell in ("–", _score(row, part, -1))]
        lines.append(f"| *{part}* | {' | '.join(cells)} | {_new(rows, part)} |")
    return lines


def _best_table(rows: dict[str, Any]) -> list[str]:
    weak = [*(f"one round, from {method}" for method in BOX_METHODS), *RECURSIONS]
    lines = [
        "| row | best Dice | of | share of full supervision with the steps of one round | of five |",
        "|---|---|---|---|---|",
    ]

    def add(name: str, dice: dict[str, float], full: list[float | None]) -> None:
        best = max(dice, key=lambda part: dice[part])
        shares = [f"{100 * dice[best] / each:.0f} %" if each else "–" for each in full]
        lines.append(f"| {name} | {dice[best]:.3f} | {best} | {' | '.join(shares)} |")

    for name, row in rows.items():
        known = [part for part in weak if part in row]
        fulls = [row.get(part) for part in (FULL, FULL_LONG)]
        dice = {part: max(each[0] for each in row[part]["scores"]) for part in known}
        add(name, dice, [full and full["scores"][0][0] for full in fulls])
        dice = {part: row[part]["new"][0] for part in known if row[part]["new"]}
        if dice:
            add(f"{name}, new", dice, [full and full["new"][0] for full in fulls])
    return lines


def _rounds_table(rows: dict[str, Any]) -> list[str]:
    titles = ["before", *(f"round {number}" for number in range(1, ROUNDS + 1))]
    lines = [f"| row | recursion | {' | '.join(titles)} | new |", "|---" * (ROUNDS + 4) + "|"]
    for name, row in rows.items():
        for title in (each for each in RECURSIONS if each in row):
            scores = [_pair(each) for each in row[title]["scores"]]
            scores += ["–"] * (ROUNDS + 1 - len(scores))
            new = _pair(row[title]["new"]) if row[title]["new"] else "–"
            lines.append(f"| {name} | {title} | {' | '.join(scores)} | {new} |")
    return lines


def _cost_table(rows: dict[str, Any]) -> list[str]:
    titles = [f"{name}, {what}" for name in rows for what in ("s", "Mvoxels")]
    lines = [f"| | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for part in parts_of(1, "cpu"):
        cells = []
        for row in rows.values():
            made = row.get(part)
            seen = made["steps"] * np.prod(made["patch"] or [0]) / 1e6 if made else 0
            cells += [f"{made['seconds']:.0f}", f"{seen:.0f}"] if made else ["–", "–"]
        lines.append(f"| {part} | {' | '.join(cells)} |")
    return lines


def _score(row: dict[str, Any], part: str, place: int) -> str:
    return _pair(row[part]["scores"][place]) if part in row else "–"


def _pair(scores: Sequence[float]) -> str:
    return f"{scores[0]:.3f} / {scores[1]:.3f}"


def _new(rows: dict[str, Any], part: str) -> str:
    known = [row[part]["new"] for row in rows.values() if part in row and row[part]["new"]]
    return _pair(known[0]) if known else "–"


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw Dice by round, one plot per row."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rows = results["rows"]
    figure, axes = pyplot.subplots(1, len(rows), figsize=(3.4 * len(rows), 3.6), sharey=True, squeeze=False)
    for axis, (name, row) in zip(axes[0], rows.items(), strict=True):
        for title in (each for each in RECURSIONS if each in row):
            dice = [each[0] for each in row[title]["scores"]]
            axis.plot(
                range(len(dice)),
                dice,
                "--" if title.startswith("naive") else "-",
                marker="o",
                markersize=3,
                label=title,
            )
        once = row["one round, from grabcut_plus"]["scores"][-1][0]
        axis.plot([1], [once], "k*", markersize=9, label="one round, from grabcut_plus", linestyle="none")
        axis.axhline(row[FULL]["scores"][0][0], color="gray", linewidth=1, label=FULL)
        axis.set(title=name, xlabel="round", ylim=(0, 1))
    axes[0][0].set_ylabel("Dice")
    handles, titles = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, titles, loc="lower center", ncols=3, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.17, 1, 1))
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
