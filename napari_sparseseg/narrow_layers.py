"""Convolutions of a few channels that a processor computes as fast as wide ones, with the same results.

Processors multiply blocks of 16 channels; the last layers of a U-Net, at full resolution, have as many
channels as there are classes, and most of each block is idle.  Here several neighbouring voxels are taken for
the channels of one: in channels-last order that is another view of the same memory, and the weights are
laid out to fit.
"""

from itertools import product

import torch
from torch import Tensor, nn

_BLOCK = 16
_MOST_CHANNELS = 5
_TAPS = {0: ((0, 1),), 1: ((0, 2), (1, 0))}  # even and odd results: voxel from here on, place in the kernel


def quicken_layer(layer: nn.Module) -> nn.Module:
    """Return what does the same as `layer` in less time; the layer itself where nothing does."""
    if not isinstance(layer, nn.Conv3d | nn.ConvTranspose3d) or layer.out_channels > _MOST_CHANNELS:
        return layer
    plain = (layer.dilation, layer.groups, layer.padding_mode) == ((1, 1, 1), 1, "zeros")
    if not plain or layer.kernel_size != (3, 3, 3) or layer.padding != (1, 1, 1):
        return layer
    if isinstance(layer, nn.ConvTranspose3d):
        doubles = layer.stride == (2, 2, 2) and layer.output_padding == (1, 1, 1)
        return PhasedTransposedConvolution(layer) if doubles else layer
    is_narrow = layer.stride == (1, 1, 1) and layer.in_channels <= _MOST_CHANNELS
    return FoldedConvolution(layer) if is_narrow else layer


class FoldedConvolution(nn.Module):
    """A 3 × 3 × 3 convolution of few channels that takes neighbours along x for channels.

    Parameters
    ----------
    layer
        The convolution; it serves where the voxels along x cannot be grouped.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Conv3d) -> None:
        super().__init__()
        self.layer = layer
        self.group = 1 << (_BLOCK // max(layer.in_channels, layer.out_channels)).bit_length() - 1
        results, channels = layer.out_channels, layer.in_channels
        weight = layer.weight.new_zeros(self.group, results, self.group, channels, 3, 3, 3)
        for voxel, tap in product(range(self.group), range(3)):
            block, source = divmod(voxel + tap - 1, self.group)
            weight[voxel, :, source, :, :, :, block + 1] = layer.weight[..., tap]
        weight = weight.reshape(self.group * results, self.group * channels, 3, 3, 3)
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last_3d))
        self.register_buffer("bias", None if layer.bias is None else layer.bias.repeat(self.group))

    def forward(self, features: Tensor) -> Tensor:
        """Convolve ``(B, C, Z, Y, X)``."""
        batch, channels, z, y, x = features.shape
        if x % self.group:
            answer: Tensor = self.layer(features)
            return answer
        rows = features.permute(0, 2, 3, 4, 1).reshape(batch, z, y, x // self.group, self.group * channels)
        folded = nn.functional.conv3d(rows.permute(0, 4, 1, 2, 3), self.weight, self.bias, padding=1)
        return folded.permute(0, 2, 3, 4, 1).reshape(batch, z, y, x, -1).permute(0, 4, 1, 2, 3)


class PhasedTransposedConvolution(nn.Module):
    """A transposed 3 × 3 × 3 convolution of stride 2 whose eight interleaved results are channels at first.

    Parameters
    ----------
    layer
        The transposed convolution, which doubles each axis.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.ConvTranspose3d) -> None:
        super().__init__()
        self.results = layer.out_channels
        weight = layer.weight.new_zeros(2, 2, 2, self.results, layer.in_channels, 2, 2, 2)
        for z, y, x in product((0, 1), repeat=3):
            for (to_z, from_z), (to_y, from_y), (to_x, from_x) in product(_TAPS[z], _TAPS[y], _TAPS[x]):
                kernel = layer.weight[:, :, from_z, from_y, from_x]
                weight[z, y, x, :, :, to_z, to_y, to_x] = kernel.T
        weight = weight.reshape(8 * self.results, layer.in_channels, 2, 2, 2)
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last_3d))
        self.register_buffer("bias", None if layer.bias is None else layer.bias.repeat(8))

    def forward(self, features: Tensor) -> Tensor:
        """Convolve ``(B, C, Z, Y, X)`` to twice as many voxels along each axis."""
        phases = nn.functional.conv3d(features, self.weight, self.bias, padding=1)[:, :, 1:, 1:, 1:]
        batch, _, z, y, x = phases.shape
        parted = phases.permute(0, 2, 3, 4, 1).reshape(batch, z, y, x, 2, 2, 2, self.results)
        joined = parted.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(batch, 2 * z, 2 * y, 2 * x, self.results)
        return joined.permute(0, 4, 1, 2, 3)
