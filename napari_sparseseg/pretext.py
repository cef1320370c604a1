"""What a pretext task is: a problem made of unlabelled volumes whose answer is known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sparseseg.encoders import Encoder, encoder_of
from napari_sparseseg.networks import NetworkPlan, Triple, build_network
from napari_sparseseg.pretraining_settings import PretextConfig
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.volume_pool import VolumePool

Batch = Mapping[str, Tensor]
"""What a task draws for one step: tensors by name."""


@dataclass(frozen=True)
class TaskContext:
    """What a task is built from.

    Attributes
    ----------
    config
        What the task is like.
    network, plan
        The network whose encoder is to learn.
    channels
        Of the volumes.
    spacing
        Voxel size in mm ``(Z, Y, X)`` of all volumes in the pools.
    crop
        Size in voxels ``(Z, Y, X)`` of a piece; the network's down-sampling divides it.
    extent
        The largest box that can be cut from every volume, at least as large as `crop`; smaller volumes are
        continued by their border's voxels.
    shape
        Typical size in voxels ``(Z, Y, X)`` of the volumes as they are.
    batch_size
        Pieces in a step.
    volumes
        Number of volumes that are learnt from.
    labelled
        Number of labels that these have, besides background; 0 where nothing is labelled.
    is_ct
        Whether the intensities are Hounsfield units.
    """

    config: PretextConfig
    network: NetworkConfig
    plan: NetworkPlan
    channels: int
    spacing: tuple[float, float, float]
    crop: Triple
    extent: Triple
    shape: Triple
    batch_size: int
    volumes: int
    labelled: int
    is_ct: bool

    def build_network(self, outputs: int) -> nn.Module:
        """Return a U-Net with random weights, ``(B, C, Z, Y, X)`` to ``(B, outputs, Z, Y, X)``."""
        return build_network(self.network, self.plan, self.channels, outputs)

    def build_encoder(self) -> Encoder:
        """Return the encoder of such a U-Net, with random weights."""
        return encoder_of(self.build_network(2), self.plan)


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a task was solved for a batch.

    Attributes
    ----------
    loss
        What learning makes small; a number with a gradient.
    figure
        The task's own accuracy or error; a number.
    trivial
        What it is without having learnt anything: by chance, or for the trivial answer.
    """

    loss: Tensor
    figure: Tensor
    trivial: Tensor


@dataclass(frozen=True, eq=False)
class Picture:
    """What a task sees, for the eye.

    Attributes
    ----------
    name
        "input", "target", "prediction", or a word or two of the task's own.
    image
        ``(Z, Y, X)`` float32; all pictures of a task have one shape.
    """

    name: str
    image: NDArray[np.float32]


class PretextTask(nn.Module):
    """A task and the network that learns to solve it.

    All that lasts from step to step is a parameter or a buffer (of any number of axes but four or five,
    where these are not of a convolution), so that a state can be kept and gone on with.  Nothing is
    drawn at random but in `draw` and `regroup`, from the generator given there.

    Parameters
    ----------
    context
        What the task is built from.
    network
        A U-Net whose encoder is to learn, or an encoder alone.

    Raises
    ------
    InputError
        If the task does not fit the volumes; says why.
    """

    figure: ClassVar[str] = "accuracy"  # or "error"
    rate: ClassVar[float] = 1.0  # factor of the learning rate that is asked for

    def __init__(self, context: TaskContext, network: nn.Module) -> None:
        super().__init__()
        self.context = context
        self.network = network

    @property
    def encoder(self) -> Encoder:
        """The encoder that learns; it shares the network's modules."""
        if isinstance(self.network, Encoder):
            return self.network
        return encoder_of(self.network, self.context.plan)

    def embed(self, pieces: Tensor) -> Tensor:
        """Return ``(B, 8 F)`` float32: what the encoder says of ``(B, C, Z, Y, X)``, part by part."""
        return self.encoder.summarise(pieces)

    @property
    def smallest(self) -> Triple:
        """Size in voxels of the smallest piece that the network is given."""
        return self.context.crop

    def draw(self, pool: VolumePool, random: np.random.Generator) -> Batch:
        """Draw what one step learns from, on the CPU; the first axis of each tensor goes over the pieces."""
        raise NotImplementedError

    def learn(self, batch: Batch) -> Outcome:
        """Solve the task for a batch on the network's device."""
        raise NotImplementedError

    def advance(self) -> None:
        """Do what follows a step: let a slow network follow, for instance."""

    def regroup(self, pool: VolumePool, random: np.random.Generator) -> Sequence[str]:
        """Do what is due whenever the pool's volumes have changed, and at the beginning.

        The pool stays as it is until the next call.  Returns what the user should know, in sentences.
        """
        return ()

    def picture(self, batch: Batch) -> Sequence[Picture]:
        """Return what the task sees of the first piece of a batch: at least its input."""
        raise NotImplementedError


TaskBuilder = Callable[[TaskContext], PretextTask]
"""Makes a task; usually its class, which takes nothing but the context."""
