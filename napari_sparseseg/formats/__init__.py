"""Readers and writers of file formats; private to `napari_sparseseg.volume`.

Each module has ``read(path, frame) -> StoredImage`` and is imported when a file of its kind is met,
so that importing the package stays fast.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.formats.stored import StoredImage

_READERS = {
    "nifti": (".nii", ".nii.gz", ".hdr", ".img"),
    "nibabel_formats": (".mgz", ".mgh", ".mnc", ".head", ".brik", ".brik.gz"),
    "itk": (".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz"),
    "arrays": (".tif", ".tiff", ".h5", ".hdf5", ".npz", ".npy"),
    "dicom": (".dcm", ".ima"),
}
_WRITERS = {
    "nifti": (".nii", ".nii.gz"),
    "itk": (".nrrd", ".mha", ".mhd"),
    "arrays": (".npz", ".tif", ".tiff"),
}

READABLE_SUFFIXES = tuple(suffix for suffixes in _READERS.values() for suffix in suffixes)
WRITABLE_SUFFIXES = tuple(suffix for suffixes in _WRITERS.values() for suffix in suffixes)


def known_suffix(path: Path) -> str:
    """Return the longest suffix of `path` that a reader knows, in lower case, or an empty string."""
    name = path.name.lower()
    return max((s for s in READABLE_SUFFIXES if name.endswith(s)), key=len, default="")


def is_array_format(path: Path) -> bool:
    """Tell whether `path` is written as a plain array ``(Z, Y, X)``, not in the source's orientation."""
    return known_suffix(path) in _WRITERS["arrays"]


def read_stored(path: Path, frame: int | None) -> StoredImage:
    """Read `path` with the reader for its suffix or, where that says nothing, for its content."""
    file, separator, dataset = _split_dataset(path)
    _refuse_unusable(file)
    suffix = known_suffix(file)
    if file.is_dir() or not suffix:
        if not (file.is_dir() or is_dicom(file)):
            raise InputError(
                f"{file} has a suffix that no reader knows; use one of {' '.join(READABLE_SUFFIXES)} "
                "or a DICOM folder."
            )
        module = "dicom"
    else:
        module = _module_for(_READERS, suffix)
    stored: StoredImage = import_module(f"{__name__}.{module}").read(
        path if separator and dataset else file, frame
    )
    return stored


def write_stored(
    path: Path, data: NDArray[Any], affine: NDArray[np.float64], nifti_header: bytes | None, scanner: bool
) -> None:
    """Write `data` ``(I, J, K)`` or ``(C, I, J, K)`` in the format that the suffix of `path` names.

    `affine` is that of `StoredImage`; `scanner` tells whether it is a place in a patient.
    """
    module = import_module(f"{__name__}.{_module_for(_WRITERS, known_suffix(path))}")
    module.write(path, data, affine, nifti_header, scanner)


def move_companion(written: Path, target: Path) -> None:
    """Move the second file of a two-file format (``.mhd``) from beside `written` to beside `target`."""
    if known_suffix(written) == ".mhd":
        import_module(f"{__name__}.itk").move_voxel_file(written, target)


def check_writable(path: Path) -> None:
    """Refuse a name whose suffix no writer knows."""
    if known_suffix(path) not in WRITABLE_SUFFIXES:
        raise InputError(
            f"{path} cannot be written: its suffix is not one of {' '.join(WRITABLE_SUFFIXES)}; "
            "choose another name."
        )


def is_dicom(path: Path) -> bool:
    """Tell by content whether a file is DICOM, which often has no suffix."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _module_for(table: dict[str, tuple[str, ...]], suffix: str) -> str:
    return next(module for module, suffixes in table.items() if suffix in suffixes)


def _split_dataset(path: Path) -> tuple[Path, str, str]:
    """Split ``file.h5:/dataset`` into the file, the colon and the dataset."""
    for suffix in (".h5", ".hdf5"):
        file, separator, dataset = str(path).partition(f"{suffix}:")
        if separator:
            return Path(file + suffix), ":", dataset
    return path, "", ""


def _refuse_unusable(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name.")
    if path.is_dir():
        return
    try:
        with path.open("rb") as file:
            head = file.read(40)
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}); check its permissions.") from error
    if not head:
        raise InputError(f"{path} is empty (0 bytes); copy or export it again.")
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a git LFS pointer, not the image itself; fetch it with `git lfs pull`.")
