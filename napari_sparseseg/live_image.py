"""The image of a live session, and how its intensities are brought to what networks take."""

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import BACKGROUND
from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.normalisation import Normalisation, fit_normalisation

MORE_LABELS = 2.0
"""So many times as many labels say something new: of the window of a CT, or of how good a network is."""


class LiveImage:
    """An image and its normalisation, which follows the labels.

    Parameters
    ----------
    intensities
        ``(C, Z, Y, X)`` as read, finite; an attribute, too.
    spacing
        Voxel size in mm ``(Z, Y, X)``.

    Attributes
    ----------
    normalisation
        How intensities become a network's input.
    normalised
        ``(C, Z, Y, X)`` what it makes of them; there after `prepare`.
    """

    def __init__(self, intensities: NDArray[np.float32], spacing: tuple[float, float, float]) -> None:
        self.spacing = spacing
        self.normalisation = Normalisation((None,) * intensities.shape[0])
        self.normalised = intensities
        self.intensities = intensities
        self._windowed = 0  # labelled foreground voxels that the window of a CT was fitted to

    @property
    def shape(self) -> Triple:
        """Voxels ``(Z, Y, X)``."""
        return to_triple(self.intensities.shape[1:])

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.intensities.shape[0])

    def prepare(self) -> None:
        """Normalise for the first time."""
        self.normalised = self.normalisation.apply(self.intensities)

    def normalise(self, normalisation: Normalisation) -> bool:
        """Normalise in this way from now on; tell whether that is another one than before."""
        changed = normalisation != self.normalisation
        if changed:
            self.normalisation = normalisation
            self.prepare()
        return changed

    def fit(self, annotation: NDArray[np.uint8]) -> Normalisation:
        """Return the normalisation that suits these labels: the window of a CT is that of labelled organs."""
        return fit_normalisation([self.intensities], [annotation])

    def follow(self, annotation: NDArray[np.uint8]) -> bool:
        """Fit the normalisation to labels that are fewer or many more than last; tell whether it changed."""
        foreground = int((annotation > BACKGROUND).sum())
        if self._windowed <= foreground <= MORE_LABELS * self._windowed:
            return False
        self._windowed = foreground
        return self.normalise(self.fit(annotation))
