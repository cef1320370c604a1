"""Microscopy and plain arrays: TIFF, HDF5, npz and npy, which say at most how large a voxel is."""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.formats.stored import StoredImage, choose_frame, refuse_truncated, refuse_unreadable

_Spacing = tuple[float, ...]
_MM_PER_UNIT = {"m": 1e3, "cm": 10.0, "mm": 1.0, "µm": 1e-3, "um": 1e-3, "micron": 1e-3, "nm": 1e-6}
_TIFF_AXES = {"I": "Z", "Q": "Z", "S": "C"}


def read(path: Path, frame: int | None) -> StoredImage:
    """Read an array ``(Y, X)``, ``(Z, Y, X)`` or ``(C, Z, Y, X)``; ``file.h5:/dataset`` names a dataset."""
    if re.search(r"\.(h5|hdf5)(:|$)", str(path).lower()):
        return _read_hdf5(path, frame)
    if path.suffix.lower() in (".tif", ".tiff"):
        return _read_tiff(path, frame)
    return _read_numpy(path, frame)


def write(
    path: Path,
    data: NDArray[Any],
    affine: NDArray[np.float64],
    nifti_header: bytes | None,
    scanner: bool,
) -> None:
    """Write `data` ``(I, J, K)`` or ``(C, I, J, K)`` as an array ``(K, J, I)`` or ``(C, K, J, I)``."""
    del nifti_header
    array = np.ascontiguousarray(np.moveaxis(data, 0, -1).T if data.ndim == 4 else data.T)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    if path.suffix.lower() == ".npz":
        content = {"data": array, "spacing": spacing} | ({"affine": affine} if scanner else {})
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **content)
        return
    import tifffile

    metadata = {"axes": "CZYX"[-array.ndim :], "spacing_mm": spacing.tolist()}
    tifffile.imwrite(path, array, compression="zlib", metadata=metadata, bigtiff=array.nbytes > 2**31)


def _make_stored(
    path: Path,
    array: NDArray[Any],
    frame: int | None,
    kind: str,
    spacing: _Spacing | None,
    affine: NDArray[np.float64] | None = None,
    notes: tuple[str, ...] = (),
) -> StoredImage:
    """Wrap ``(Y, X)``, ``(Z, Y, X)`` or ``(C, Z, Y, X)``; with `frame` the first of four axes is time."""
    if array.dtype.kind not in "buifc":
        raise InputError(f"{path} holds {array.dtype} values, not numbers; give an array of numbers.")
    if not 2 <= array.ndim <= 4 or 0 in array.shape:
        raise InputError(f"{path} holds an array of shape {array.shape}; give (Z, Y, X) or (C, Z, Y, X).")
    if array.ndim == 4 and frame is not None:
        array = array[choose_frame(path, len(array), frame)]
    else:
        choose_frame(path, 1, frame)
    array = array.reshape((1,) * (4 - array.ndim) + array.shape)
    known = spacing is not None or affine is not None
    return StoredImage(
        data=array.transpose(0, 3, 2, 1),
        affine=np.diag([*reversed(spacing or (1.0, 1.0, 1.0)), 1.0]) if affine is None else affine,
        format=kind,
        has_geometry=affine is not None,
        has_spacing=known,
        notes=notes,
    )


def _read_numpy(path: Path, frame: int | None) -> StoredImage:
    spacing = affine = None
    with refuse_unreadable(path, "a numpy array", zipfile.BadZipFile), path.open("rb") as file:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return _make_stored(path, content, frame, "npy", None)
        with content:
            if "spacing" in content and content["spacing"].size == 3:
                spacing = tuple(float(size) for size in content["spacing"].ravel())
            if "affine" in content and content["affine"].shape == (4, 4):
                affine = content["affine"].astype(np.float64)
            names = [n for n in content.files if n not in ("spacing", "affine") and content[n].ndim >= 2]
            if len(names) != 1:
                raise InputError(
                    f"{path} holds {_list(names)}; save the one array to read in a file of its own."
                )
            return _make_stored(path, content[names[0]], frame, "npz", spacing, affine)


def _read_hdf5(path: Path, frame: int | None) -> StoredImage:
    import h5py

    match = re.fullmatch(r"(.*\.(?:h5|hdf5))(?::(.*))?", str(path), re.IGNORECASE)
    if match is None:
        raise InputError(f"{path} is not the name of an HDF5 file; write file.h5 or file.h5:/dataset.")
    file_path, name = Path(match[1]), match[2]
    with refuse_unreadable(file_path, "HDF5"), h5py.File(file_path, "r") as file:
        found: list[str] = []
        file.visititems(
            lambda key, item: found.append(key) if isinstance(item, h5py.Dataset) and item.ndim >= 2 else None
        )
        if name and name.strip("/") not in found:
            raise InputError(f"{file_path} has no image dataset {name}; it holds {_list(found)}.")
        if not name and len(found) != 1:
            example = f"{file_path.name}:/{found[0]}" if found else "a file with an image"
            raise InputError(f"{file_path} holds {_list(found)}; say which to read, as {example}.")
        dataset = file[name.strip("/") if name else found[0]]
        return _make_stored(file_path, dataset[()], frame, "HDF5", _hdf5_spacing(dataset))


def _hdf5_spacing(dataset: Any) -> _Spacing | None:
    """Return mm ``(Z, Y, X)``; `element_size_um` is ilastik's and PlantSeg's attribute."""
    for name, factor in (("element_size_um", 1e-3), ("spacing", 1.0)):
        if name in dataset.attrs and np.size(dataset.attrs[name]) == 3:
            return tuple(float(size) * factor for size in np.ravel(dataset.attrs[name]))
    return None


def _read_tiff(path: Path, frame: int | None) -> StoredImage:
    import tifffile

    with refuse_unreadable(path, "TIFF", tifffile.TiffFileError), tifffile.TiffFile(path) as file:
        if len(file.series) != 1:
            raise InputError(
                f"{path} holds {len(file.series)} images of different kinds; save one to a file."
            )
        series = file.series[0]
        _refuse_truncated_tiff(path, file)
        array, axes = series.asarray(), "".join(_TIFF_AXES.get(axis, axis) for axis in series.axes)
        spacing = _tiff_spacing(file)
    notes: tuple[str, ...] = ()
    if "T" in axes and "Z" not in axes and array.shape[axes.index("T")] > 1:
        axes = axes.replace("T", "Z")
        notes = (f"{path.name} calls its slices time points; they were taken as depth.",)
    array, axes = _arrange_tiff(path, array, axes)
    if axes == "TCZYX":
        array = array[choose_frame(path, len(array), frame)]
        frame = None
    return _make_stored(path, array, frame, "TIFF", spacing, notes=notes)


def _refuse_truncated_tiff(path: Path, file: Any) -> None:
    """Refuse a file that ends before its last page; tifffile reads the pages before as if they were all."""
    handle = file.filehandle
    handle.seek(file.pages.next_page_offset)
    end_of_chain = handle.read(file.tiff.offsetsize)
    if len(end_of_chain) < file.tiff.offsetsize or any(end_of_chain):
        raise InputError(f"{path} is truncated: pages are missing at its end; copy or export it again.")
    for page in file.pages:
        ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
        refuse_truncated(path, handle.size, max(ends, default=0))


def _arrange_tiff(path: Path, array: NDArray[Any], axes: str) -> tuple[NDArray[Any], str]:
    """Bring the axes in the order T C Z Y X, with length 1 where one is missing."""
    known = [n for n, axis in enumerate(axes) if axis in "TCZYX" or array.shape[n] > 1]
    array = array.reshape([array.shape[n] for n in known])
    axes = "".join(axes[n] for n in known)
    if len(set(axes)) != len(axes) or set(axes) - set("TCZYX"):
        raise InputError(f"{path} has the axes {axes}; save it with axes out of T, C, Z, Y and X.")
    missing = [axis for axis in "TCZYX" if axis not in axes]
    array = array.reshape((1,) * len(missing) + array.shape)
    axes = "".join(missing) + axes
    return array.transpose([axes.index(axis) for axis in "TCZYX"]), "TCZYX"


def _tiff_spacing(file: Any) -> _Spacing | None:
    """Return mm ``(Z, Y, X)`` from our own, OME or ImageJ metadata, if there is any."""
    if file.shaped_metadata and "spacing_mm" in file.shaped_metadata[0]:
        return tuple(file.shaped_metadata[0]["spacing_mm"])
    if file.ome_metadata:
        sizes = []
        for axis in "ZYX":
            size = re.search(rf'PhysicalSize{axis}="([^"]+)"', file.ome_metadata)
            unit = re.search(rf'PhysicalSize{axis}Unit="([^"]+)"', file.ome_metadata)
            sizes.append(float(size[1]) * _MM_PER_UNIT.get(unit[1] if unit else "µm", 0.0) if size else 0.0)
        return tuple(sizes) if all(sizes) else None
    metadata = file.imagej_metadata or {}
    factor = _MM_PER_UNIT.get(str(metadata.get("unit", "")).replace("\\u00B5", "µ"))
    tags = file.pages[0].tags
    if factor is None or "spacing" not in metadata or "XResolution" not in tags or "YResolution" not in tags:
        return None
    (x_pixels, x_length), (y_pixels, y_length) = tags["XResolution"].value, tags["YResolution"].value
    return tuple(factor * size for size in (metadata["spacing"], y_length / y_pixels, x_length / x_pixels))


def _list(names: list[str]) -> str:
    return f"the arrays {', '.join(names)}" if names else "no image-like array"
