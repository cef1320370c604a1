"""Peak memory of predicting a 512 × 512 × 600 volume: generated, so that anyone can run it.

    python benchmarks/memory.py [--shape 600 512 512]

The volume is made and a small network trained first, in a process of their own; the prediction runs
as ``sparseseg predict`` does, in a process whose peak resident memory is measured.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECORD = Path(__file__).resolve().parent / "records" / "memory.md"
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
from napari_sparseseg.volume import save_map

folder, *shape = sys.argv[1:]
spacing = (1.0, 0.8, 0.8)
small, labels, table = generate_case(1, (64, 96, 96), spacing)
annotation = annotation_from_file(sparsify_labels(labels, 3, unlabelled=255), table, 255)
case = Case(small.data, spacing, annotation)
save_model(folder, finish(train_network([case], table, TrainingConfig(steps=100))).model)
large, _, _ = generate_case(0, tuple(int(n) for n in shape), spacing)
save_map(folder + "/large.nii.gz", large.data[0], large)
"""


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(600, 512, 512), metavar=("Z", "Y", "X"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", _MAKE, folder, *map(str, options.shape)], check=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        start = time.monotonic()
        code = (
            "import json, resource, sys; from napari_sparseseg.cli import app; "
            "app(sys.argv[1:], standalone_mode=False); "
            "print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))"
        )
        command = [sys.executable, "-c", code, "predict", "--model", folder, "--out", f"{folder}/masks"]
        done = subprocess.run(
            [*command, "--uncertainty", f"{folder}/large.nii.gz"], check=True, capture_output=True, text=True
        )
        seconds = time.monotonic() - start
    gibibytes = json.loads(done.stdout.splitlines()[-1]) / 2**20
    z, y, x = options.shape
    text = (
        f"Machine: {os.cpu_count()} CPU cores ({platform.machine()}).\n\n"
        f"`sparseseg predict --uncertainty` on {y} × {x} × {z} voxels with 4 classes: peak resident memory "
        f"{gibibytes:.2f} GiB, {seconds:.0f} s (making the volume, before, took {before / 2**20:.2f} GiB).\n"
    )
    RECORD.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
