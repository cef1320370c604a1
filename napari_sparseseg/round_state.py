"""What a saved state of a live round must share with the round that goes on with it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.networks import Triple
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.settings import NetworkConfig, TrainingConfig

_FORMAT = "napari-sparseseg live state"


def describe_round(
    table: ClassTable,
    channels: int,
    shape: Triple,
    spacing: tuple[float, float, float],
    network: NetworkConfig,
    training: TrainingConfig,
    normalisation: Normalisation,
    encoder: str = "",
) -> dict[str, Any]:
    """Return what a state must share with a round, as JSON gives it back; `encoder` is the hash of one."""
    return {
        "format": _FORMAT,
        "classes": list(table.mask_values),
        "channels": channels,
        "shape": list(shape),
        "spacing": list(spacing),
        "network": network.to_json(),
        "training": training.to_json(),
        "normalisation": normalisation.to_json(),
        "encoder": encoder,
    }


def is_state_of(round_described: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Tell whether a state is of a round; what was unknown when it was written had its default then."""
    state = {"encoder": "", **state}
    training = state.get("training")
    if isinstance(training, dict):
        state = {**state, "training": {**TrainingConfig().to_json(), **training}}
    return all(state.get(key) == value for key, value in round_described.items())


def check_voxels(voxels: Tensor, size: int) -> NDArray[np.int64]:
    """Return the flat indices of held-out labels in a state; raise `ValueError` for anything else."""
    values: NDArray[np.int64] = voxels.numpy()
    if (
        values.dtype != np.int64
        or values.ndim != 1
        or (len(values) and not 0 <= values.min() <= values.max() < size)
    ):
        raise ValueError("the held-out labels lie outside the volume")
    return values
