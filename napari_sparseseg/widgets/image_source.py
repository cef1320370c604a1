"""From a napari Image layer to the volume that the worker sees."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.fingerprint import fingerprint_volume
from napari_sparseseg.napari_hooks import VOLUME_KEY
from napari_sparseseg.volume import Volume, volume_from_array
from napari_sparseseg.widgets.placement import Placement

MOST_CHANNELS = 16
"""A longer first axis of a 4D layer is taken for time or a stack of cases, not for channels."""

PATH_KEY = "sparseseg_path"
"""Where the ``metadata`` of a layer that napari has not read keeps the file that its volume comes from."""

_SAMPLES_PER_AXIS = 32


@dataclass(frozen=True, eq=False)
class ImageSource:
    """What is worked on: the volume, and where its layer lies.

    Attributes
    ----------
    name
        Of the layer.
    volume
        ``(C, Z, Y, X)`` float32, finite; carries the grid that results are saved on.
    placement
        Where the layer's voxels lie in the viewer.
    path
        The file that the same volume can be read from again; empty when there is none.
    fingerprint
        Tells images apart, and knows the same one again: see `fingerprint.fingerprint_volume`.
    """

    name: str
    volume: Volume
    placement: Placement
    path: str
    fingerprint: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along ``(Z, Y, X)``."""
        return self.volume.shape

    @property
    def voxel_ml(self) -> float:
        """Millilitres in one voxel."""
        return float(np.prod(self.volume.spacing)) / 1000


def prepare_reading(layer: Image) -> Callable[[], ImageSource]:
    """Look at a layer, and return what reads its values.

    What is returned may take long for large or lazy (Dask, zarr) data and touches no layer, so that it can
    run in another thread.

    Raises
    ------
    InputError
        At once, if the layer has too many axes or is sheared; later, if its values cannot be used.
    """
    name, rgb = str(layer.name), bool(layer.rgb)
    data = layer.data[0] if layer.multiscale else layer.data
    dimensions = layer.ndim
    if dimensions > 4 or (dimensions == 4 and (rgb or data.shape[0] > MOST_CHANNELS)):
        shape = "×".join(map(str, data.shape))
        raise InputError(
            f"{name} has the shape {shape}; choose a 2D or 3D image, or a 4D one whose first axis holds "
            f"at most {MOST_CHANNELS} channels."
        )
    placement = Placement.of_layer(layer)
    placement.check(name)
    known = _find_volume(layer.metadata.get(VOLUME_KEY), data)
    path = _find_path(layer, known)

    def read() -> ImageSource:
        volume = known or _read_volume(data, rgb, placement, name)
        return ImageSource(name, volume, placement, path, fingerprint_volume(volume))

    return read


def _read_volume(data: Any, rgb: bool, placement: Placement, name: str) -> Volume:
    try:
        values = np.asarray(data)
    except (OSError, MemoryError, ValueError) as error:
        raise InputError(f"the values of {name} cannot be read ({error}); open the image again.") from error
    if values.dtype == bool:
        values = values.view(np.uint8)
    if rgb:
        values = np.moveaxis(values, -1, 0)
    channels = values.shape[0] if rgb or values.ndim == 4 else 1
    space = values.shape[1:] if rgb or values.ndim == 4 else values.shape
    stack = values.reshape((channels, *(1,) * (3 - len(space)), *space))
    affine = None if placement.is_plain else placement.affine_3d
    return volume_from_array(stack, affine=affine, name=name)


def _find_volume(volume: object, data: Any) -> Volume | None:
    """Return the volume that a layer says it shows, if it is that one still."""
    if not isinstance(volume, Volume) or tuple(data.shape) != volume.shape:
        return None
    if any(np.may_share_memory(channel, data) for channel in volume.data if isinstance(data, np.ndarray)):
        return volume
    steps = tuple(slice(None, None, max(1, size // _SAMPLES_PER_AXIS)) for size in volume.shape)
    sample: NDArray[Any] = np.asarray(data[steps])
    same = any(np.array_equal(channel[steps], sample) for channel in volume.data)
    return volume if same else None


def _find_path(layer: Image, known: Volume | None) -> str:
    """Return the file to read again; channels may come from several files, and are kept in the project."""
    path = layer.source.path or layer.metadata.get(PATH_KEY)
    if path is None or known is None or len(known.data) > 1:
        return ""
    return str(Path(path).absolute()) if Path(path).exists() else ""


def with_values(source: ImageSource, values: NDArray[np.float32]) -> ImageSource:
    """Return the source with its values ``(C, Z, Y, X)`` lying elsewhere, so that the first copy can go."""
    return replace(source, volume=replace(source.volume, data=values))
