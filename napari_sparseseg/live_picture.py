"""The picture of a live session: the shared arrays that the viewer shows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sparseseg.annotation import BACKGROUND
from napari_sparseseg.cases import Region
from napari_sparseseg.events import PictureChanged
from napari_sparseseg.inference import entropy
from napari_sparseseg.live_labels import LiveLabels
from napari_sparseseg.postprocessing import clean_channels
from napari_sparseseg.regions import grow_region
from napari_sparseseg.settings import InferenceConfig


class LivePicture:
    """Writes answers into the shared arrays; what the user has labelled stays as labelled.

    Parameters
    ----------
    prediction
        ``(Z, Y, X)`` uint8: painted values, 1 = background, 0 = not looked at.
    uncertainty
        ``(Z, Y, X)`` uint8: entropy of the class probabilities, 0 sure to 255 undecided.
    labels
        The labels.
    """

    def __init__(
        self, prediction: NDArray[np.uint8], uncertainty: NDArray[np.uint8], labels: LiveLabels
    ) -> None:
        self._prediction, self._uncertainty = prediction, uncertainty
        self._labels = labels

    def write(self, box: Region, probabilities: NDArray[np.float32], shown: str) -> PictureChanged:
        """Show ``(K, …)`` class probabilities in `box`."""
        self._write_values(box, self._labels.values()[probabilities.argmax(0)])
        unsure = entropy(torch.from_numpy(probabilities)).numpy() * 255
        unsure[self._labels.annotation[box] > 0] = 0
        self._uncertainty[box] = unsure.clip(0, 255).astype(np.uint8)
        return PictureChanged(edges_of(box), shown)

    def write_channels(
        self, box: Region, channels: NDArray[np.uint8], uncertainty: NDArray[np.floating[Any]]
    ) -> PictureChanged:
        """Show class channels in `box`, 0 = background, and their uncertainty, 0 to 1."""
        self._write_values(box, self._labels.values()[channels])
        labelled = self._labels.annotation[box] > 0
        self._uncertainty[box] = np.where(labelled, 0, (uncertainty * 255).clip(0, 255)).astype(np.uint8)
        return PictureChanged(edges_of(box), "network")

    def _write_values(self, box: Region, values: NDArray[np.uint8]) -> None:
        labels = self._labels
        self._prediction[box] = np.where(labels.annotation[box] > 0, labels.painted[box], values)

    def channels(self, region: Region) -> NDArray[np.uint8]:
        """Return the class channels shown in `region`, 0 = background."""
        rows = self._labels.rows()[self._prediction[region]]
        channels: NDArray[np.uint8] = np.maximum(rows, BACKGROUND) - np.uint8(BACKGROUND)
        return channels

    def clean(self, region: Region, config: InferenceConfig) -> None:
        """Clean what is shown in `region`, as `config` asks."""
        if config.cleans:
            channels = self.channels(region)
            clean_channels(channels, config)
            self._write_values(region, self._labels.values()[channels])

    def clear_outside(self, region: Region) -> None:
        """Let what is shown outside `region` be background, and sure."""
        for axis in range(3):
            for side in (slice(0, region[axis].start), slice(region[axis].stop, None)):
                outside: list[slice] = [slice(None)] * 3
                outside[axis] = side
                place = (outside[0], outside[1], outside[2])
                self._write_values(place, np.full_like(self._prediction[place], BACKGROUND))
                self._uncertainty[place] = 0

    def clear(self) -> Iterator[PictureChanged]:
        """Show nothing: there is nothing to predict from."""
        if self._prediction.any():
            self._prediction[:] = 0
            self._uncertainty[:] = 0
            yield PictureChanged(edges_of(tuple(slice(0, n) for n in self._prediction.shape)), "preview")

    def find_larger(self, region: Region) -> Region:
        """Return `region`, enlarged where an object that the user labelled reaches its border."""
        annotation = self._labels.annotation
        channels = np.zeros(annotation.shape, np.uint8)
        channels[region] = self.channels(region)
        return grow_region(channels, annotation, region)


def edges_of(box: tuple[slice, ...]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return ``(first, last + 1)`` per axis."""
    z, y, x = ((int(edge.start), int(edge.stop)) for edge in box)
    return z, y, x
