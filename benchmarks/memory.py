"""Peak memory of predicting a 512 × 512 × 600 CT: generated, so that anyone can run it.

    python benchmarks/memory.py [--shape 600 512 512]

The volume, int16 as scanners write it, is made and two small networks are trained first, in a process of
their own: one at the volume's voxel size and one at a coarser one.  `sparseseg predict` runs in a process of
its own, whose peak resident memory is measured: reading, hashing, predicting, checking and writing.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECORD = Path(__file__).resolve().parent / "records" / "memory.md"
SPACING = (1.0, 0.8, 0.8)
COARSE = (1.5, 1.5, 1.5)
_MAKE = """
import sys
import numpy as np
from napari_sparseseg.annotation import annotation_from_file
from napari_sparseseg.cases import Case
from napari_sparseseg.checkpoint import save_model
from napari_sparseseg.events import finish
from napari_sparseseg.sample_data import generate_case
from napari_sparseseg.settings import TrainingConfig
from napari_sparseseg.sparsification import sparsify_labels
from napari_sparseseg.training import train_network
from napari_sparseseg.volume import save_labels

folder, *numbers = sys.argv[1:]
shape, spacings = tuple(map(int, numbers[:3])), (numbers[3:6], numbers[6:])
for name, numbers in zip(("native", "coarse"), spacings):
    spacing = tuple(map(float, numbers))
    small, labels, table = generate_case(1, (64, 96, 96), spacing)
    annotation = annotation_from_file(sparsify_labels(labels, 3, unlabelled=255), table, 255)
    case = Case(small.data, spacing, annotation)
    save_model(f"{folder}/{name}", finish(train_network([case], table, TrainingConfig(steps=100))).model)
large, _, _ = generate_case(0, shape, tuple(map(float, spacings[0])))
save_labels(f"{folder}/large.nii.gz", np.rint(large.data[0]).astype(np.int16), large)
"""
_PREDICT = """
import sys
from pathlib import Path
from napari_sparseseg.cli import app
app(sys.argv[1:], standalone_mode=False)
status = Path("/proc/self/status")
if status.exists():  # getrusage would tell of the parent's memory, too
    peak = int(status.read_text().split("VmHWM:")[1].split()[0])
else:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print()
print(peak)
"""


def predict_large(folder: str, model: str, *flags: str) -> tuple[float, float]:
    """Return the peak memory in GiB and the seconds of one `sparseseg predict`."""
    command = ["predict", f"{folder}/large.nii.gz", "--model", f"{folder}/{model}"]
    out = f"{folder}/masks of {model} {len(flags)}"
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _PREDICT, *command, "--out", out, *flags],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return int(done.stdout.splitlines()[-1]) / 2**20, time.monotonic() - start


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs=3, default=(600, 512, 512), metavar=("Z", "Y", "X"))
    parser.add_argument("--quick", action="store_true", help="Write no record.")
    options = parser.parse_args()
    z, y, x = options.shape
    lines = [
        f"Machine: {os.cpu_count()} CPU cores ({platform.machine()}).",
        "",
        f"`sparseseg predict` on a CT of {y} × {x} × {z} voxels of {' × '.join(map(str, SPACING))} mm, with "
        "4 classes; the whole process, with reading, hashing, checks, thumbnail and report.",
        "",
        "| network's voxels | also written | peak resident memory, GiB | seconds |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        numbers = map(str, (*options.shape, *SPACING, *COARSE))
        subprocess.run([sys.executable, "-c", _MAKE, folder, *numbers], check=True)
        for model, words, flags in (
            ("native", "nothing", ()),
            ("native", "uncertainty", ("--uncertainty",)),
            ("coarse", "uncertainty", ("--uncertainty",)),
        ):
            gibibytes, seconds = predict_large(folder, model, *flags)
            size = "the volume's" if model == "native" else f"{' × '.join(map(str, COARSE))} mm"
            lines.append(f"| {size} | {words} | {gibibytes:.2f} | {seconds:.0f} |")
            print(lines[-1], flush=True)
    if not options.quick:
        RECORD.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
