"""How many volumes a batch segments in a minute, beside a bare loop; how much memory; how it grows.

    python benchmarks/batch/measure.py [--repeats 3] [--device cuda] [--small 200] [--large 8] [--quick]

Two cohorts, real volumes of the hippocampus and generated ones of 256³ voxels, each with a network that
learnt on it.  `sparseseg predict` and the bare loop of `loops.py` take turns, each in a process of its own.
Needs `../shared/data` beside the checkout.  Volumes and networks are kept in `--cache`.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from cohorts import Cohort, collect_hippocampi, generate_depths, generate_volumes
from record import write_record

from napari_sparseseg.volume import load_labels, load_volume

RECORDS = Path(__file__).resolve().parents[1] / "records"
COUNTS = (25, 100, 200)
DEPTHS = (64, 128, 192, 256, 384, 512)
PLANE = 160  # voxels along each side


def run_loop(loop: str, folder: Path, model: Path, out: Path, device: str) -> dict[str, Any]:
    """Run a loop of `loops.py` in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    script = Path(__file__).with_name("loops.py")
    words = [sys.executable, script, loop, folder, model, out, "--device", device]
    began = time.perf_counter()
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row | {"process_seconds": time.perf_counter() - began}


def compare_loops(cohort: Cohort, folder: Path, repeats: int, device: str) -> dict[str, Any]:
    """Let both loops segment a cohort in turns; return what each took, and how good the masks are."""
    images = link_files(cohort.images, folder / "inputs")
    rows: dict[str, Any] = {"cases": len(cohort.images), "ours": [], "bare": []}
    for repeat in range(repeats):
        for loop in ("bare", "ours") if repeat % 2 else ("ours", "bare"):
            row = run_loop(loop, images, cohort.model, folder / loop, device)
            rows[loop].append(row)
            print(
                loop,
                {name: value if isinstance(value, str) else round(value, 2) for name, value in row.items()},
            )
    run_loop("gaussian", images, cohort.model, folder / "gaussian", device)
    for loop in ("ours", "bare", "gaussian"):
        rows[f"{loop}_dice"] = mean_dice(cohort, folder / loop)
    rows["ratio"] = median(
        bare["seconds"] / ours["seconds"] for ours, bare in zip(rows["ours"], rows["bare"], strict=True)
    )
    return rows


def mean_dice(cohort: Cohort, folder: Path) -> float:
    """Return the mean Dice of the masks over volumes and classes."""
    scores = []
    for image, truth_path in zip(cohort.images, cohort.truths, strict=True):
        volume = load_volume(image)
        mask, truth = load_labels(folder / image.name, volume), load_labels(truth_path, volume)
        for value in np.unique(truth[truth > 0]):
            ours, true = mask == value, truth == value
            scores.append(2 * np.count_nonzero(ours & true) / (ours.sum() + true.sum()))
    return float(np.mean(scores))


def link_files(files: tuple[Path, ...], folder: Path) -> Path:
    """Make a folder that holds `files` and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in files:
        os.link(file, folder / file.name)
    return folder


def measure_counts(
    cohort: Cohort, folder: Path, counts: tuple[int, ...], device: str
) -> list[dict[str, Any]]:
    """Measure the peak memory and the seconds of batches of several sizes."""
    rows = []
    for count in counts:
        images = link_files(cohort.images[:count], folder / "inputs")
        rows.append({"cases": count} | run_loop("ours", images, cohort.model, folder / "out", device))
        print(rows[-1])
    return rows


def measure_depths(
    model: Path, volumes: list[Path], folder: Path, repeats: int, device: str
) -> dict[str, Any]:
    """Measure the seconds of volumes of several sizes, and fit a line to them."""
    rows = []
    for volume, depth in zip(volumes, DEPTHS, strict=True):
        times = [
            run_loop("ours", volume.parent, model, folder / "out", device)["seconds"] for _ in range(repeats)
        ]
        rows.append({"voxels": depth * PLANE**2, "seconds": min(times)})
        print(rows[-1])
    voxels, seconds = (np.array([row[name] for row in rows]) for name in ("voxels", "seconds"))
    slope, start = np.polyfit(voxels, seconds, 1)
    rest = seconds - (start + slope * voxels)
    share = 1 - (rest**2).sum() / ((seconds - seconds.mean()) ** 2).sum()
    return {"rows": rows, "seconds_per_million": slope * 1e6, "start": start, "r_squared": share}


def describe_machine(device: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            processor = line.split(":")[1].strip()
            break
    name = torch.cuda.get_device_name() if device == "cuda" else processor
    return {"device": name, "cores": os.cpu_count(), "torch": torch.__version__, "load": os.getloadavg()[0]}


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", type=int, default=200, help="Real volumes.")
    parser.add_argument("--large", type=int, default=8, help="Generated volumes.")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="Only compare the loops, and write no record.")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "sparseseg-batch-cache")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": describe_machine(options.device), "arguments": sys.argv[1:]}
    small = collect_hippocampi(options.cache / "hippocampus", options.small)
    large = generate_volumes(options.cache / "generated", options.large)
    with tempfile.TemporaryDirectory(dir=options.cache) as scratch:
        folder = Path(scratch)
        cohorts = {"hippocampus": small, "generated": large}
        results["cohorts"] = {
            name: compare_loops(cohort, folder / name, options.repeats, options.device)
            for name, cohort in cohorts.items()
            if cohort.images
        }
        if options.quick:
            return
        counts = tuple(count for count in COUNTS if count <= options.small)
        results["counts"] = measure_counts(small, folder / "counts", counts, options.device)
        volumes = generate_depths(options.cache / "depths", DEPTHS, PLANE)
        results["depths"] = measure_depths(
            large.model, volumes, folder / "depths", min(2, options.repeats), options.device
        )
    path = RECORDS / f"batch_{options.device}.md"
    path.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_record(results, path)


if __name__ == "__main__":
    main()
