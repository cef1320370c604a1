"""Make the sample files from the ICBM 152 template inside nilearn's wheel.

``pip download --no-deps nilearn`` fetches the wheel; then
``python sample_data/make_sample.py nilearn-*.whl [FOLDER]`` writes `mni152_t1.nii.gz`,
`mni152_labels.nii.gz` and `mni152_labels.json` to FOLDER (default: beside this script).
"""

import argparse
import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_INSIDE_WHEEL = "nilearn/datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_NAMES = {0: "background", 1: "CSF", 2: "grey matter", 3: "white matter"}
# Nilearn's own rule for the brain's mask (`load_mni152_brain_mask`).
_BRAIN_THRESHOLD = 0.2 * 255
_MNI_SPACE_CODE = 4


def read_template(wheel: Path, name: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return a 1 mm map ``(X, Y, Z)`` with values 0…255 and its affine to RAS mm."""
    with zipfile.ZipFile(wheel) as archive:
        content = gzip.decompress(archive.read(_INSIDE_WHEEL.format(name)))
    image = nibabel.Nifti1Image.from_bytes(content)
    return np.asanyarray(image.dataobj).astype(np.float32), image.affine


def halve_resolution(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average blocks of 2 × 2 × 2 voxels; an odd last plane is dropped."""
    x, y, z = (size // 2 for size in values.shape)
    blocks = values[: 2 * x, : 2 * y, : 2 * z].reshape(x, 2, y, 2, z, 2)
    return np.asarray(blocks.mean(axis=(1, 3, 5)), np.float32)


def label_tissues(
    t1: NDArray[np.float32], grey: NDArray[np.float32], white: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Label each brain voxel with its most probable tissue; CSF is what is neither grey nor white."""
    brain = ndimage.binary_fill_holes(t1 > _BRAIN_THRESHOLD)
    tissue = 1 + np.argmax([255 - grey - white, grey, white], axis=0)
    return np.where(brain, tissue, 0).astype(np.uint8)


def write_volume(path: Path, values: NDArray[np.uint8], affine: NDArray[np.float64], intent: str) -> None:
    """Write a NIfTI file whose bytes depend on nothing but its content and zlib."""
    image: Any = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, _MNI_SPACE_CODE)
    image.set_qform(affine, _MNI_SPACE_CODE)
    image.header.set_xyzt_units("mm")
    image.header.set_intent(intent)
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=9, mtime=0))


def make_sample(wheel: Path, folder: Path) -> None:
    """Write the three sample files to `folder`."""
    t1, affine = read_template(wheel, "t1")
    maps = [halve_resolution(values) for values in (t1, *(read_template(wheel, n)[0] for n in ("gm", "wm")))]
    to_coarse = np.diag([2.0, 2.0, 2.0, 1.0])
    to_coarse[:3, 3] = 0.5  # the centre of a block lies half a fine voxel beyond its first voxel's
    coarse_affine = affine @ to_coarse
    folder.mkdir(parents=True, exist_ok=True)
    write_volume(folder / "mni152_t1.nii.gz", np.rint(maps[0]).astype(np.uint8), coarse_affine, "none")
    write_volume(folder / "mni152_labels.nii.gz", label_tissues(*maps), coarse_affine, "label")
    (folder / "mni152_labels.json").write_text(json.dumps(_NAMES, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the sample files from nilearn's wheel.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    arguments = parser.parse_args()
    make_sample(arguments.wheel, arguments.folder)
