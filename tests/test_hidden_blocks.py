import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_sparseseg.hidden_blocks import (
    block_moments,
    block_size,
    draw_grid_blocks,
    grid_block_size,
    scatter_blocks,
    spread_blocks,
)

lengths = st.tuples(*[st.integers(1, 20)] * 3)
spacings = st.tuples(*[st.floats(0.3, 10)] * 3)
shares = st.floats(0.05, 0.95)


def test_a_block_is_about_as_long_in_mm_along_each_axis():
    assert block_size(8, (1, 1, 1), (32, 32, 32)) == (8, 8, 8)
    assert block_size(8, (4, 1, 1), (32, 32, 32)) == (2, 8, 8)
    assert block_size(8, (0.5, 2, 1), (32, 32, 32)) == (8, 2, 4)


@given(st.integers(1, 128), spacings, lengths)
def test_a_block_leaves_room_for_another(side, spacing, piece):
    block, even = block_size(side, spacing, piece), grid_block_size(side, spacing, piece)
    for length, one, other in zip(piece, block, even, strict=True):
        assert 1 <= one <= max(1, length // 2)
        assert 1 <= other <= max(1, length // 2)
        assert length % other == 0


@given(st.integers(0, 99), lengths, st.integers(1, 10), shares)
def test_scattered_blocks_hide_about_the_share_wanted(seed, piece, side, share):
    block = block_size(side, (1, 1, 1), piece)
    hidden = scatter_blocks(np.random.default_rng(seed), 2, piece, block, share)
    assert hidden.shape == (2, 1, *piece)
    for one in hidden[:, 0].numpy():
        assert one.any()
        assert one.size == 1 or not one.all()
        assert one.sum() <= max(share * one.size, np.prod(block))


def test_the_share_is_met_but_for_a_block():
    hidden = scatter_blocks(np.random.default_rng(0), 8, (24, 24, 24), (6, 4, 6), 0.5)
    parts = hidden.float().mean((1, 2, 3, 4))
    assert ((parts <= 0.5) & (parts > 0.5 - 6 * 4 * 6 / 24**3)).all()


def test_scattered_blocks_are_whole():
    block = (3, 4, 5)
    hidden = scatter_blocks(np.random.default_rng(0), 4, (20, 20, 20), block, 0.4)[:, 0].numpy()
    for one in hidden:
        beyond = np.pad(one, 5, constant_values=True)  # a block may reach beyond the piece
        opened = ndimage.binary_opening(beyond, np.ones(block))[5:-5, 5:-5, 5:-5]
        assert (opened == one).all()


@given(st.integers(0, 99), st.tuples(*[st.integers(1, 4)] * 3), st.tuples(*[st.integers(1, 5)] * 3), shares)
def test_even_blocks_are_hidden_or_shown_as_a_whole(seed, block, grid, share):
    piece = tuple(b * n for b, n in zip(block, grid, strict=True))
    blocks = int(np.prod(grid))
    if blocks == 1:
        return
    hidden = draw_grid_blocks(np.random.default_rng(seed), 3, piece, block, share)
    assert hidden.shape == (3, 1, *piece)
    mean, variance = block_moments(hidden.float(), block)
    assert (variance == 0).all()
    number = min(max(1, round(share * blocks)), blocks - 1)
    assert (mean.sum((1, 2, 3, 4)) == number).all()


def test_every_block_is_hidden_at_times():
    random = np.random.default_rng(0)
    hidden = draw_grid_blocks(random, 200, (8, 8, 8), (4, 4, 4), 0.5).float().mean(0)
    scattered = scatter_blocks(random, 200, (8, 8, 8), (3, 3, 3), 0.5).float().mean(0)
    assert 0.3 < hidden.min() < hidden.max() < 0.7
    assert 0.2 < scattered.min() < scattered.max() < 0.8


def test_moments_are_those_of_each_block():
    pieces = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 4, 6, 6)))
    mean, variance = block_moments(pieces, (2, 3, 2))
    assert mean.shape == (2, 3, 2, 2, 3)
    for z, y, x in itertools.product(range(2), range(2), range(3)):
        block = pieces[:, :, 2 * z : 2 * z + 2, 3 * y : 3 * y + 3, 2 * x : 2 * x + 2].numpy()
        np.testing.assert_allclose(mean[:, :, z, y, x], block.mean((2, 3, 4)))
        np.testing.assert_allclose(variance[:, :, z, y, x], block.var((2, 3, 4)))
    torch.testing.assert_close(block_moments(spread_blocks(mean, (2, 3, 2)), (2, 3, 2))[0], mean)
