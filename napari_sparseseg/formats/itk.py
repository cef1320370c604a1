"""NRRD, MetaImage and GIPL, read and written by SimpleITK."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.formats.completeness import check_complete
from napari_sparseseg.formats.stored import StoredImage, choose_frame, refuse_unreadable


def read(path: Path, frame: int | None) -> StoredImage:
    """Read a scalar or vector image of two to four dimensions; vector components are channels."""
    kind = {".gz": "GIPL", ".gipl": "GIPL", ".nrrd": "NRRD", ".nhdr": "NRRD"}.get(
        path.suffix.lower(), "MetaImage"
    )
    with refuse_unreadable(path, kind):
        check_complete(path)
        image = SimpleITK.ReadImage(str(path))
        voxels = SimpleITK.GetArrayFromImage(image)
    affine = _read_affine(image)
    if image.GetNumberOfComponentsPerPixel() == 1:
        voxels = voxels[..., np.newaxis]
    if image.GetDimension() == 2:
        voxels = voxels[np.newaxis]
    if image.GetDimension() == 4:
        voxels = voxels[choose_frame(path, voxels.shape[0], frame)]
    else:
        choose_frame(path, 1, frame)
    notes = (f"{path.name} keeps no orientation (GIPL cannot); LPS was assumed.",) if kind == "GIPL" else ()
    return StoredImage(data=voxels.transpose(3, 2, 1, 0), affine=affine, format=kind, notes=notes)


def write(
    path: Path,
    data: NDArray[Any],
    affine: NDArray[np.float64],
    nifti_header: bytes | None,
    scanner: bool,
) -> None:
    """Write NRRD or MetaImage, compressed; a ``.mhd`` brings its ``.zraw`` with it.

    Raises
    ------
    OSError
        If that fails; it does not name the file, which is a temporary one.
    """
    del nifti_header, scanner  # these formats have no place for them
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(data.T, isVector=data.ndim == 4)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(str(error).splitlines()[-1].rpartition(": ")[2].rstrip(". ")) from error
    if path.suffix.lower() == ".nrrd":
        _check_end(path, data.nbytes)


def _check_end(path: Path, size: int) -> None:
    """Raise `OSError` where the end of a NRRD is missing: ITK says nothing of a disk that fills there."""
    with path.open("rb") as file:
        file.seek(-min(4, path.stat().st_size), os.SEEK_END)
        if int.from_bytes(file.read(), "little") != size % 2**32:  # as gzip ends
            raise OSError("it was cut off")


def find_voxel_file(path: Path) -> Path:
    """Return the file that `write` puts the voxels of a ``.mhd`` in."""
    return path.with_suffix(".zraw")


def move_voxel_file(written: Path, target: Path) -> None:
    """Put the voxel file written beside `written` (a temporary ``.mhd``) beside `target`.

    Raises
    ------
    InputError
        If a file of that name exists and no ``.mhd`` that it would belong to.
    """
    source, destination = find_voxel_file(written), find_voxel_file(target)
    if destination.exists() and not target.exists():
        raise InputError(
            f"{destination} exists and belongs to another image; choose another name than {target.name}."
        )
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(destination)


def _read_affine(image: Any) -> NDArray[np.float64]:
    dimension = image.GetDimension()
    spatial = min(dimension, 3)
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:spatial, :spatial]
    affine = np.eye(4)
    affine[:spatial, :spatial] = direction * np.array(image.GetSpacing()[:spatial])
    affine[:spatial, 3] = image.GetOrigin()[:spatial]
    return affine
