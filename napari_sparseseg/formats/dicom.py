"""DICOM series and enhanced multi-frame files: geometry by pydicom, pixels by SimpleITK's GDCM."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.formats.dicom_series import Headers, count_frames, read_series
from napari_sparseseg.formats.planes import Plane, stack_planes
from napari_sparseseg.formats.stored import StoredImage, ignore_warnings, refuse_unreadable


def read(path: Path, frame: int | None) -> StoredImage:
    """Read the one series in a folder, or the series that a file belongs to."""
    with ignore_warnings(), refuse_unreadable(path, "DICOM", AttributeError, TypeError):
        headers, notes = read_series(path)
        if any("MOSAIC" in (header.get("ImageType") or []) for header in headers.values()):
            raise InputError(
                f"{path} is a Siemens mosaic; convert it to NIfTI first (for example with dcm2niix)."
            )
        planes = find_planes(path, headers)
        multi_frame = any(count_frames(header) > 1 for header in headers.values())
    planes, affine, stack_notes = stack_planes(planes, path, frame)
    with refuse_unreadable(path, "DICOM"):
        voxels = _read_frames(planes) if multi_frame else _read_slices(planes)
    return StoredImage(
        data=voxels.transpose(3, 2, 1, 0),
        affine=affine,
        format="DICOM",
        slices=tuple((plane.file, plane.index) for plane in planes),
        notes=(*notes, *stack_notes),
    )


def find_planes(path: Path, headers: Headers) -> list[Plane]:
    """Return all planes of a series in the order of its files and frames; `path` is what messages call it."""
    files = list(headers)
    multi_frame = [file for file in files if count_frames(headers[file]) > 1]
    with refuse_unreadable(path, "DICOM", AttributeError, TypeError, IndexError):
        if len(multi_frame) > 1 or (multi_frame and len(files) > 1):
            raise InputError(f"{path} holds several multi-frame files; give one of them.")
        if multi_frame:
            return _planes_of_frames(files[0], headers[files[0]])
        return [_plane_of_file(file, header) for file, header in headers.items()]


def _plane_of_file(file: Path, header: Any) -> Plane:
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        if not header.get(keyword):
            raise InputError(f"{file} does not say where it lies in the patient ({keyword} is missing).")
    times = (header.get(k) for k in ("TemporalPositionIdentifier", "AcquisitionNumber", "InstanceNumber"))
    return _make_plane(
        file,
        0,
        position=header.ImagePositionPatient,
        orientation=header.ImageOrientationPatient,
        pixel_spacing=header.PixelSpacing,
        size=(header.Rows, header.Columns),
        thickness=header.get("SpacingBetweenSlices") or header.get("SliceThickness"),
        order=tuple(float(time or 0) for time in times),
    )


def _planes_of_frames(file: Path, header: Any) -> list[Plane]:
    if not header.get("PerFrameFunctionalGroupsSequence"):
        raise InputError(
            f"{file} has several frames without saying where each lies in the patient; "
            "convert it to NIfTI first."
        )
    shared = (header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    planes, rescales = [], set()
    for index, group in enumerate(header.PerFrameFunctionalGroupsSequence):
        measures = _find_group(group, shared, "PixelMeasuresSequence")
        rescale = _find_group(group, shared, "PixelValueTransformationSequence")
        rescales.add((rescale.get("RescaleSlope"), rescale.get("RescaleIntercept")))
        planes.append(
            _make_plane(
                file,
                index,
                position=_find_group(group, shared, "PlanePositionSequence").ImagePositionPatient,
                orientation=_find_group(group, shared, "PlaneOrientationSequence").ImageOrientationPatient,
                pixel_spacing=measures.PixelSpacing,
                size=(header.Rows, header.Columns),
                thickness=measures.get("SpacingBetweenSlices") or measures.get("SliceThickness"),
                order=(float(index),),
            )
        )
    if len(rescales) > 1:
        raise InputError(
            f"{file} scales its frames differently; convert it to NIfTI first (for example with dcm2niix)."
        )
    return planes


def _find_group(group: Any, shared: Any, name: str) -> Any:
    sequence = group.get(name) or shared.get(name)
    return sequence[0] if sequence else pydicom.Dataset()


def _make_plane(
    file: Path,
    index: int,
    *,
    position: Any,
    orientation: Any,
    pixel_spacing: Any,
    size: tuple[Any, Any],
    thickness: Any,
    order: tuple[float, ...],
) -> Plane:
    return Plane(
        file=file,
        index=index,
        position=np.array([float(value) for value in position]),
        orientation=np.array([float(value) for value in orientation]).reshape(2, 3),
        pixel_spacing=(float(pixel_spacing[0]), float(pixel_spacing[1])),
        size=(int(size[0]), int(size[1])),
        thickness=abs(float(thickness)) if thickness else None,
        order=order,
    )


def _read_slices(planes: list[Plane]) -> NDArray[np.float32]:
    """Return ``(Z, Y, X, C)``; each file is rescaled by its own slope, as PET needs."""
    voxels = np.empty((len(planes), *_decode(planes[0].file).shape[1:]), np.float32)
    for z, plane in enumerate(planes):
        pixels = _decode(plane.file)[0]
        if pixels.shape != voxels.shape[1:]:
            raise InputError(
                f"{plane.file} has another number of channels than the slices before; export it again."
            )
        voxels[z] = pixels
    return voxels


def _read_frames(planes: list[Plane]) -> NDArray[Any]:
    pixels = _decode(planes[0].file)
    return pixels[[plane.index for plane in planes]]


def _decode(file: Path) -> NDArray[Any]:
    """Return ``(Z, Y, X, C)``."""
    with refuse_unreadable(file, "DICOM"):
        image = SimpleITK.ReadImage(str(file), imageIO="GDCMImageIO")
    pixels: NDArray[Any] = SimpleITK.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() == 1:
        pixels = pixels[..., np.newaxis]
    return pixels.reshape((-1, *pixels.shape[-3:]))
