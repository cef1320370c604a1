"""Make the README's picture of a batch's report: generated volumes, some of them spoilt, through a network.

python docs/report_picture.py      needs the command chromium; takes about a minute
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from napari_sparseseg.sample_data import generate_case
from napari_sparseseg.sparsification import sparsify_labels
from napari_sparseseg.volume import save_labels, save_map, volume_from_array

FOLDER = Path(__file__).resolve().parent
SHAPE, SPACING = (32, 64, 56), (3.0, 2.5, 2.5)
TRAINING, SCANS = 6, 24
CUT, DARKENED, BROKEN = 7, 11, 13  # scans that are spoilt
SIZE = (1200, 1000)
CHROMIUM = (
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--hide-scrollbars", f"--window-size={SIZE[0]},{SIZE[1]}",
)  # fmt: skip


def write_training(folder: Path) -> list[str]:
    """Write volumes with three labelled slices each; return what the command takes for them."""
    arguments = []
    for seed in range(TRAINING):
        volume, labels, _ = generate_case(seed, SHAPE, SPACING)
        image, sparse = folder / f"image_{seed}.nii.gz", folder / f"labels_{seed}.nii.gz"
        save_map(image, volume.data[0], volume)
        save_labels(sparse, sparsify_labels(labels, 3, spacing=SPACING), volume)
        arguments += ["--case", f"{image}={sparse}"]
    (folder / "names.json").write_text(json.dumps({1: "right organ", 2: "left organ", 3: "upper organ"}))
    return [*arguments, "--names", str(folder / "names.json")]


def write_scans(folder: Path) -> None:
    """Write other volumes; one ends in an organ, one lacks the contrast of another, one is half a file."""
    folder.mkdir()
    for number in range(SCANS):
        volume, labels, _ = generate_case(100 + number, SHAPE, SPACING)
        data, path = volume.data[0], folder / f"scan_{number:02d}.nii.gz"
        if number == CUT:
            data = data[14:]
        elif number == DARKENED:
            data = np.where(labels == 2, np.float32(350), data)
        save_map(path, data, volume_from_array(data, SPACING))
        if number == BROKEN:
            path.write_bytes(path.read_bytes()[:9000])


def main() -> None:
    """Train, predict, and take the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sparseseg = [str(Path(sys.executable).with_name("sparseseg"))]
        cases = write_training(folder)
        train = ["train", *cases, "--unlabelled", "255", "--steps", "200", "--out", "organs"]
        subprocess.run([*sparseseg, *train], cwd=folder, check=True)
        write_scans(folder / "scans")
        subprocess.run(
            [*sparseseg, "predict", "scans", "--model", "organs", "--out", "out"], cwd=folder, check=False
        )
        shot = [
            "--screenshot=shot.png",
            f"--user-data-dir={folder / 'profile'}",
            str(folder / "out/report.html"),
        ]
        subprocess.run([*CHROMIUM, *shot], cwd=folder, check=True)
        with Image.open(folder / "shot.png") as picture:
            picture.convert("RGB").quantize(128).save(FOLDER / "report.png", optimize=True)


if __name__ == "__main__":
    main()
