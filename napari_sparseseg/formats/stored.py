"""What every reader hands back, and the refusals that all readers share."""

import gzip
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Between the world axes of nibabel and NIfTI (RAS) and those of DICOM and ITK (LPS); its own inverse."""

CHUNK = 1 << 22
"""Bytes read at a time where a file is only checked."""

_SILENCE = RLock()

_USUAL_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    KeyError,
    zlib.error,
    struct.error,
)


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image as its file holds it, before it is turned to the canonical orientation.

    Attributes
    ----------
    data
        ``(C, I, J, K)`` voxels in the order of the file's axes (I is x in most files), any numeric type.
    affine
        ``(4, 4)`` index ``(i, j, k)`` -> patient mm ``(x, y, z)``, LPS.
    format
        Name of the format, for messages.
    slope, intercept
        The values of the image are ``data * slope + intercept``.
    has_geometry
        Whether the file says where the voxels lie in space; if not, `affine` holds the spacing only.
    has_spacing
        Whether the file says how large a voxel is.
    nifti_header
        The file's NIfTI header block, if it is NIfTI.
    slices
        File and frame, counted from 0, of each slice along K, if it is DICOM.
    notes
        What was noticed in reading, as sentences.
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    format: str
    slope: float = 1.0
    intercept: float = 0.0
    has_geometry: bool = True
    has_spacing: bool = True
    nifti_header: bytes | None = field(default=None, repr=False)
    slices: tuple[tuple[Path, int], ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()


@contextmanager
def ignore_warnings() -> Iterator[None]:
    """Silence warnings, such as pydicom has for each value that breaks a rule of the standard.

    One thread at a time, as the filters are the process's: of two that overlap, the one that ends first would
    end the other's silence.
    """
    with _SILENCE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def refuse_unreadable(path: Path, kind: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn a library's exceptions (the usual ones and `errors`) into one sentence about `path`."""
    try:
        yield
    except InputError:
        raise
    except (*_USUAL_ERRORS, *errors) as error:
        lines = str(error).split("sitk::ERROR:")[-1].split() or [type(error).__name__]
        reason = " ".join(lines).rstrip(".")
        raise InputError(
            f"{path} cannot be read as {kind} ({reason}): it is damaged or incomplete, or its name is wrong; "
            "copy or export it again."
        ) from error


def open_by_content(path: Path, stack: ExitStack) -> tuple[BinaryIO, list[str]]:
    """Open `path` until `stack` ends, decompressed if need be; note a name that says otherwise."""
    file = stack.enter_context(path.open("rb"))
    compressed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    notes = []
    if compressed != (path.suffix.lower() in (".gz", ".mgz")):
        state = "is gzip-compressed" if compressed else "is not compressed"
        notes.append(f"{path.name} {state}, unlike its name says; it was read by its content.")
    if compressed:
        return stack.enter_context(gzip.GzipFile(fileobj=file)), notes  # type: ignore[return-value]
    return file, notes


def read_to_end(file: BinaryIO) -> None:
    """Read what is left of a file: a gzip stream keeps its checksum there."""
    while file.read(CHUNK):
        pass


def refuse_truncated(path: Path, found: int, expected: int) -> None:
    """Refuse a file that holds fewer bytes of voxels than its header announces."""
    if found < expected:
        raise InputError(
            f"{path} is truncated: it holds {found} of {expected} bytes of voxels; copy or export it again."
        )


def choose_frame(path: Path, count: int, frame: int | None) -> int:
    """Return the index of the time frame to read, or ask which one of `count` it should be."""
    if frame is None and count > 1:
        raise InputError(
            f"{path} is a time series of {count} volumes; say which frame to read, from 0 to {count - 1}."
        )
    chosen = frame or 0
    if not 0 <= chosen < count:
        raise InputError(f"{path} has no frame {chosen}; it holds {count}, counted from 0.")
    return chosen
