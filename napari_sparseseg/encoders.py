"""The down-sampling half of a network: what a classifier, a pre-training and a U-Net share."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from monai.networks.nets import DynUNet, SegResNet, UNet
from torch import Tensor, nn
from torch.nn import functional

from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import NetworkPlan, Triple, to_triple

_POSITION_CHANNELS = 3
_PARTS = 2


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

    def summarise(self, x: Tensor) -> Tensor:
        """Return ``(B, 8 F)`` float32: the coarsest features averaged in each eighth of ``(B, C, Z, Y, X)``.

        The mean over all of a piece would say little: instance norm makes it all but constant.
        """
        features: Tensor = self(x)[-1]
        return functional.adaptive_avg_pool3d(features.float(), _PARTS).flatten(1)

    @property
    def summary_length(self) -> int:
        """How many numbers `summarise` gives for a piece."""
        return int(self.channels[-1]) * _PARTS**3

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
    """What `copy_encoder` did.

    Attributes
    ----------
    used
        Names of the target's tensors that were filled.
    partly
        Those of them whose position channels stay as they were.
    left
        Names of the target's tensors that stay as they were.
    unused
        Names of the source's tensors that the target has none for.
    rescaled
        Levels, from 1, whose features lie at other distances, in voxels, than in the source.
    """

    used: tuple[str, ...]
    partly: tuple[str, ...]
    left: tuple[str, ...]
    unused: tuple[str, ...]
    rescaled: tuple[int, ...]

    @property
    def copied(self) -> int:
        """How many tensors were filled."""
        return len(self.used)

    def sentence(self, name: str) -> str:
        """Return in words what was done with the encoder called `name`: a sentence, or two."""
        words = f"{name} was taken over: {self.copied} of {self.copied + len(self.left)} weights"
        left = self._describe(self.left, [*self.used, *self.left])
        if self.partly:
            left.append("the first convolution's position channels")
        if left:
            words += f"; left as they were: {', '.join(left)}"
        if self.unused:
            words += f"; not used of it: {', '.join(self._describe(self.unused, self.unused))}"
        if self.rescaled:
            levels = " and ".join(map(str, self.rescaled))
            words += (
                f". Its level{'s' * (len(self.rescaled) > 1)} {levels} look at another scale here than where "
                "they learnt and may help less"
            )
        return f"{words}."

    @staticmethod
    def _describe(names: Sequence[str], known: Sequence[str]) -> list[str]:
        """Return for each level in `names` how much of it that is, among all `known` ones."""
        count, total = (Counter(int(name.split(".")[1]) + 1 for name in some) for some in (names, known))
        return [
            f"level {level}" if number == total[level] else f"{number} of {total[level]} in level {level}"
            for level, number in sorted(count.items())
        ]


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
    known, used, partly, left = source.state_dict(), [], [], []
    with torch.no_grad():
        for name, tensor in encoder.state_dict().items():
            part = _shared_part(tensor, known[name]) if name in known else None
            if part is None:
                left.append(name)
                continue
            part.copy_(known[name])
            used.append(name)
            if part.shape != tensor.shape:
                partly.append(name)
    unused = known.keys() - {*used, *left}
    pairs = enumerate(zip(source.strides, encoder.strides, strict=False), start=1)
    rescaled = tuple(level for level, (there, here) in pairs if there != here)
    return EncoderReport(tuple(used), tuple(partly), tuple(left), tuple(sorted(unused)), rescaled)


def _shared_part(target: Tensor, source: Tensor) -> Tensor | None:
    """Return the view of `target` that `source` fills, None where they do not fit."""
    if target.shape == source.shape:
        return target
    wider = list(source.shape)
    if target.ndim == source.ndim == 5:
        wider[1] += _POSITION_CHANNELS
    return target[:, : source.shape[1]] if list(target.shape) == wider else None
