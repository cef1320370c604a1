"""What a training keeps on disk, to go on later exactly where it was stopped."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from napari_sparseseg.checkpoint import read_tensors, write_tensors
from napari_sparseseg.errors import InputError
from napari_sparseseg.learner import with_prefix

_FORMAT = "napari-sparseseg training state"


@dataclass(frozen=True)
class StateIdentity:
    """Which training a state belongs to.

    Attributes
    ----------
    data
        Hash of the data and settings.
    encoder
        Hash of the encoder that it started from; empty for none.
    processes
        How many take part.
    """

    data: str
    encoder: str
    processes: int


@dataclass(frozen=True, eq=False)
class SavedState:
    """How far a training has come.

    Attributes
    ----------
    learner
        As `Learner.state` returns it.
    best
        The weights that are the best so far; empty where that is not measured.
    description
        All else, as JSON has it.
    """

    learner: Mapping[str, Tensor]
    best: dict[str, Tensor]
    description: Mapping[str, Any]


def write_state(folder: Path, state: SavedState, identity: StateIdentity) -> None:
    """Write the state of a training."""
    tensors = {f"learner.{name}": tensor for name, tensor in state.learner.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    description = {
        "format": _FORMAT,
        "data": identity.data,
        "encoder": identity.encoder,
        "processes": identity.processes,
        **state.description,
    }
    write_tensors(folder / "state", tensors, description)


def read_state(folder: Path, identity: StateIdentity) -> SavedState:
    """Read what `write_state` wrote.

    Raises
    ------
    InputError
        If it is missing or damaged, or belongs to another training.
    """
    tensors, description = read_tensors(folder / "state")
    encoder = description.get("encoder", identity.encoder)  # which old states lack
    wanted = (_FORMAT, identity.data, identity.encoder)
    if (description.get("format"), description.get("data"), encoder) != wanted:
        raise InputError(
            f"{folder} holds a training of other volumes, labels or settings, or from another encoder; "
            "train anew, or start from its model with --init."
        )
    processes = description.get("processes", 1)
    if processes != identity.processes:
        raise InputError(
            f"{folder} holds a training of {processes} processes, and there are {identity.processes}; go on "
            "with as many."
        )
    return SavedState(with_prefix(tensors, "learner."), with_prefix(tensors, "best."), description)
