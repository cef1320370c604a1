import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from napari_sparseseg.narrow_layers import (
    FoldedConvolution,
    PhasedTransposedConvolution,
    quicken_layer,
)


def apply_both(layer, features):
    layer.requires_grad_(requires_grad=False)
    last = features.contiguous(memory_format=torch.channels_last_3d)
    return quicken_layer(layer)(last), layer(features)


@given(
    channels=st.integers(1, 5),
    results=st.integers(1, 5),
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    bias=st.booleans(),
    batch=st.integers(1, 2),
)
def test_a_narrow_convolution_gives_the_same(channels, results, shape, bias, batch):
    layer = nn.Conv3d(channels, results, 3, padding=1, bias=bias)
    assert isinstance(quicken_layer(layer), FoldedConvolution)
    for width in (shape[2], 16):  # 16 can be grouped whatever the channels
        found, expected = apply_both(layer, torch.randn(batch, channels, *shape[:2], width))
        assert torch.allclose(found, expected, atol=1e-5)


@given(
    channels=st.integers(1, 20),
    results=st.integers(1, 5),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    bias=st.booleans(),
)
def test_a_transposed_convolution_to_few_channels_gives_the_same(channels, results, shape, bias):
    layer = nn.ConvTranspose3d(channels, results, 3, stride=2, padding=1, output_padding=1, bias=bias)
    assert isinstance(quicken_layer(layer), PhasedTransposedConvolution)
    found, expected = apply_both(layer, torch.randn(1, channels, *shape))
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(3, 16, 3, padding=1),
        nn.Conv3d(16, 3, 3, padding=1),
        nn.Conv3d(3, 3, 1),
        nn.Conv3d(3, 3, 3),
        nn.Conv3d(3, 3, 3, padding=1, stride=2),
        nn.Conv3d(3, 3, 3, padding=1, padding_mode="replicate"),
        nn.Conv3d(4, 4, 3, padding=1, groups=2),
        nn.Conv3d(3, 3, 3, padding=1, dilation=2),
        nn.Conv3d(3, 3, 3, padding="same"),
        nn.ConvTranspose3d(8, 3, 2, stride=2),
        nn.ConvTranspose3d(8, 3, 3, stride=(1, 2, 2), padding=1, output_padding=(0, 1, 1)),
        nn.ConvTranspose3d(8, 16, 3, stride=2, padding=1, output_padding=1),
        nn.InstanceNorm3d(3),
    ],
    ids=str,
)
def test_other_layers_stay_as_they_are(layer):
    assert quicken_layer(layer) is layer
