"""Optional cleaning of a prediction: largest component and hole filling, per class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sparseseg.settings import InferenceConfig


def clean_channels(channels: NDArray[np.integer[Any]], config: InferenceConfig) -> None:
    """Clean ``(Z, Y, X)`` class channels (0 = background) in place, as `config` asks.

    Parts of a class beside its largest component become background; only background is filled, so
    that no class takes voxels from another.  Components are 26-connected, holes 6-connected.
    """
    for channel in range(1, int(channels.max(initial=0)) + 1):
        if config.largest_component:
            parts, number = ndimage.label(channels == channel, np.ones((3, 3, 3)))
            if number > 1:
                sizes = np.bincount(parts.reshape(-1))
                sizes[0] = 0
                channels[(parts > 0) & (parts != sizes.argmax())] = 0
        if config.fill_holes:
            filled = ndimage.binary_fill_holes(channels == channel)
            channels[filled & (channels == 0)] = channel
