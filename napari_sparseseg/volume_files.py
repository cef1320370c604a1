"""Which volumes a folder holds."""

from pathlib import Path

from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import is_dicom, is_readable, list_series

_OF_SLICES = ("", ".dcm", ".ima")
_HEADERS = {".img": (".hdr",), ".brik": (".head",), ".brik.gz": (".head",)}


def find_volumes(folder: Path) -> tuple[Path, ...]:
    """Return the volumes in a folder and in the folders below it, in the order of their names, DICOM first.

    Each DICOM series counts as one, see `napari_sparseseg.volume.list_series`.  Hidden files are passed
    over.  Whether a file can really be read shows only when it is; files and folders that may not be opened
    are returned, too, so that they can be complained of.

    Raises
    ------
    InputError
        If `folder` itself cannot be looked into.
    """
    try:
        return _find(folder)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be looked into ({error.strerror}); check its permissions."
        ) from error


def _find(folder: Path) -> tuple[Path, ...]:
    found: list[Path] = []
    holds_slices = False
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_dir():
                if not folder.resolve().is_relative_to(entry.resolve()):  # a link to where we come from
                    found += _find(entry)
            elif not is_readable(entry) or _has_header(entry):
                continue
            elif is_dicom(entry):
                holds_slices = True
            else:
                found.append(entry)
        except OSError:
            if entry.suffix.lower() in _OF_SLICES and not entry.is_dir():  # one of many: not each is told of
                holds_slices = True
            else:
                found.append(entry)
    series = list_series(folder) if holds_slices else ()
    return tuple(dict.fromkeys((*series, *found)))


def _has_header(file: Path) -> bool:
    """Tell whether a file belongs to another one, which names it."""
    name = file.name.lower()
    suffix = next((known for known in _HEADERS if name.endswith(known)), "")
    stem = name.removesuffix(suffix)
    beside = {other.name.lower() for other in file.parent.iterdir()} if suffix else set()
    return any(stem + header in beside for header in _HEADERS.get(suffix, ()))
