import numpy as np
import pytest
from test_dense_crf import SPACING, dice, make_problem

from napari_sparseseg import dense_crf
from napari_sparseseg.dense_crf import refine_probabilities, refine_steps
from napari_sparseseg.settings import CrfConfig


@pytest.mark.parametrize("absent", [[1], [3], [0, 3], [1, 2]])
def test_classes_that_are_nowhere_stay_so_and_change_nothing(absent, monkeypatch):
    image, probabilities = make_problem(classes=4, seed=6)
    probabilities[absent] = 0
    present = [channel for channel in range(4) if channel not in absent]
    expected = refine_probabilities(image, probabilities[present], SPACING)
    asked = []
    message = dense_crf._message
    monkeypatch.setattr(dense_crf, "_message", lambda *words: asked.append(1) or message(*words))
    found = refine_probabilities(image, probabilities, SPACING, CrfConfig())
    assert not found[absent].any()
    assert np.abs(found[present] - expected).max() < 1e-5
    assert len(asked) <= 1 + CrfConfig().crf_iterations * len(present)


def test_it_can_be_stopped_after_each_update():
    image, probabilities = make_problem()
    work = refine_steps(image, probabilities, SPACING, CrfConfig(crf_iterations=4))
    assert [next(work) for _ in range(4)] == [0.25, 0.5, 0.75, 1]
    with pytest.raises(StopIteration) as end:
        next(work)
    expected = refine_probabilities(image, probabilities, SPACING, CrfConfig(crf_iterations=4))
    assert np.array_equal(end.value.value, expected)
    work = refine_steps(image, probabilities, SPACING)
    next(work)
    work.close()


@pytest.mark.parametrize("channels", [1, 2])
def test_a_large_crop_is_refined_on_a_coarser_grid(channels, monkeypatch):
    shape = (20, 32, 36)
    truth = sum((g - n / 2 + 0.5) ** 2 for g, n in zip(np.indices(shape), shape, strict=True)) < 8**2
    random = np.random.default_rng(0)
    image = (truth + random.normal(0, 0.3, (channels, *shape))).astype(np.float32)
    guess = 0.4 + 0.2 * np.roll(truth, 2, 2).astype(np.float32)
    probabilities = np.stack([1 - guess, np.zeros(shape), guess]).astype(np.float32)
    probabilities[2, :, :, :4] = 0
    config = CrfConfig(appearance_mm=6)
    fine = refine_probabilities(image, probabilities, (1, 1, 1), config)
    sizes = []
    make_kernels = dense_crf._make_kernels

    def watched(image, spacing, config):
        sizes.append((image.shape[1:], spacing))
        return make_kernels(image, spacing, config)

    monkeypatch.setattr(dense_crf, "_make_kernels", watched)
    monkeypatch.setattr(dense_crf, "_LARGEST", 6000)
    coarse = refine_probabilities(image, probabilities, (1, 1, 1), config)
    [(small, spacing)] = sizes
    assert np.prod(small) <= 6000
    np.testing.assert_allclose(np.multiply(small, spacing), shape)
    assert coarse.shape == probabilities.shape
    assert coarse.dtype == np.float32
    assert np.abs(coarse.sum(0) - 1).max() < 1e-5
    assert not coarse[1].any()
    assert not coarse[2, :, :, :4].any()
    before, after = dice(probabilities[2] > 0.5, truth), dice(coarse[2] > 0.5, truth)
    assert after > before + 0.05
    assert after > dice(fine[2] > 0.5, truth) - 0.08
    nothing = CrfConfig(appearance_weight=0, smoothness_weight=0)
    alone = refine_probabilities(image, probabilities, (1, 1, 1), nothing)
    assert np.abs(alone - probabilities / probabilities.sum(0)).max() < 1e-6
