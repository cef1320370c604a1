"""Which DICOM files make a series, and which of them hold images."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from napari_sparseseg.errors import InputError
from napari_sparseseg.formats.stored import ignore_warnings

_TAGS = [
    "SOPClassUID", "Modality", "ImageType", "SeriesInstanceUID", "SeriesDescription", "SeriesNumber", "Rows",
    "NumberOfFrames", "ImagePositionPatient",
]  # fmt: skip
_GEOMETRY_TAGS = [
    "SliceThickness", "SpacingBetweenSlices", "InstanceNumber", "AcquisitionNumber",
    "TemporalPositionIdentifier", "Columns", "PixelSpacing", "ImageOrientationPatient", "SOPInstanceUID",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip

_DERIVED_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",  # label map
    "1.2.840.10008.5.1.4.1.1.481.2": "RTDOSE",
}
"""Storage classes that hold pixels, yet not of an image: what was made of one must not be taken for it."""

_LOCALIZER = re.compile(r"locali[sz]er|scout|topogram|surview|scanogram", re.IGNORECASE)

Headers = dict[Path, Any]
"""Header of each file, in the order of the files' names."""


def read_series(path: Path) -> tuple[Headers, list[str]]:
    """Return the headers of the one series in a folder and below, or of the series that a file belongs to.

    Raises
    ------
    InputError
        If there is no image, a file is damaged, or a folder holds several series.
    """
    if path.is_dir():
        series, others = _sort_by_series(visible_files(path, path.rglob("*")))
        return _choose_only_series(path, series), _describe_others(path, others)
    header = read_header(path)
    if header is None or not _holds_image(header):
        raise InputError(f"{path} holds no DICOM image; give an image file or the folder of a series.")
    if count_frames(header) > 1:
        return {path: header}, []
    series, others = _sort_by_series(visible_files(path.parent, path.parent.iterdir()))
    return series.get(_series_of(header)) or {path: header}, _describe_others(path.parent, others)


def list_series(folder: Path) -> tuple[Path, ...]:
    """Return a path for each series of images in a folder, see `napari_sparseseg.volume.list_series`."""
    found: dict[tuple[str, Path | None], Path] = {}
    damaged: list[Path] = []
    alone = not any(entry.is_dir() for entry in folder.iterdir())
    for file in visible_files(folder, folder.iterdir()):
        try:
            header = read_header(file, geometry=False)
            if header is None or not _holds_image(header):
                continue
            with ignore_warnings():
                several = count_frames(header) > 1
                placed = several or bool(header.get("ImagePositionPatient"))
                usable = placed and not _is_localizer(header)
        except (InputError, ValueError, TypeError):
            damaged.append(file)
            continue
        if usable:
            found.setdefault((_series_of(header), file if several else None), file)
        else:
            alone = False
    if alone and len(found) == 1:
        return (folder,)
    return tuple(sorted(found.values()) or damaged)


def name_series(path: Path) -> str:
    """Return the number and description of a file's series, empty where the header has neither."""
    try:
        header = read_header(path, geometry=False) or {}
        with ignore_warnings():
            words = [str(header.get(keyword) or "") for keyword in ("SeriesNumber", "SeriesDescription")]
    except (InputError, ValueError, TypeError):
        return ""
    return re.sub(r"[^\w.+-]+", "_", " ".join(words)).strip("_.")


def visible_files(folder: Path, found: Iterable[Path]) -> list[Path]:
    """Return the files out of `found`, sorted, without those that are hidden or lie in a hidden folder."""
    return sorted(
        file
        for file in found
        if not any(part.startswith(".") for part in file.relative_to(folder).parts) and file.is_file()
    )


def read_header(file: Path, *, geometry: bool = True) -> Any:
    """Return the header of a DICOM file, or None for any other file; with `geometry`, all of a slice's place.

    Raises
    ------
    InputError
        If the file is damaged, or not DICOM in spite of its name.
    """
    tags = [*_TAGS, *_GEOMETRY_TAGS] if geometry else _TAGS
    try:
        with ignore_warnings():
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
        if "Rows" not in header and _should_be_image(header):
            raise EOFError("its header is cut off")
        return header
    except InvalidDicomError:
        if file.suffix.lower() in (".dcm", ".ima"):
            raise InputError(f"{file} is not DICOM, in spite of its name; copy it again.") from None
        return None
    except PermissionError as error:
        raise InputError(f"{file} cannot be opened ({error.strerror}); check its permissions.") from error
    except (OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{file} is a damaged DICOM file ({error}); copy it again.") from error


def count_frames(header: Any) -> int:
    """Return how many frames a file holds."""
    return int(header.get("NumberOfFrames") or 1)


def _sort_by_series(files: Iterable[Path]) -> tuple[dict[str, Headers], Counter[str]]:
    """Return the headers of the images by series, and how many other files of each kind there are."""
    series: dict[str, Headers] = defaultdict(dict)
    others: Counter[str] = Counter()
    for file in files:
        header = read_header(file)
        if header is None:
            continue
        if _holds_image(header):
            series[_series_of(header)][file] = header
        else:
            others[str(header.get("Modality") or "other")] += 1
    return series, others


def _series_of(header: Any) -> str:
    return str(header.get("SeriesInstanceUID") or "")


def _holds_image(header: Any) -> bool:
    return "Rows" in header and str(header.get("SOPClassUID")) not in _DERIVED_CLASSES


def _should_be_image(header: Any) -> bool:
    """Tell whether a file is of a class of images, or does not get so far as to say of which it is."""
    kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    return not kind or "Image Storage" in UID(kind).name


def _is_localizer(header: Any) -> bool:
    kinds = header.get("ImageType") or []
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return "LOCALIZER" in kinds or bool(_LOCALIZER.search(str(header.get("SeriesDescription") or "")))


def _describe_others(folder: Path, others: Counter[str]) -> list[str]:
    return [
        f"{folder.name}: {number} {kind} file(s) without an image were ignored."
        for kind, number in others.items()
    ]


def _choose_only_series(path: Path, series: dict[str, Headers]) -> Headers:
    if not series:
        raise InputError(f"{path} holds no DICOM image; give the folder of a series or an image file.")
    if len(series) > 1:
        listed = "; ".join(_describe(headers, path) for headers in list(series.values())[:6])
        raise InputError(
            f"{path} holds {len(series)} series; choose one by giving one of its files: {listed}."
        )
    return next(iter(series.values()))


def _describe(headers: Headers, folder: Path) -> str:
    file, header = next(iter(headers.items()))
    description = " ".join(filter(None, (header.get("Modality"), header.get("SeriesDescription"))))
    return f"{description} ({len(headers)} files, one is {file.relative_to(folder)})"
