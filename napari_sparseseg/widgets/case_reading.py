"""From a case to an image in the viewer, and which layers show it."""

from pathlib import Path
from typing import Any

import numpy as np
from napari import Viewer
from napari.layers import Image

from napari_sparseseg.errors import InputError
from napari_sparseseg.fingerprint import fingerprint_volume
from napari_sparseseg.napari_hooks import VOLUME_KEY, image_layers
from napari_sparseseg.project import CaseRecord
from napari_sparseseg.project_images import load_image
from napari_sparseseg.volume import Volume, load_volume, volume_from_array
from napari_sparseseg.widgets.image_source import PATH_KEY

CASE_KEY = "sparseseg_case"
"""Where the ``metadata`` of a layer that a project has opened, and takes out again, keeps the case's key."""


class CaseReader:
    """Reads the image of a case, and checks that it is the same still; may be called in any thread.

    Parameters
    ----------
    files
        As `volume.load_volume` takes them; empty where the project keeps the image itself.
    record
        What the project knows of the case; None before its first stroke.
    kept
        Where the project keeps the image, if it does.
    """

    def __init__(self, files: tuple[str, ...], record: CaseRecord | None, kept: Path | None = None) -> None:
        self._files, self._record, self._kept = files, record, kept

    def __call__(self) -> Volume:
        """Return the image; raise `InputError` where it cannot be read, or is another one."""
        record = self._record
        if record is not None and not record.source and self._kept is not None:
            values = load_image(self._kept, record)
            return volume_from_array(values, affine=np.array(record.affine), name=record.name)
        files = self._files
        if missing := [file for file in files if not is_there(file)]:
            raise InputError(
                f"{missing[0]} is not there any more; put it back, or open the image from where "
                "it is now: its labels are kept."
            )
        volume = load_volume(files[0] if len(files) == 1 else files)
        if record is not None and record.fingerprint and fingerprint_volume(volume) != record.fingerprint:
            raise InputError(f"{files[0]} holds another image now; its labels were made for the one before.")
        return volume


def is_there(file: str) -> bool:
    """Tell whether a file, or a data set's file (``file.h5:/dataset``), exists."""
    return Path(file).exists() or (":" in file and Path(file.rpartition(":")[0]).is_file())


def show_volume(viewer: Viewer, volume: Volume, name: str, key: str, file: str) -> list[Image]:
    """Show the volume of a case, a layer for each channel.

    Parameters
    ----------
    viewer, volume, name
        Where, what, and what to call it.
    key
        As `project_cohort.CohortCase` has it.
    file
        What the volume can be read from again; empty for none.
    """
    layers = []
    for number, (channel, attributes, _) in enumerate(image_layers(volume)):
        given: dict[str, Any] = dict(attributes)
        given["name"] = name if len(volume.data) == 1 else f"{name} [{number}]"
        given["metadata"] = {**given["metadata"], CASE_KEY: key, PATH_KEY: file}
        layers.append(Image(channel, **given))
    for layer in layers:
        viewer.add_layer(layer)
    return layers


def find_layer(viewer: Viewer, files: tuple[str, ...], record: CaseRecord | None) -> Image | None:
    """Return the layer that shows a case: by what the project knows it by, or else by its file."""
    for layer in viewer.layers:
        if not isinstance(layer, Image):
            continue
        if record is None or not record.fingerprint:
            path = layer.source.path or layer.metadata.get(PATH_KEY)
            if path and len(files) == 1 and Path(path).absolute() == Path(files[0]):
                return layer
            continue
        volume = layer.metadata.get(VOLUME_KEY)
        if not isinstance(volume, Volume) or volume.shape != record.shape:
            continue
        if fingerprint_volume(volume) == record.fingerprint:
            return layer
    return None


def layers_of(viewer: Viewer, layer: Image) -> list[Image]:
    """Return the image layers that show the channels of the volume that `layer` shows."""
    volume = layer.metadata.get(VOLUME_KEY)
    return [
        each
        for each in viewer.layers
        if isinstance(each, Image)
        and (each == layer or (volume is not None and each.metadata.get(VOLUME_KEY) is volume))
    ]


def opened_layers(viewer: Viewer) -> list[Image]:
    """Return the image layers that projects have opened."""
    return [each for each in viewer.layers if isinstance(each, Image) and CASE_KEY in each.metadata]
