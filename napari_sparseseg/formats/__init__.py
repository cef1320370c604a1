"""Readers and writers of file formats; private to `napari_sparseseg.volume`.

Each module has ``read(path, frame) -> StoredImage`` and is imported when a file of its kind is met,
so that importing the package stays fast.
"""

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.formats.grid import SourceGrid
from napari_sparseseg.formats.sources import list_sources
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


def check_segmentation_writer() -> None:
    """Raise `InputError` where highdicom, which writes DICOM segmentations, is not installed."""
    if find_spec("highdicom") is None:
        raise InputError(
            "DICOM segmentations need highdicom; install it with `pip install napari-sparseseg[dicom]`."
        )


def check_segmentation(path: Path, grid: SourceGrid, name: str) -> None:
    """Refuse what cannot be a DICOM segmentation: another suffix, or a volume that is not DICOM."""
    check_segmentation_writer()
    if known_suffix(path) != ".dcm":
        raise InputError(f"{path} is to be a DICOM segmentation; choose a name that ends in .dcm.")
    if not grid.slices:
        raise InputError(
            f"{path} cannot be written: a DICOM segmentation belongs to a DICOM series, and {name} was not "
            "read from one; choose another format."
        )


def write_segmentation(
    path: Path,
    labels: NDArray[np.integer[Any]],
    grid: SourceGrid,
    classes: Sequence[tuple[int, str, str]],
    model: str,
    identity: str,
) -> tuple[str, ...]:
    """Write labels ``(I, J, K)`` as DICOM SEG; `classes` have value, name and ``#rrggbb``; return notes."""
    from napari_sparseseg.formats import dicom_seg

    segments = [
        dicom_seg.Segment(value, name, (int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)))
        for value, name, color in classes
    ]
    return dicom_seg.write(path, labels, grid.affine, grid.slices, segments, model, identity)


def is_readable(path: str | os.PathLike[str]) -> bool:
    """Tell by its name, or by content where that says nothing, whether `load_volume` should be tried."""
    path = Path(path)
    if path.is_dir():
        return any(is_dicom(file) for file in path.rglob("*") if file.is_file())
    return bool(known_suffix(path)) or (path.is_file() and is_dicom(path))


def short_name(path: Path) -> str:
    """Return the name of a file without the suffix of its format, or the name of a folder."""
    suffix = known_suffix(path)
    return path.name[: -len(suffix)] if suffix and not os.path.isdir(path) else path.name


def list_series(folder: Path) -> tuple[Path, ...]:
    """Return a path for each DICOM series of images in a folder, not in those below, sorted.

    It is one of the series' files, of which `load_volume` reads them all, or the folder, where the series
    has that to itself.  Left out are localizers, and what holds no image with a place in a patient:
    structure sets, segmentations, reports, screenshots.  Damaged files are returned where there is no
    series, so that they can be complained of.
    """
    series: tuple[Path, ...] = import_module(f"{__name__}.dicom_series").list_series(folder)
    return series


def series_name(path: Path) -> str:
    """Return a name for a volume, without characters that a file name should not have.

    For a DICOM file it is the number and description of its series, as ``3_T1_axial``, since the file's own
    name says nothing; else `short_name`.
    """
    name = ""
    if path.is_file() and is_dicom(path):
        name = import_module(f"{__name__}.dicom_series").name_series(path)
    return name or short_name(path)


def source_files(path: Path) -> tuple[Path, ...]:
    """Return all files that `load_volume` reads `path` from, sorted: slices, or a header and its voxels.

    Raises
    ------
    InputError
        If the file is missing, or a DICOM series is damaged or not to be found.
    """
    file, _, _ = _split_dataset(path)
    _refuse_unusable(file)
    suffix = known_suffix(file)
    dicom = file.is_dir() or suffix in _READERS["dicom"] or (not suffix and is_dicom(file))
    return list_sources(file, suffix, dicom)


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
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist; check the name.")
        if path.is_dir():
            next(path.iterdir(), None)
            return
        with path.open("rb") as file:
            head = file.read(40)
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}); check its permissions.") from error
    if not head:
        raise InputError(f"{path} is empty (0 bytes); copy or export it again.")
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a git LFS pointer, not the image itself; fetch it with `git lfs pull`.")
