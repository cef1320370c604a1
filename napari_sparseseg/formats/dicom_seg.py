"""Writing DICOM segmentations (SEG) by highdicom, with the patient and study of the source series."""

import re
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import DA, TM

from napari_sparseseg.errors import InputError
from napari_sparseseg.formats.dicom import find_planes
from napari_sparseseg.formats.dicom_series import count_frames, read_header
from napari_sparseseg.formats.stored import ignore_warnings, refuse_unreadable

_SOFTWARE = "napari-sparseseg"
_VERSION = version(_SOFTWARE)

_PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime",
)  # fmt: skip
_MADE_UP = {
    "StudyInstanceUID": "study",
    "SeriesInstanceUID": "series",
    "FrameOfReferenceUID": "frame of reference",
}
_TIMES = (("ContentDate", "ContentTime"), ("SeriesDate", "SeriesTime"), ("StudyDate", "StudyTime"))
_SEXES = ("M", "F", "O", "")
_LARGEST_NUMBER = 2**31 - 1
_LONGEST_TEXT = 64


@dataclass(frozen=True)
class Segment:
    """A class: the value that its voxels have, its name, and its color, each part 0 to 255."""

    value: int
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class _Source:
    """A source slice: the item that refers to it, and the place of its first voxel, mm (x, y, z), LPS."""

    reference: pydicom.Dataset
    position: tuple[float, ...]


def write(
    path: Path,
    labels: NDArray[np.integer[Any]],
    affine: NDArray[np.float64],
    slices: Sequence[tuple[Path, int]],
    segments: Sequence[Segment],
    model: str,
    identity: str,
) -> tuple[str, ...]:
    """Write labels ``(I, J, K)`` on the slices that they were made from.

    Parameters
    ----------
    affine
        ``(4, 4)`` index ``(i, j, k)`` -> patient mm ``(x, y, z)``, LPS.
    slices
        File and frame of each slice along K.
    model, identity
        What made the labels: a name for people, and what else sets it apart, as a hash.

    Returns
    -------
    Sentences on what the source lacks and was made up.

    Raises
    ------
    InputError
        If a source file is missing or cannot be referred to, or a value belongs to no segment.
    """
    voxels = _number_segments(labels, segments)
    with ignore_warnings():
        first = slices[0][0]
        errors = (AttributeError, TypeError, IndexError)
        with refuse_unreadable(first, "the source of a DICOM segmentation", *errors):
            sources = _read_sources(slices, affine)
            header, notes = _read_patient(first, sources)
            images = _stand_in(header, sources, affine)
            if not voxels.any():  # highdicom would keep all frames of all classes, and complain
                voxels, images = voxels[[0, -1][: len(images)]], images[:1] + images[1:][-1:]
            made = _make(voxels, segments, header, images, (model, identity))
            made.PatientName = header.PatientName
            _reach_ends(made, sources)
            _refer(made, header.SeriesInstanceUID, sources)
        made.save_as(path)
    return notes


def _make(
    voxels: NDArray[Any],
    segments: Sequence[Segment],
    header: pydicom.Dataset,
    images: list[pydicom.Dataset],
    maker: tuple[str, str],
) -> pydicom.Dataset:
    """Make the segmentation by highdicom, and take out what that draws at random or reads from the clock."""
    from highdicom.seg import Segmentation

    model = _clean(maker[0])
    content = sha256(repr(tuple(segments)).encode())
    content.update(np.ascontiguousarray(voxels).data)
    series, instance, dimensions = (
        _make_uid(kind, header.SeriesInstanceUID, _VERSION, *maker, content.hexdigest())
        for kind in ("series", "instance", "dimensions")
    )
    date, time = _find_time(header)
    made = Segmentation(
        source_images=images,
        pixel_array=voxels,
        segmentation_type="BINARY",
        segment_descriptions=[
            _describe(number, segment, model) for number, segment in enumerate(segments, 1)
        ],
        series_instance_uid=series,
        series_number=min(1000 + abs(int(header.get("SeriesNumber") or 0)), _LARGEST_NUMBER),
        sop_instance_uid=instance,
        instance_number=1,
        manufacturer=_SOFTWARE,
        manufacturer_model_name=_SOFTWARE,
        software_versions=_VERSION,
        device_serial_number="1",
        content_label="SEGMENTATION",
        content_description=model or None,
        series_description=_clean(f"Segmentation of {header.get('SeriesDescription') or 'a series'}"),
        content_date=date,
        content_time=time,
        specific_character_set="ISO_IR 192",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=bool(voxels.any()),
    )
    made.ContentCreatorName = ""
    del made.InstanceCreationDate, made.InstanceCreationTime
    for item in made.ContributingEquipmentSequence:
        if item.get("ManufacturerModelName") == "highdicom":
            del item.ContributionDateTime
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    return made


def _number_segments(labels: NDArray[np.integer[Any]], segments: Sequence[Segment]) -> NDArray[Any]:
    """Return ``(K, J, I)`` with 0 for background and else the segment's place in the list, from 1."""
    values = np.array([0, *(segment.value for segment in segments)])
    order = np.argsort(values)
    numbered = np.empty(labels.shape[::-1], np.uint8 if len(values) <= 256 else np.uint16)
    for k in range(len(numbered)):
        plane = labels[..., k].T
        numbers = order[np.searchsorted(values, plane, sorter=order).clip(max=len(values) - 1)]
        unknown = plane[values[numbers] != plane]
        if unknown.size:
            raise InputError(f"the labels hold {int(unknown[0])}, which no class of the table has.")
        numbered[k] = numbers
    return numbered


def _read_sources(slices: Sequence[tuple[Path, int]], affine: NDArray[np.float64]) -> list[_Source]:
    """Find the slices again, with the places that their files give, and check that they are the same."""
    references, places = {}, {}
    for file in dict.fromkeys(file for file, _ in slices):
        if not file.is_file():
            raise InputError(f"{file} is gone, and a segmentation has to refer to it; put it back.")
        header = read_header(file)
        references[file] = _make_reference(file, header)
        for plane in find_planes(file, {file: header}):
            places[file, plane.index] = plane.position
    sources = []
    allowed = max(0.6 * float(np.linalg.norm(affine[:3, 2])), 0.6)  # the grid is even, the slices almost so
    for k, (file, frame) in enumerate(slices):
        position = places.get((file, frame))
        if position is None or np.linalg.norm(position - (affine @ [0, 0, k, 1])[:3]) > allowed:
            raise InputError(f"{file} has changed since it was read; read the series again.")
        reference = deepcopy(references[file])
        if reference.get("ReferencedFrameNumber"):
            reference.ReferencedFrameNumber = frame + 1
        sources.append(_Source(reference, tuple(float(value) for value in position)))
    return sources


def _make_reference(file: Path, header: Any) -> pydicom.Dataset:
    reference = pydicom.Dataset()
    reference.ReferencedSOPClassUID = header.get("SOPClassUID") or header.file_meta.get(
        "MediaStorageSOPClassUID"
    )
    reference.ReferencedSOPInstanceUID = header.get("SOPInstanceUID") or header.file_meta.get(
        "MediaStorageSOPInstanceUID"
    )
    if not (reference.ReferencedSOPClassUID and reference.ReferencedSOPInstanceUID):
        raise InputError(
            f"{file} has no SOPClassUID or SOPInstanceUID, so that a segmentation cannot refer to it; "
            "choose another format."
        )
    if count_frames(header) > 1:
        reference.ReferencedFrameNumber = 1
    return reference


def _read_patient(file: Path, sources: list[_Source]) -> tuple[pydicom.Dataset, tuple[str, ...]]:
    """Return the whole header of a source file, with valid values where the standard wants any, and notes."""
    header = _copy_valid(pydicom.dcmread(file, stop_before_pixels=True))
    for keyword in _PATIENT_AND_STUDY:
        if header.get(keyword) is None:
            setattr(header, keyword, "")
    if header.PatientSex not in _SEXES:
        header.PatientSex = ""
    for keyword, kind in (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM)):
        if not _is_valid(header.get(keyword), kind):
            setattr(header, keyword, "")
    missing = [keyword for keyword in _MADE_UP if not header.get(keyword)]
    for keyword in missing:
        known = [str(header.get(other) or "") for other in _MADE_UP]
        instances = [str(source.reference.ReferencedSOPInstanceUID) for source in sources]
        setattr(header, keyword, _make_uid(keyword, *known, *instances))
    return header, tuple(
        f"{file.name} names no {_MADE_UP[keyword]} ({keyword}); one was made up." for keyword in missing
    )


def _copy_valid(stored: pydicom.Dataset) -> pydicom.Dataset:
    """Return what can be understood of a header, decoded, since the segmentation has letters of its own."""
    header = pydicom.Dataset()
    for tag in stored.keys():  # noqa: SIM118 - iterating the header itself would stop at a broken value
        with suppress(ValueError, TypeError, AttributeError, NotImplementedError):
            element = stored[tag]
            for item in element.value if element.VR == "SQ" else ():
                item.decode()
            if not tag.is_private:
                header.add(element)
    return header


def _is_valid(value: Any, kind: Any) -> bool:
    with suppress(ValueError, TypeError):
        kind(value)
        return True
    return False


def _find_time(header: pydicom.Dataset) -> tuple[str, str]:
    """Return the date and time that the series was made, as far as it tells: the segmentation is a result."""
    for day, hour in _TIMES:
        date, time = str(header.get(day) or ""), str(header.get(hour) or "")
        if re.fullmatch(r"\d{8}", date) and _is_valid(date, DA):
            return date, time if time and _is_valid(time, TM) else "000000"
    return "19000101", "000000"


def _stand_in(
    header: pydicom.Dataset, sources: list[_Source], affine: NDArray[np.float64]
) -> list[pydicom.Dataset]:
    """Return a plain slice for each source slice, whatever the source is, for highdicom to take as such.

    It wants a class of storage that it knows, one orientation to the last digit, and one frame for each
    place; `_refer` puts the true references in afterwards.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    images = []
    for number, source in enumerate(sources):
        image = pydicom.Dataset() if number else deepcopy(header)
        image.PatientName = ""  # an unusual one would be logged, with the patient's name in it
        image.SOPClassUID = MRImageStorage
        image.SOPInstanceUID = _make_uid("stand-in", str(number))
        for keyword in _MADE_UP:
            setattr(image, keyword, header.get(keyword))
        image.Rows, image.Columns = header.Rows, header.Columns
        image.ImagePositionPatient = [_to_decimal(value) for value in source.position]
        image.ImageOrientationPatient = [
            _to_decimal(value) for value in (affine[:3, :2] / spacing[:2]).T.ravel()
        ]
        image.PixelSpacing = [_to_decimal(spacing[1]), _to_decimal(spacing[0])]
        image.SpacingBetweenSlices = _to_decimal(spacing[2])
        image.SliceThickness = header.get("SliceThickness") or image.SpacingBetweenSlices
        images.append(image)
    return images


def _to_decimal(value: float) -> pydicom.valuerep.DSfloat:
    return pydicom.valuerep.DSfloat(float(value), auto_format=True)


def _describe(number: int, segment: Segment, model: str) -> pydicom.Dataset:
    import highdicom

    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=_clean(segment.name) or f"class {segment.value}",
        segmented_property_category=codes.SCT.Tissue,  # the most that is known of any class
        segmented_property_type=codes.SCT.Tissue,
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=_clean(model) or _SOFTWARE,
            family=codes.DCM.ArtificialIntelligence,
            version=_VERSION,
            source=_SOFTWARE,
        ),
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.color),
    )
    description.SegmentDescription = f"mask value {segment.value}"
    return description


def _reach_ends(made: pydicom.Dataset, sources: list[_Source]) -> None:
    """Add an empty frame at the first and at the last slice where no class is.

    highdicom leaves out empty frames, which saves most of the space; but readers make a grid of the frames
    that they find, and it should be the source's.
    """
    frames = list(made.PerFrameFunctionalGroupsSequence)
    order = {_stored_place(source): number for number, source in enumerate(sources)}
    found = {_frame_place(frame) for frame in frames}
    voxels = made.Rows * made.Columns
    pixels = made.PixelData[: -(-voxels * len(frames) // 8)]  # without padding
    for place in (_stored_place(sources[0]), _stored_place(sources[-1])):
        if place not in found:
            frame = deepcopy(frames[0])
            frame.PlanePositionSequence[0].ImagePositionPatient = [_to_decimal(value) for value in place]
            frames.append(frame)
            found.add(place)
            made.pop("DimensionOrganizationType", None)  # "3D" promises frames in order
    downwards = sorted(found, key=lambda place: -order[place])  # as highdicom sorts frames
    ranks = {place: rank for rank, place in enumerate(downwards, 1)}
    for frame in frames:
        content = frame.FrameContentSequence[0]
        content.DimensionIndexValues = [content.DimensionIndexValues[0], ranks[_frame_place(frame)]]
    made.PerFrameFunctionalGroupsSequence = frames
    made.NumberOfFrames = len(frames)
    size = -(-voxels * len(frames) // 8)
    made.PixelData = pixels.ljust(size + size % 2, b"\0")


def _refer(made: pydicom.Dataset, series: str, sources: list[_Source]) -> None:
    """Let the segmentation and each of its frames refer to the true source."""
    by_place = {_stored_place(source): source for source in sources}
    for frame in made.PerFrameFunctionalGroupsSequence:
        reference = by_place[_frame_place(frame)].reference
        frame.DerivationImageSequence[0].SourceImageSequence[0].update(reference)
    instances: dict[str, pydicom.Dataset] = {}
    for source in sources:
        instance = pydicom.Dataset()
        instance.ReferencedSOPClassUID = source.reference.ReferencedSOPClassUID
        instance.ReferencedSOPInstanceUID = source.reference.ReferencedSOPInstanceUID
        instances.setdefault(str(instance.ReferencedSOPInstanceUID), instance)
    made.SourceImageSequence = list(instances.values())
    made.ReferencedSeriesSequence[0].SeriesInstanceUID = series
    made.ReferencedSeriesSequence[0].ReferencedInstanceSequence = list(instances.values())


def _stored_place(source: _Source) -> tuple[float, ...]:
    return tuple(float(_to_decimal(value)) for value in source.position)


def _frame_place(frame: pydicom.Dataset) -> tuple[float, ...]:
    return tuple(float(value) for value in frame.PlanePositionSequence[0].ImagePositionPatient)


def _make_uid(*parts: str) -> str:
    """Return the identifier that belongs to `parts`, always the same."""
    return str(generate_uid(entropy_srcs=[_SOFTWARE, *(f"{len(part)}:{part}" for part in parts)]))


def _clean(text: str) -> str:
    """Return text that fits in a field of a line: the backslash parts values there."""
    return re.sub(r"[\\\x00-\x1f\x7f]+", " ", text).strip()[:_LONGEST_TEXT].strip()
