"""NIfTI-1 and NIfTI-2, single files and pairs, either byte order; and Analyze 7.5 pairs."""

import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import apply_affine
from nibabel.analyze import AnalyzeHeader
from nibabel.arrayproxy import ArrayProxy
from nibabel.nifti1 import Nifti1PairHeader
from nibabel.nifti2 import Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.formats.stored import (
    RAS_TO_LPS,
    StoredImage,
    choose_frame,
    open_by_content,
    read_to_end,
    refuse_unreadable,
)

_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_LARGEST_NIFTI1_AXIS = 32767


def read(path: Path, frame: int | None) -> StoredImage:
    """Read a NIfTI file by its content, whatever compression or byte order it has."""
    with ExitStack() as stack:
        stack.enter_context(refuse_unreadable(path, "NIfTI", HeaderDataError))
        header_path, image_path = _find_pair(path)
        header_file, notes = open_by_content(header_path, stack)
        image_file = header_file
        if image_path != header_path:
            image_file, _ = open_by_content(image_path, stack)
        header_class = _find_header_class(path, header_file.read(348), paired=image_path != header_path)
        header_file.seek(0)
        header = header_class.from_fileobj(header_file, check=False)
        notes += _mend_pixdim(path, header)
        affine, geometry_notes = _read_affine(path, header)
        proxy = ArrayProxy(image_file, header)
        voxels = proxy.get_unscaled()
        read_to_end(image_file)
        return StoredImage(
            data=_arrange_axes(path, voxels, frame),
            affine=RAS_TO_LPS @ affine,
            format="NIfTI",
            slope=float(proxy.slope),
            intercept=float(proxy.inter),
            nifti_header=header.binaryblock if isinstance(header, nibabel.Nifti1Header) else None,
            notes=(*notes, *geometry_notes),
        )


def write(
    path: Path,
    data: NDArray[Any],
    affine: NDArray[np.float64],
    nifti_header: bytes | None,
    scanner: bool,
) -> None:
    """Write NIfTI, with the header of the source where there is one; channels go to the fifth dimension."""
    if data.ndim == 4:
        data = np.moveaxis(data, 0, -1)[:, :, :, np.newaxis]
    if nifti_header is None:
        large = max(data.shape) > _LARGEST_NIFTI1_AXIS
        image_class = nibabel.Nifti2Image if large else nibabel.Nifti1Image
        image = image_class(data, None, dtype=data.dtype)
        code = "scanner" if scanner else "aligned"
        image.set_sform(RAS_TO_LPS @ affine, code)
        image.set_qform(RAS_TO_LPS @ affine, code)
        image.header.set_xyzt_units("mm")
    else:
        image = _image_with_header(data, nifti_header)
    if data.ndim == 5:
        image.header.set_intent("vector")
    nibabel.save(image, path)


def _image_with_header(data: NDArray[Any], block: bytes) -> Any:
    image_class = nibabel.Nifti2Image if len(block) == 540 else nibabel.Nifti1Image
    header = image_class.header_class(block, check=False)
    header["magic"] = header.single_magic
    header["vox_offset"] = 0
    header["cal_min"] = header["cal_max"] = 0  # the display window of the image says nothing about labels
    header["scl_slope"] = header["scl_inter"] = np.nan
    header.set_intent("none")
    header.set_data_dtype(data.dtype)
    if int(header["dim"][0]) <= 2 and data.ndim == 3:
        data = data[:, :, 0]
    return image_class(data, None, header)


def _find_pair(path: Path) -> tuple[Path, Path]:
    if path.suffix.lower() not in (".hdr", ".img"):
        return path, path
    names = (path.with_suffix(".hdr"), path.with_suffix(".img"))
    for name in names:
        if not name.exists():
            raise InputError(f"{path} is one half of a pair, and {name.name} is missing; put it beside it.")
    return names


def _find_header_class(path: Path, head: bytes, paired: bool) -> Any:
    """Choose nibabel's class by the header's first bytes."""
    if len(head) < 348:
        raise EOFError("the header is cut off")
    sizes = {struct.unpack(order + "i", head[:4])[0] for order in "<>"}
    if 540 in sizes and head[4:6] in (b"n+", b"ni"):
        return Nifti2PairHeader if paired else nibabel.Nifti2Header
    if 348 in sizes and head[344:346] in (b"n+", b"ni"):
        return Nifti1PairHeader if paired else nibabel.Nifti1Header
    if 348 in sizes and paired:
        return AnalyzeHeader
    raise InputError(f"{path} is not a NIfTI file, in spite of its name; export it again.")


def _mend_pixdim(path: Path, header: Any) -> list[str]:
    """Refuse impossible sizes; in `header`, make negative ones positive."""
    dimensions = int(header["dim"][0])
    if not 1 <= dimensions <= 7 or np.any(header["dim"][1 : dimensions + 1] < 1):
        raise InputError(
            f"{path} holds no voxels: the dimensions in its header are impossible; export it again."
        )
    pixdim = np.asarray(header["pixdim"][1 : 1 + min(dimensions, 3)], np.float64)
    if not np.isfinite(pixdim).all() or np.any(pixdim == 0):
        raise InputError(
            f"{path} has a voxel size of {' × '.join(f'{size:g}' for size in pixdim)} mm; "
            "correct the header (pixdim) or export it again."
        )
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1  # the standard: 0 is to be read as 1
    if np.any(pixdim < 0):
        header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
        return [f"{path.name} has negative voxel sizes (pixdim); their absolute values were taken."]
    return []


def _read_affine(path: Path, header: Any) -> tuple[NDArray[np.float64], list[str]]:
    """Return index -> RAS mm, and what had to be chosen or assumed."""
    notes: list[str] = []
    if not isinstance(header, nibabel.Nifti1Header):
        notes.append(f"{path.name} is Analyze 7.5, which says nothing on orientation; LAS was assumed.")
        return np.asarray(header.get_best_affine(), np.float64), notes
    sform, qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    if sform:
        affine = header.get_sform()
        if qform and _places_differ(affine, header.get_qform(), header.get_data_shape()):
            notes.append(f"{path.name} has a qform and a sform that disagree; the sform was taken.")
    elif qform:
        affine = header.get_qform()
    else:
        zooms = [*header.get_zooms()[:3], 1.0, 1.0][:3]
        affine = np.diag([*zooms, 1.0])  # the standard's "method 1", which nibabel reads as mirrored
        notes.append(
            f"{path.name} has neither qform nor sform: RAS was assumed, with voxels of {_list(zooms)} mm; "
            "left and right may be swapped."
        )
    factor = _MM_PER_UNIT.get(header.get_xyzt_units()[0], 1.0)
    if factor != 1.0:
        notes.append(f"{path.name} measures in {header.get_xyzt_units()[0]}s; it was converted to mm.")
    return np.diag([factor] * 3 + [1.0]) @ np.asarray(affine, np.float64), notes


def _places_differ(first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    size = [*shape[:3], 1, 1][:3]
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(size) - 1)
    difference = apply_affine(first, corners) - apply_affine(second, corners)
    spacing = np.linalg.norm(first[:3, :3], axis=0).min()
    return bool(np.linalg.norm(difference, axis=1).max() > 0.05 * spacing)


def _arrange_axes(path: Path, voxels: Any, frame: int | None) -> NDArray[Any]:
    """Turn ``(x, y, z, time, channel)``, or fewer axes, or an RGB type, into ``(C, I, J, K)``."""
    while voxels.ndim > 5 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim > 5:
        raise InputError(f"{path} has {voxels.ndim} dimensions; split it into volumes of at most five.")
    voxels = voxels.reshape(voxels.shape + (1,) * (5 - voxels.ndim), order="F")
    voxels = voxels[:, :, :, choose_frame(path, voxels.shape[3], frame)]
    if voxels.dtype.names:
        return np.stack([voxels[name][..., 0] for name in voxels.dtype.names[:3]])  # without RGBA's opacity
    return np.moveaxis(voxels, -1, 0)


def _list(zooms: list[Any]) -> str:
    return " × ".join(f"{float(zoom):g}" for zoom in zooms)
