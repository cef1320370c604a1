import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_sparseseg.trivial_answers import (
    ColourTable,
    blur,
    enlarge,
    enlarge_true,
    fill_smoothly,
    shrink,
    visible_means,
)

SHAPE = (9, 12, 10)


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


def ramp(*shape):
    z, y, x = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in shape], indexing="ij")
    return (z + 2 * y - x)[None, None]


def test_blurring_is_that_of_scipy_within():
    pieces, widths = noise(2, 1, *SHAPE), (0.5, 1.0, 0.0)
    expected = ndimage.gaussian_filter(pieces.numpy(), (0, 0, *widths), truncate=4, mode="constant")
    weights = ndimage.gaussian_filter(np.ones(SHAPE), widths, truncate=4, mode="constant")
    np.testing.assert_allclose(blur(pieces, widths), expected / weights, atol=1e-4)


@given(st.lists(st.floats(0, 8), min_size=3, max_size=3), st.floats(-5, 5))
def test_blurring_keeps_what_is_even(widths, value):
    torch.testing.assert_close(
        blur(torch.full((1, 2, *SHAPE), value), widths), torch.full((1, 2, *SHAPE), value)
    )


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_filling_keeps_what_is_visible_and_within_its_range(share):
    pieces = noise(2, 3, *SHAPE)
    hidden = torch.from_numpy(np.random.default_rng(1).random((2, 1, *SHAPE)) < share)
    filled = fill_smoothly(pieces, hidden, (4, 4, 4))
    shown = ~hidden.expand_as(pieces)
    assert torch.equal(filled[shown], pieces[shown])
    for piece in range(2):
        for channel in range(3):
            visible = pieces[piece, channel][shown[piece, channel]]
            assert filled[piece, channel].min() >= visible.min() - 1e-3
            assert filled[piece, channel].max() <= visible.max() + 1e-3
    secret = torch.where(hidden, torch.full_like(pieces, 99), pieces)
    assert torch.equal(fill_smoothly(secret, hidden, (4, 4, 4)), filled)


def test_filling_is_better_than_the_mean_where_intensities_change_slowly():
    pieces = ramp(*SHAPE)
    hidden = torch.zeros(1, 1, *SHAPE, dtype=torch.bool)
    hidden[:, :, 2:6, 3:7, 4:8] = True
    filled = fill_smoothly(pieces, hidden, (4, 4, 4))
    wrong = (filled - pieces)[hidden].square().mean()
    assert wrong < 0.1 * (visible_means(pieces, hidden) - pieces)[hidden].square().mean()


def test_visible_means_are_of_each_channel():
    pieces = noise(2, 3, *SHAPE)
    hidden = noise(2, 1, *SHAPE, seed=1) > 0
    means = visible_means(pieces, hidden)
    assert means.shape == (2, 3, 1, 1, 1)
    assert float(means[1, 2]) == pytest.approx(float(pieces[1, 2][~hidden[1, 0]].mean()), abs=1e-6)


@given(st.tuples(*[st.integers(1, 9)] * 3), st.tuples(*[st.integers(1, 4)] * 3))
def test_a_piece_of_any_size_can_be_shrunk_and_enlarged(shape, factors):
    pieces = noise(1, 2, *shape)
    coarse = shrink(pieces, factors)
    assert tuple(coarse.shape[2:]) == tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))
    fine = enlarge(coarse, factors, shape)
    assert fine.shape == pieces.shape
    assert fine.max() <= pieces.max() + 1e-5
    assert fine.min() >= pieces.min() - 1e-5


def test_enlarging_lies_where_the_piece_lay():
    pieces, factors = ramp(8, 12, 9), (2, 4, 3)
    fine = enlarge(shrink(pieces, factors), factors, (8, 12, 9))
    inside = (..., slice(1, -1), slice(2, -2), slice(1, -1))
    torch.testing.assert_close(fine[inside], pieces[inside])


def test_blocks_have_their_true_means_again():
    pieces, factors = noise(2, 1, 8, 12, 8), (2, 4, 2)
    coarse = shrink(pieces, factors)
    fine = enlarge(coarse, factors, (8, 12, 8))
    true = enlarge_true(fine, coarse, factors)
    assert (shrink(fine, factors) - coarse).abs().max() > 0.1
    torch.testing.assert_close(shrink(true, factors), coarse)
    assert (true - pieces).square().mean() < (fine - pieces).square().mean()


def small_batch():
    grey = torch.tensor([-1.0, -1.0, 1.0, 1.0]).view(1, 1, 1, 2, 2)
    colours = torch.tensor([[1.0, 3.0, 5.0, 5.0], [0.0, 8.0, 1.0, 2.0]]).view(1, 2, 1, 2, 2)
    weights = torch.tensor([[1.0, 1.0, 1.0, 1.0], [3.0, 1.0, 1.0, 1.0]]).view(1, 2, 1, 2, 2)
    return grey, colours, weights


def test_a_table_gives_the_weighted_mean_colour_of_a_grey():
    grey, colours, weights = small_batch()
    answer = ColourTable(2, 1.0).learn(grey, colours, weights)(grey)
    assert answer.shape == colours.shape
    assert answer[0, 0].flatten().tolist() == pytest.approx([2, 2, 5, 5])
    assert answer[0, 1].flatten().tolist() == pytest.approx([2, 2, 1.5, 1.5])


def test_a_table_answers_for_each_piece_and_keeps_to_its_limit():
    grey, colours, weights = small_batch()
    table = ColourTable(2, 1.0).learn(grey, colours, weights)
    answer = table(torch.cat([grey.flip(4, 3), 9 * grey, 0 * grey]))
    assert answer[:, 0].flatten(1).tolist() == pytest.approx(np.array([[5, 5, 2, 2], [2, 2, 5, 5], [0] * 4]))


def test_a_table_forgets():
    grey, colours, weights = small_batch()
    table = ColourTable(2, 1.0).learn(grey, colours, weights).learn(grey, 3 * colours, weights, memory=0.5)
    assert table(grey)[0, 0].flatten().tolist() == pytest.approx([v * 3.5 / 1.5 for v in (2, 2, 5, 5)])
