"""What an image is known again by, whatever file or layer it comes from."""

import hashlib

import numpy as np

from napari_sparseseg.volume import Volume

_SAMPLES_PER_AXIS = 32


def fingerprint_volume(volume: Volume) -> str:
    """Return a SHA-256 of shape, spacing (to six digits) and a regular sample of the values."""
    digest = hashlib.sha256()
    digest.update(repr(volume.data.shape).encode())
    digest.update(" ".join(f"{size:.6g}" for size in volume.spacing).encode())
    steps = tuple(slice(None, None, max(1, size // _SAMPLES_PER_AXIS)) for size in volume.shape)
    sample = np.ascontiguousarray(volume.data[(slice(None), *steps)], "<f4")
    digest.update(sample.tobytes())
    return digest.hexdigest()
