"""The down-sampling half of a network: what a classifier, a pre-training and a U-Net share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from monai.networks.nets import DynUNet, SegResNet, UNet
from torch import Tensor, nn

from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import NetworkPlan, Triple, to_triple

_POSITION_CHANNELS = 3


class Encoder(nn.Module):
    """The levels of a network from the finest to the coarsest, each fed by the one before.

    Parameters
    ----------
    stages
        The module of each level.
    strides
        Voxels between the features of each level, ``(Z, Y, X)``, counted on the input's grid.
    channels
        Features of each level.
    """

    def __init__(
        self, stages: Sequence[nn.Module], strides: Sequence[Triple], channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.strides = tuple(strides)
        self.channels = tuple(channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return each level's features ``(B, F, z, y, x)`` for a ``(B, C, Z, Y, X)`` batch, finest first."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def first_levels(self, levels: int) -> "Encoder":
        """Return an encoder of the finest `levels` levels; it shares their modules."""
        return Encoder(list(self.stages)[:levels], self.strides[:levels], self.channels[:levels])

    def deepest_level(self, stride: int) -> int:
        """Return the deepest level (from 1) whose features lie at most `stride` voxels apart in every axis.

        The first level where all are coarser.
        """
        return max([level for level, s in enumerate(self.strides, 1) if max(s) <= stride], default=1)


@dataclass(frozen=True)
class EncoderReport:
    """What `copy_encoder` did: how many tensors it copied, and the names of the target's that it left."""

    copied: int
    left: tuple[str, ...]


def encoder_of(network: nn.Module, plan: NetworkPlan) -> Encoder:
    """Return the encoder within a network from `networks.NETWORKS`; it shares the network's modules.

    Its features are those that the network itself computes.  MONAI's `UNet` strides in its first
    block already, and its last two levels lie on one grid.

    Raises
    ------
    InputError
        If the network is of another kind.
    """
    if isinstance(network, UNet):
        stages = _unet_stages(network.model)
        strides = _accumulate([*plan.strides[1:], (1, 1, 1)])
        return Encoder(stages, strides, network.channels)
    if isinstance(network, DynUNet):
        stages = [network.input_block, *network.downsamples, network.bottleneck]
        return Encoder(stages, _accumulate(plan.strides), network.filters)
    if isinstance(network, SegResNet):
        first, *others = network.down_layers
        stages = [nn.Sequential(network.convInit, *first), *others]
        levels = range(len(stages))
        strides = [(2**level, 2**level, 2**level) for level in levels]
        return Encoder(stages, strides, [network.init_filters * 2**level for level in levels])
    raise InputError(
        f"a network of the kind {type(network).__name__} has no encoder that this program knows."
    )


def _unet_stages(block: nn.Module) -> list[nn.Module]:
    """Return the down-sampling parts of MONAI's nested ``Sequential(down, SkipConnection(block), up)``."""
    stages = []
    while isinstance(block, nn.Sequential) and len(block) == 3 and hasattr(block[1], "submodule"):
        down, connection, _ = block
        stages.append(down)
        block = cast(nn.Module, connection.submodule)
    return [*stages, block]


def _accumulate(strides: Sequence[Triple]) -> list[Triple]:
    return [
        to_triple(math.prod(level[axis] for level in strides[: number + 1]) for axis in range(3))
        for number in range(len(strides))
    ]


def copy_encoder(source: Encoder, target: nn.Module, plan: NetworkPlan) -> EncoderReport:
    """Copy the weights of an encoder into that of a network, level by level, as far as they fit.

    A first convolution that also takes the three position channels gets the weights of the image's
    channels; those of the position stay as they are.

    Parameters
    ----------
    source
        What to copy; levels that the target has not are left out.
    target
        An `Encoder`, or a network from `networks.NETWORKS`.
    plan
        The target's.
    """
    encoder = target if isinstance(target, Encoder) else encoder_of(target, plan)
    known, copied, left = source.state_dict(), 0, []
    with torch.no_grad():
        for name, tensor in encoder.state_dict().items():
            part = _shared_part(tensor, known[name]) if name in known else None
            if part is None:
                left.append(name)
                continue
            part.copy_(known[name])
            copied += 1
    return EncoderReport(copied, tuple(left))


def _shared_part(target: Tensor, source: Tensor) -> Tensor | None:
    """Return the view of `target` that `source` fills, None where they do not fit."""
    if target.shape == source.shape:
        return target
    wider = list(source.shape)
    if target.ndim == source.ndim == 5:
        wider[1] += _POSITION_CHANNELS
    return target[:, : source.shape[1]] if list(target.shape) == wider else None
