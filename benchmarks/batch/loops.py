"""One loop over the volumes of a folder, in a process of its own; prints what it took as one line of JSON.

    python benchmarks/batch/loops.py ours|bare|gaussian FOLDER MODEL OUT [--device cuda] [--threads N]

`ours` is the command `sparseseg predict` with all that it does; `bare` is what a user would write: nibabel,
MONAI's `sliding_window_inference` at its defaults, argmax, nibabel.  Both have the same network, window and
overlap; `gaussian` is the bare loop with windows blended as ours are, to compare the masks.  The clock starts
when the libraries are there, and so before either reads the network.
"""

import argparse
import importlib
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.inferers import sliding_window_inference

from napari_sparseseg.annotation import mask_from_channels
from napari_sparseseg.checkpoint import load_model
from napari_sparseseg.cli import app
from napari_sparseseg.networks import Triple, choose_device
from napari_sparseseg.settings import InferenceConfig


def run_ours(folder: Path, model: Path, out: Path, device: str) -> None:
    """Run the command."""
    words = ["predict", str(folder), "--model", str(model), "--out", str(out), "--device", device, "--json"]
    app(words, standalone_mode=False)


def run_bare(
    folder: Path, model_folder: Path, out: Path, device_name: str, blending: str = "constant"
) -> None:
    """Run the loop."""
    device = choose_device(device_name)
    model = load_model(model_folder)
    network = model.build().to(device)
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("*.nii.gz")):
        source = nibabel.as_closest_canonical(nibabel.load(path))
        image = source.get_fdata(dtype=np.float32)[::-1, ::-1].transpose(2, 1, 0)  # as the network learnt
        normalised = model.normalisation.apply(np.ascontiguousarray(image)[None])
        padded, inside = pad_as_learnt(torch.from_numpy(normalised), model.plan.patch)
        with torch.no_grad():
            logits = sliding_window_inference(
                padded[None].to(device),
                model.plan.patch,
                1,
                network,
                overlap=InferenceConfig().overlap,
                mode=blending,
            )
        channels = logits[0].argmax(0).cpu().numpy().astype(np.uint8)[inside]
        mask = mask_from_channels(channels, model.table).transpose(2, 1, 0)[::-1, ::-1]
        nibabel.save(nibabel.Nifti1Image(mask, source.affine), out / path.name)


def pad_as_learnt(image: torch.Tensor, patch: Triple) -> tuple[torch.Tensor, tuple[slice, ...]]:
    """Pad a volume smaller than a window with 0, and tell where it is; an odd voxel goes to the beginning.

    MONAI would put it at the end.  Our networks learnt with it at the beginning, and where two classes are
    parted by position alone, as head and body of the hippocampus are, one voxel is 0.006 of Dice.
    """
    pads, inside = [], []
    for length, size in zip(image.shape[1:], patch, strict=True):
        missing = max(0, size - length)
        first = size // 2 - length // 2 if missing else 0
        pads.append((first, missing - first))
        inside.append(slice(first, first + length))
    return torch.nn.functional.pad(image, [side for pair in reversed(pads) for side in pair]), tuple(inside)


LOOPS: dict[str, Callable[[Path, Path, Path, str], None]] = {
    "ours": run_ours,
    "bare": run_bare,
    "gaussian": partial(run_bare, blending="gaussian"),
}

_LOADED_LATE = ("batch", "batch_report", "case_checks", "cli_progress")


class _BusyTime:
    """Seconds that a GPU works on networks."""

    def __init__(self) -> None:
        self._marks: list[torch.cuda.Event] = []
        torch.nn.modules.module.register_module_forward_pre_hook(self._mark)
        torch.nn.modules.module.register_module_forward_hook(self._mark)

    def _mark(self, module: torch.nn.Module, *_: Any) -> None:
        if type(module).__name__ in ("UNet", "DynUNet", "SegResNet"):
            self._marks.append(torch.cuda.Event(enable_timing=True))
            self._marks[-1].record()

    def seconds(self) -> float:
        torch.cuda.synchronize()
        pairs = zip(self._marks[::2], self._marks[1::2], strict=True)
        return sum(begin.elapsed_time(end) for begin, end in pairs) / 1000


def measure_peak() -> float:
    """Return the largest memory that this process had so far, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # getrusage's is the parent's at first
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loop", choices=LOOPS)
    for name in ("folder", "model", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    for name in _LOADED_LATE:
        importlib.import_module(f"napari_sparseseg.{name}")
    on_gpu = choose_device(options.device).type == "cuda"
    busy = _BusyTime() if on_gpu else None
    row = {"loop": options.loop, "threads": torch.get_num_threads(), "before_mib": measure_peak()}
    began, processor = time.perf_counter(), time.process_time()
    LOOPS[options.loop](options.folder, options.model, options.out, options.device)
    row["seconds"] = time.perf_counter() - began
    row["processor_seconds"] = time.process_time() - processor
    row["peak_mib"] = measure_peak()
    if busy:
        row["busy_share"] = busy.seconds() / row["seconds"]
    print("\n" + json.dumps(row))


if __name__ == "__main__":
    main()
