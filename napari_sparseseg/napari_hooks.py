"""What napari calls to open, save and sample files; plain tuples in and out, napari is not imported."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.volume import Volume, is_readable, load_volume, save_labels, save_map, volume_from_array

VOLUME_KEY = "sparseseg_volume"
"""Where a layer's ``metadata`` keeps the `Volume` that it shows."""

_AIR, _TISSUE_WINDOW = -500.0, (-160.0, 240.0)  # Hounsfield units

LayerData = tuple[NDArray[Any], dict[str, Any], str]
_Paths = str | Sequence[str]


def get_reader(path: _Paths) -> Callable[[_Paths], list[LayerData]] | None:
    """Return `read_layers` if the files look readable, else None.

    Parameters
    ----------
    path
        A file or a folder, or several files to be stacked as channels.
    """
    paths = [path] if isinstance(path, str) else list(path)
    return read_layers if paths and all(is_readable(each) for each in paths) else None


def read_layers(path: _Paths) -> list[LayerData]:
    """Read a volume as one image layer for each channel.

    Raises
    ------
    InputError
        As `load_volume` does.
    """
    return image_layers(load_volume(path))


def write_labels(path: str, data: NDArray[Any], attributes: dict[str, Any]) -> list[str]:
    """Write a labels layer ``(Z, Y, X)``, on the grid of the source volume where the layer knows it.

    Raises
    ------
    InputError
        As `save_labels` does, or if the layer is sheared or not 3D.
    """
    data = np.asarray(data)
    save_labels(path, data, _find_volume(data, attributes))
    return [path]


def write_image(path: str, data: NDArray[Any], attributes: dict[str, Any]) -> list[str]:
    """Write an image layer ``(Z, Y, X)`` as float32, as `write_labels` writes labels.

    Raises
    ------
    InputError
        As `save_map` does, or if the layer is sheared or not 3D.
    """
    data = np.asarray(data)
    save_map(path, data, _find_volume(data, attributes))
    return [path]


def open_sample_mni() -> list[LayerData]:
    """Return the bundled MNI152 T1 brain and its tissue labels."""
    from napari_sparseseg.sample_data import load_sample

    return _sample_layers(*load_sample())


def open_sample_synthetic() -> list[LayerData]:
    """Return a generated volume with organ-like shapes and its labels."""
    from napari_sparseseg.sample_data import generate_case

    return _sample_layers(*generate_case(seed=0))


def image_layers(volume: Volume) -> list[LayerData]:
    """Return one image layer for each channel of a volume."""
    layers: list[LayerData] = []
    for number, channel in enumerate(volume.data):
        name = volume.name if len(volume.data) == 1 else f"{volume.name} [{number}]"
        attributes = _placement(volume, name) | {"contrast_limits": _contrast(channel)}
        layers.append((channel, attributes, "image"))
    return layers


def _contrast(channel: NDArray[np.float32]) -> tuple[float, float]:
    """Return limits in which tissue is told apart: the abdominal window of a CT, else the usual values."""
    sample = channel.reshape(-1)[:: max(1, channel.size // 200_000)]
    if sample.min() < _AIR:
        return _TISSUE_WINDOW
    low, high = (float(value) for value in np.percentile(sample, (0.5, 99.8)))
    return (low, high) if low < high else (low - 1, low + 1)


def _sample_layers(volume: Volume, labels: NDArray[np.int32], table: Any) -> list[LayerData]:
    attributes = _placement(volume, f"{volume.name} truth")
    attributes["visible"] = False  # it is to be found, not seen
    attributes["metadata"]["class_table"] = table.to_json()
    return [*image_layers(volume), (labels, attributes, "labels")]


def _placement(volume: Volume, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "affine": volume.affine,
        "metadata": {VOLUME_KEY: volume, "notes": volume.notes},
    }


def _find_volume(data: NDArray[Any], attributes: dict[str, Any]) -> Volume:
    """Return the layer's source volume or, for a layer of another origin, one made from its transform."""
    volume = attributes.get("metadata", {}).get(VOLUME_KEY)
    if isinstance(volume, Volume) and volume.shape == data.shape:
        return volume
    if data.ndim != 3:
        raise InputError(f"the layer has {data.ndim} dimensions; give a 3D one.")
    if np.any(attributes.get("shear", 0)):
        raise InputError("the layer is sheared, which cannot be saved; reset its shear.")
    own = np.eye(4)
    own[:3, :3] = np.asarray(attributes.get("rotate", np.eye(3))) * np.asarray(
        attributes.get("scale", (1, 1, 1))
    )
    own[:3, 3] = attributes.get("translate", (0, 0, 0))
    affine = np.asarray(attributes.get("affine", np.eye(4))) @ own
    return volume_from_array(
        np.zeros(data.shape, np.float32), affine=affine, name=attributes.get("name", "layer")
    )
