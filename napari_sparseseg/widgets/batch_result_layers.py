"""One volume of a batch in the viewer, with its mask."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from napari.utils import DirectLabelColormap
from napari.utils.color import ColorValue
from numpy.typing import NDArray

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.batch_ledger import read_record
from napari_sparseseg.errors import InputError
from napari_sparseseg.napari_hooks import VOLUME_KEY, LayerData, read_layers
from napari_sparseseg.saved_networks import read_network
from napari_sparseseg.volume import load_labels
from napari_sparseseg.widgets.image_source import PATH_KEY
from napari_sparseseg.widgets.workplace import Workplace

_TRANSPARENT = (0.0, 0.0, 0.0, 0.0)
_OPACITY = 0.5


@dataclass(frozen=True, eq=False)
class ShownResult:
    """What is put into the viewer.

    Attributes
    ----------
    name
        Of the volume.
    images
        Its channels, as napari's readers give them.
    mask
        Labels ``(Z, Y, X)`` on its grid: 0 background, else `LabelClass.value`.
    table
        The classes; None where they are not known.
    """

    name: str
    images: list[LayerData]
    mask: NDArray[np.int32]
    table: ClassTable | None


def read_result(name: str, mask: str, out: str, model: str) -> ShownResult:
    """Read a volume and its mask.

    Parameters
    ----------
    name, mask
        Of the volume, and the mask's file.
    out
        Folder of the batch.
    model
        Folder of the network, which knows the classes' names and colours.

    Raises
    ------
    InputError
        If a file is gone, or cannot be read.
    """
    record = read_record(Path(out), name)
    if record is None:
        raise InputError(f"the record of {name} in {out} is gone; run the batch again.")
    files = record.files
    images = read_layers(files[0] if len(files) == 1 else files)
    for _, attributes, _ in images:
        attributes["metadata"][PATH_KEY] = files[0]
    try:
        table = read_network(model).table
    except InputError:  # the network was moved since: the mask is shown in napari's own colours
        table = None
    return ShownResult(name, images, load_labels(mask, images[0][1]["metadata"][VOLUME_KEY]), table)


class ResultLayers:
    """The layers of the volume of a batch that was opened last; another one takes their place.

    Parameters
    ----------
    place
        The workplace.
    """

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._layers: list[Layer] = []

    def show(self, result: ShownResult) -> None:
        """Put a volume with its mask on top, and look at all of it."""
        viewer = self._place.viewer
        self.clear()
        for data, attributes, kind in result.images:
            self._layers.append(viewer.add_layer(Layer.create(data, attributes, kind)))
        own: dict[str, Any] = {} if result.table is None else {"colormap": _color(result.table)}
        mask = Labels(
            result.mask, name=f"mask of {result.name}", affine=result.images[0][1]["affine"],
            opacity=_OPACITY, **own,
        )  # fmt: skip
        self._layers.append(viewer.add_layer(mask))
        viewer.layers.selection.active = mask
        viewer.reset_view()
        self._show_middle(result.mask)

    def clear(self) -> None:
        """Take the layers out; those of an image that is worked on stay."""
        layers, session = self._place.viewer.layers, self._place.session
        if any(layer in layers and layer.name == session.image for layer in self._layers):
            self._layers = []
        for layer in self._layers:
            if layer in layers:
                layers.remove(layer)
        self._layers = []

    def _show_middle(self, mask: NDArray[np.int32]) -> None:
        """Show the slice on which most is segmented, in the orientation that the viewer has."""
        viewer, layer = self._place.viewer, self._layers[-1]
        if viewer.dims.ndim != mask.ndim or not mask.any():
            return
        axis = viewer.dims.order[0]
        others = tuple(other for other in range(mask.ndim) if other != axis)
        place = np.array(mask.shape) / 2
        place[axis] = np.argmax((mask != 0).sum(others))
        viewer.dims.set_point(axis, layer.data_to_world(place)[axis])


def _color(table: ClassTable) -> DirectLabelColormap:
    colors: dict[int | None, Any] = {None: _TRANSPARENT, 0: _TRANSPARENT}
    for entry in table.classes[1:]:
        colors[entry.value] = ColorValue(entry.color)
    return DirectLabelColormap(color_dict=colors)
