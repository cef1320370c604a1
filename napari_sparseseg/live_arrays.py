"""The open image as the network of a live session learns from it: the box looked at, on the device."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.annotation import weigh_sources
from napari_sparseseg.cases import Case, Region, balance_classes
from napari_sparseseg.image_labels import Presence
from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.preview import CONFIDENT
from napari_sparseseg.regions import relative
from napari_sparseseg.sampling import TrainingArrays

_NO_IMAGE = np.zeros((1, 1, 1, 1), np.float32)


class LiveArrays:
    """Image, labels and what the preview teaches in a box of the volume.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` of the whole volume, normalised.
    region
        The box.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    device
        Where to learn.

    Attributes
    ----------
    region
        The box.
    image, labels, weights, taught
        As `TrainingArrays` has them; `taught` is its `preview`.
    class_weights
        ``(K + 1,)`` weight of each annotation value.
    """

    def __init__(
        self,
        image: NDArray[np.float32],
        region: Region,
        spacing: tuple[float, float, float],
        device: torch.device,
    ) -> None:
        self.region, self._spacing, self._whole = region, spacing, to_triple(image.shape[1:])
        self.image = torch.from_numpy(np.ascontiguousarray(image[(slice(None), *region)])).to(device)
        shape = to_triple(self.image.shape[1:])
        self.labels = torch.zeros(shape, dtype=torch.uint8, device=device)
        self.weights = torch.zeros(shape, dtype=torch.float16, device=device)
        self.taught = torch.zeros(shape, dtype=torch.uint8, device=device)
        self.class_weights = torch.zeros(0, device=device)

    @property
    def start(self) -> Triple:
        """Where the box begins in the volume."""
        return to_triple(edge.start for edge in self.region)

    def lay_out(
        self, part: NDArray[np.uint8], sources: NDArray[np.uint8], classes: int, seeding: float
    ) -> None:
        """Learn these labels from now on.

        Parameters
        ----------
        part, sources
            Annotation and `annotation.source_code` of each label, in the box.
        classes
            Number of classes, background included.
        seeding
            As `TrainingConfig` has it.
        """
        weights = balance_classes([Case(_NO_IMAGE, self._spacing, part)], classes)
        self.labels.copy_(torch.from_numpy(part))
        self.weights.copy_(torch.from_numpy(weights.numpy()[part] * weigh_sources(sources, seeding)))
        self.taught[self.labels > 0] = 0
        self.class_weights = weights.to(self.labels.device)

    def teach(self, box: Region, probabilities: NDArray[np.float32]) -> None:
        """Let the confident voxels of ``(K, …)`` probabilities in `box` be labels of lower weight."""
        box = relative(box, self.region)
        sure = probabilities.max(0) > CONFIDENT
        taught = torch.from_numpy(np.where(sure, probabilities.argmax(0) + 1, 0).astype(np.uint8))
        taught = taught.to(self.taught.device)
        taught[self.labels[box] > 0] = 0
        self.taught[box] = taught

    def remind(self, known: NDArray[np.uint8]) -> None:
        """Let these ``(Z, Y, X)`` values, 0 for none, be all labels of lower weight in the box."""
        self.taught.copy_(torch.from_numpy(known))
        self.taught[self.labels > 0] = 0

    def find_inside(self, voxels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of the volume's flat indices that lie in the box, as its own flat indices."""
        position = np.array(np.unravel_index(voxels, self._whole)).T - self.start
        shape = to_triple(self.labels.shape)
        inside = ((position >= 0) & (position < shape)).all(1)
        found: NDArray[np.int64] = np.ravel_multi_index(tuple(position[inside].T), shape).astype(np.int64)
        return found

    def move(self, device: torch.device) -> None:
        """Go on on another device."""
        names = ("image", "labels", "weights", "taught", "class_weights")
        for name in names:
            tensor: Tensor = getattr(self, name)
            setattr(self, name, tensor.to(device))

    def gather(self, presence: Presence | None) -> TrainingArrays:
        """Return what patches are cut from; `presence` is of the whole volume."""
        arrays: dict[str, Any] = {"image": self.image, "labels": self.labels, "weights": self.weights}
        return TrainingArrays(
            **arrays, preview=self.taught, spacing=self._spacing, start=self.start, whole=self._whole,
            presence=presence,
        )  # fmt: skip
