"""Which volumes a folder holds."""

from pathlib import Path

from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import is_dicom, is_readable

_HEADERS = {".img": (".hdr",), ".brik": (".head",), ".brik.gz": (".head",)}


def find_volumes(folder: Path) -> tuple[Path, ...]:
    """Return the volumes in a folder and in the folders below it, in the order of their names.

    DICOM files beside each other count as one volume: their folder.  Hidden files are passed over.
    Whether a file can really be read shows only when it is.

    Raises
    ------
    InputError
        If a folder cannot be looked into.
    """
    found: list[Path] = []
    holds_slices = False
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"{folder} cannot be looked into ({error.strerror}); check its permissions."
        ) from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not folder.resolve().is_relative_to(entry.resolve()):  # a link to where we come from
                found += find_volumes(entry)
        elif not is_readable(entry) or _has_header(entry):
            continue
        elif is_dicom(entry):
            holds_slices = True
        else:
            found.append(entry)
    return (folder, *found) if holds_slices else tuple(found)


def _has_header(file: Path) -> bool:
    """Tell whether a file belongs to another one, which names it."""
    name = file.name.lower()
    suffix = next((known for known in _HEADERS if name.endswith(known)), "")
    stem = name.removesuffix(suffix)
    beside = {other.name.lower() for other in file.parent.iterdir()} if suffix else set()
    return any(stem + header in beside for header in _HEADERS.get(suffix, ()))
