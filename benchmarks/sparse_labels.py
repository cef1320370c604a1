"""Dice from a few labelled slices of real volumes: ours beside three baselines, same labels, same seconds.

    python benchmarks/sparse_labels.py [--rows lung_ct …] [--device cuda --size large]

Finished volumes are kept in the JSON beside the record and skipped by the next run.  Baselines: a
random forest on our features with position; scikit-image's random walker; a plain MONAI U-Net in a
bare loop (float32, random patches of the whole volume, no balancing).  Every Dice is the mean over
the classes, on the voxels that were not labelled.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet
from numpy.typing import NDArray
from skimage.segmentation import random_walker
from sklearn.ensemble import RandomForestClassifier

from napari_sparseseg.annotation import ClassTable, OverlapCounter, annotation_from_file
from napari_sparseseg.cases import Case
from napari_sparseseg.events import finish
from napari_sparseseg.inference import predict_volume
from napari_sparseseg.normalisation import fit_normalisation
from napari_sparseseg.preview import compute_features
from napari_sparseseg.segmentation import segment_volume
from napari_sparseseg.settings import NetworkConfig, TrainingConfig
from napari_sparseseg.sparsification import sparsify_labels
from napari_sparseseg.training import train_network
from napari_sparseseg.volume import load_labels, load_volume

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RECORDS = Path(__file__).resolve().parent / "records"
UNLABELLED = 255
METHODS = ("ours", "random forest", "random walker", "plain U-Net")


@dataclass(frozen=True, eq=False)
class Problem:
    """One volume to complete: raw image, truth in channels (0 = background), annotation."""

    name: str
    image: NDArray[np.float32]
    spacing: tuple[float, float, float]
    truth: NDArray[np.int64]
    annotation: NDArray[np.uint8]
    table: ClassTable


def make_problem(image: Path, labels: Path, keep: tuple[int, ...], slices: int, seed: int) -> Problem:
    """Read a volume, keep the classes `keep`, and simulate an annotator of `slices` whole slices."""
    volume = load_volume(image)
    stored = load_labels(labels, volume)
    truth = np.zeros(stored.shape, np.int64)
    for channel, value in enumerate(keep, start=1):
        truth[stored == value] = channel
    table = ClassTable.from_values(range(1, len(keep) + 1))
    sparse = sparsify_labels(
        truth, slices, orientations="zyx", seed=seed, unlabelled=UNLABELLED, spacing=volume.spacing
    )
    annotation = annotation_from_file(sparse, table, UNLABELLED)
    return Problem(volume.name, volume.data, volume.spacing, truth, annotation, table)


def hippocampus(numbers: range) -> Iterator[Problem]:
    """Hippocampus volumes in alphabetical order, three slices labelled in each."""
    images = sorted((DATA / "hippocampus_mr/images").iterdir())
    for number in numbers:
        image = images[number]
        yield make_problem(image, DATA / "hippocampus_mr/labels" / image.name, (1, 2), 3, seed=number)


def totalseg() -> Iterator[Problem]:
    """Abdominal CT: liver, spleen, both kidneys, aorta."""
    names = json.loads((DATA / "totalseg_ct/labels.json").read_text())
    value_of = {str(name): int(value) for value, name in names.items()}
    keep = tuple(value_of[n] for n in ("liver", "spleen", "kidney_left", "kidney_right", "aorta"))
    yield make_problem(DATA / "totalseg_ct/ct.nii.gz", DATA / "totalseg_ct/labels.nii.gz", keep, 5, seed=0)


def spinal_cord() -> Iterator[Problem]:
    """T2-weighted MR of the spinal cord."""
    folder = DATA / "spinalcord_mr"
    yield make_problem(folder / "t2_t2.nii.gz", folder / "t2_t2_seg-manual.nii.gz", (1,), 5, seed=0)


def lung_tumour() -> Iterator[Problem]:
    """Thoracic CT with a lung tumour."""
    yield make_problem(DATA / "lung_ct_gtv/ct.nii.gz", DATA / "lung_ct_gtv/gtv.nii.gz", (1,), 5, seed=0)


ROWS: dict[str, Callable[[], Iterator[Problem]]] = {
    "hippocampus, 10 volumes, 3 slices each": lambda: hippocampus(range(10)),
    "CT: liver, spleen, kidneys, aorta, 5 slices": totalseg,
    "spinal cord T2, 5 slices": spinal_cord,
    "lung tumour CT, 5 slices": lung_tumour,
}
AUTOMATIC = "hippocampus, 10 volumes to 20 others"


def score(problem: Problem, channels: NDArray[np.integer[Any]]) -> float:
    """Mean Dice over the classes on unlabelled voxels."""
    counter = OverlapCounter(len(problem.table))
    unlabelled = problem.annotation == 0
    counter.add(problem.truth[unlabelled], channels[unlabelled])
    return counter.mean_dice()


def segment_ours(problem: Problem, options: argparse.Namespace) -> NDArray[np.uint8]:
    """Our main job at its defaults."""
    config = TrainingConfig(seconds=options.seconds, device=options.device)
    work = segment_volume(
        problem.image,
        problem.spacing,
        problem.annotation,
        problem.table,
        config,
        NetworkConfig(size=options.size),
    )
    return finish(work).channels


def with_position(problem: Problem, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Our features and the voxel's relative position, ``(N, F)``."""
    features = compute_features(image, problem.spacing)
    lines = [np.linspace(0, 1, n, dtype=np.float32) for n in image.shape[1:]]
    grid = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)
    return np.concatenate([features, grid], axis=-1).reshape(-1, features.shape[-1] + 3)


def normalise(problem: Problem) -> NDArray[np.float32]:
    """Return the image as all methods see it."""
    return fit_normalisation([problem.image], [problem.annotation]).apply(problem.image)


def fit_forest(rows: NDArray[np.float32], labels: NDArray[np.integer[Any]]) -> RandomForestClassifier:
    """Fit a forest of scikit-learn's defaults."""
    return RandomForestClassifier(100, n_jobs=-1, random_state=0).fit(rows, labels)


def segment_by_forest(problem: Problem) -> NDArray[np.integer[Any]]:
    """Segment by a random forest fitted to this volume's labelled voxels."""
    rows = with_position(problem, normalise(problem))
    labels = problem.annotation.reshape(-1)
    model = fit_forest(rows[labels > 0], labels[labels > 0])
    return np.asarray(model.predict(rows)).reshape(problem.annotation.shape) - 1


def segment_by_walker(problem: Problem) -> NDArray[np.integer[Any]]:
    """Segment by scikit-image's random walker."""
    walked = random_walker(
        normalise(problem)[0].astype(np.float64),
        problem.annotation.astype(np.int64),
        beta=130,
        mode="cg_j",
        tol=1e-3,
        spacing=problem.spacing,
        prob_tol=1,
    )
    return np.asarray(walked) - 1


def train_plainly(problems: list[Problem], options: argparse.Namespace, seconds: float) -> torch.nn.Module:
    """Train a U-Net in the shortest loop that ignores unlabelled voxels."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    classes = len(problems[0].table)
    network = UNet(3, 1, classes, (16, 32, 64, 128), (2, 2, 2)).to(options.torch_device)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    images = [torch.from_numpy(normalise(p)) for p in problems]
    targets = [torch.from_numpy(p.annotation.astype(np.int64)) - 1 for p in problems]
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        case = int(random.integers(len(images)))
        size = [min(64, n) for n in targets[case].shape]
        corner = [int(random.integers(n - s + 1)) for n, s in zip(targets[case].shape, size, strict=True)]
        window = tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))
        target = targets[case][window][None]
        if not bool((target >= 0).any()):
            continue
        pads = [edge for s in reversed(size) for edge in (0, -s % 8)]
        image = torch.nn.functional.pad(images[case][(slice(None), *window)][None], pads, mode="replicate")
        target = torch.nn.functional.pad(target, pads, value=-1)
        logits = network(image.to(options.torch_device))
        loss = torch.nn.functional.cross_entropy(logits, target.to(options.torch_device), ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def apply_plainly(
    network: torch.nn.Module, problem: Problem, options: argparse.Namespace
) -> NDArray[np.int64]:
    """MONAI's sliding window at its defaults."""
    image = torch.from_numpy(normalise(problem))[None]
    size = [-(-min(64, n) // 8) * 8 for n in image.shape[2:]]
    device = options.torch_device
    logits = sliding_window_inference(image, size, 1, network, sw_device=device, device="cpu")
    return logits[0].argmax(0).numpy()


def run_row(name: str, known: dict[str, Any], options: argparse.Namespace, keep: Callable[[], None]) -> None:
    """Run all methods on each volume of a row."""
    row = known.setdefault(name, {})
    for problem in ROWS[name]():
        if problem.name in row:
            continue
        network = train_plainly([problem], options, options.seconds)
        channels = {
            "ours": segment_ours(problem, options),
            "random forest": segment_by_forest(problem),
            "random walker": segment_by_walker(problem),
            "plain U-Net": apply_plainly(network, problem, options),
        }
        row[problem.name] = {method: score(problem, channels[method]) for method in METHODS}
        print(name, problem.name, row[problem.name], flush=True)
        keep()


def run_automatic(known: dict[str, Any], options: argparse.Namespace, keep: Callable[[], None]) -> None:
    """Train on ten sparsely labelled volumes and predict twenty others."""
    if AUTOMATIC in known:
        return
    training = list(hippocampus(range(10)))
    others = list(hippocampus(range(50, 70)))
    seconds = 5 * options.seconds
    cases = [Case(p.image, p.spacing, p.annotation, name=p.name) for p in training]
    config = TrainingConfig(seconds=seconds, device=options.device)
    model = finish(train_network(cases, training[0].table, config, NetworkConfig(size=options.size))).model
    plain = train_plainly(training, options, seconds)
    labels = np.concatenate([p.annotation.reshape(-1) for p in training])
    rows = np.concatenate([with_position(p, normalise(p)) for p in training])
    forest = fit_forest(rows[labels > 0], labels[labels > 0])
    row: dict[str, Any] = {}
    for problem in others:
        whole = Problem(
            problem.name, problem.image, problem.spacing, problem.truth,
            np.zeros_like(problem.annotation), problem.table,
        )  # fmt: skip
        by_forest = forest.predict(with_position(whole, normalise(whole))).reshape(whole.truth.shape) - 1
        row[whole.name] = {
            "ours": score(whole, finish(predict_volume(model, whole.image, whole.spacing)).channels),
            "random forest": score(whole, by_forest),
            "plain U-Net": score(whole, apply_plainly(plain, whole, options)),
        }
    known[AUTOMATIC] = row
    print(AUTOMATIC, {m: np.mean([r[m] for r in row.values()]) for m in row[whole.name]}, flush=True)
    keep()


def write_table(known: dict[str, Any], options: argparse.Namespace, path: Path) -> None:
    """Write the record's table."""
    lines = [
        f"Machine: {options.machine}; {options.seconds:g} s of training per volume (300 s where ten are",
        f"trained on together at 60 s); network size {options.size}.",
        "",
        f"| mean Dice on unlabelled voxels | {' | '.join(METHODS)} | ours − best of the others |",
        "|---|" + "---|" * (len(METHODS) + 1),
    ]
    means = []
    for name in (*ROWS, AUTOMATIC):
        if name not in known:
            continue
        volumes = known[name].values()
        row = {m: float(np.mean([v[m] for v in volumes])) for m in METHODS if all(m in v for v in volumes)}
        best = max(value for method, value in row.items() if method != "ours")
        means.append((row["ours"], best))
        cells = [f"{row[m]:.3f}" if m in row else "n/a" for m in METHODS]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['ours'] - best:+.3f} |")
    if means:
        ours, best = np.mean(means, axis=0)
        cells = [
            "**mean of the rows**",
            f"**{ours:.3f}**",
            f"best of each row: {best:.3f}",
            "",
            "",
            f"**{ours - best:+.3f}**",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Run the rows asked for and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="*", default=[*ROWS, AUTOMATIC], help="words that a row's name holds")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", default="small")
    options = parser.parse_args()
    options.torch_device = torch.device(options.device)
    gpu = torch.cuda.get_device_name() if options.device == "cuda" else ""
    options.machine = gpu or f"{os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}"
    RECORDS.mkdir(exist_ok=True)
    stem = RECORDS / f"sparse_labels_{options.device}_{options.size}"
    store = stem.with_suffix(".json")
    known: dict[str, Any] = json.loads(store.read_text()) if store.exists() else {}

    def keep() -> None:
        store.write_text(json.dumps(known, indent=1), encoding="utf-8")
        write_table(known, options, stem.with_suffix(".md"))

    for name in ROWS:
        if any(word in name for word in options.rows):
            run_row(name, known, options, keep)
    if any(word in AUTOMATIC for word in options.rows):
        run_automatic(known, options, keep)
    keep()
    print(stem.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
