"""What a training step costs beside the bare network: sampling's share, and the ratio to forward + backward.

    python benchmarks/training_step.py [--device cuda]

Our step draws and augments a patch, computes the sparse loss of two label sets with soft Dice, clips,
updates and averages the weights.  The bare step is forward, dense cross-entropy and backward of the
same network in the same precision on a ready batch.  Both alternate in one run; medians are compared.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from napari_sparseseg.learner import Learner
from napari_sparseseg.networks import (
    build_network,
    choose_device,
    choose_precision,
    default_patch_voxels,
    plan_network,
)
from napari_sparseseg.sampling import PatchSampler, TrainingArrays, extract_patch
from napari_sparseseg.settings import NetworkConfig

RECORD = Path(__file__).resolve().parent / "records"
CLASSES = 5
SHAPES = {"CT, 3 mm": (112, 101, 122), "hippocampus MR": (35, 52, 36)}


def make_arrays(shape: tuple[int, int, int], device: torch.device) -> TrainingArrays:
    """Make a volume with three labelled slices and a preview that is sure of most voxels."""
    random = torch.Generator().manual_seed(0)
    labels = torch.zeros(shape, dtype=torch.uint8)
    for axis in range(3):
        labels.select(axis, shape[axis] // 2).random_(1, CLASSES + 1, generator=random)
    taught = torch.randint(1, CLASSES + 1, shape, generator=random, dtype=torch.uint8) * (labels == 0)
    image = torch.randn((1, *shape), generator=random)
    weights = (labels > 0).half()
    return TrainingArrays(
        image.to(device), labels.to(device), weights.to(device), taught.to(device), (1.0, 1.0, 1.0)
    )


def measure(shape: tuple[int, int, int], size: str, device: torch.device, repeats: int) -> dict[str, Any]:
    """Time both steps, alternating; seconds."""
    config = NetworkConfig(size=size)
    plan = plan_network(shape, (1.0, 1.0, 1.0), config, default_patch_voxels(device))
    network = build_network(config, plan, 1, CLASSES)
    precision = choose_precision("auto", network, plan, 1, device)
    learner = Learner(network, device, precision, 1e-3)
    arrays = make_arrays(shape, device)
    sampler = PatchSampler([arrays], plan.patch, np.random.default_rng(0), flips=False)
    target = torch.randint(0, CLASSES, (1, *plan.patch), device=device)
    class_weights = torch.ones(CLASSES + 1, device=device)
    times: dict[str, list[float]] = {"sampling": [], "step": [], "bare": []}

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    for _ in range(repeats):
        start = now()
        patch = extract_patch(arrays, sampler.draw(), plan.patch)
        sampled = now()
        label_sets = [
            (patch.labels[None], patch.weights[None], 1.0),
            (patch.preview[None], class_weights[patch.preview[None].long()], 0.5),
        ]
        learner.step(patch.image[None], label_sets, 1.0, 0.5)
        stepped = now()
        batch = precision.arrange(patch.image[None])
        begun = now()
        with precision.autocast(device):
            logits = learner.network(batch)
        torch.nn.functional.cross_entropy(logits.float(), target).backward()
        times["bare"].append(now() - begun)
        learner.network.zero_grad(set_to_none=True)
        times["sampling"].append(sampled - start)
        times["step"].append(stepped - start)
    # The mean of sampling: one patch in four is rotated and scaled, and costs more.
    sampling = float(np.mean(times["sampling"][5:]))
    step, bare = (float(np.median(times[name][5:])) for name in ("step", "bare"))
    return {
        "patch": plan.patch,
        "precision": precision.dtype,
        "step_ms": 1000 * step,
        "bare_ms": 1000 * bare,
        "sampling_share": sampling / step,
        "step_over_bare": step / bare,
    }


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", nargs="*", default=["small"])
    parser.add_argument("--repeats", type=int, default=60)
    options = parser.parse_args()
    device = choose_device(options.device)
    machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}"
    if device.type == "cuda":
        machine = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    rows = {
        f"{name}, {size}": measure(shape, size, device, options.repeats)
        for name, shape in SHAPES.items()
        for size in options.sizes
    }
    lines = [
        f"Machine: {machine}.",
        "",
        "| network and volume | patch | precision | our step, ms | bare forward + backward, ms | "
        "sampling and augmentation, share of the step | our step / bare |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {r['patch']} | {r['precision']} | {r['step_ms']:.1f} | {r['bare_ms']:.1f} "
        f"| {r['sampling_share']:.3f} | {r['step_over_bare']:.2f} |"
        for name, r in rows.items()
    ]
    RECORD.mkdir(exist_ok=True)
    stem = RECORD / f"training_step_{device.type}"
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    stem.with_suffix(".json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
