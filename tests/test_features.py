import numpy as np
import pytest
from scipy import ndimage

from napari_sparseseg import features as features_module
from napari_sparseseg.features import FeatureVolume, compute_features

CUBIC = (1.0, 1.0, 1.0)


def smooth_image(shape=(10, 11, 12), seed=0):
    noise = np.random.default_rng(seed).normal(size=shape)
    return (ndimage.gaussian_filter(noise, 1.0) * 5).astype(np.float32)[None]


def test_hessian_eigenvalues_equal_numpy_s():
    image, spacing = smooth_image(), (2.0, 1.0, 1.5)
    features = compute_features(image, spacing)
    for row, scale in enumerate((0.7, 1.6, 3.5)):
        smooth = ndimage.gaussian_filter(
            image[0], [scale / s for s in spacing], mode="nearest", truncate=3.0
        ).astype(np.float64)
        gradient = np.gradient(smooth, *spacing)
        hessian = np.zeros((*smooth.shape, 3, 3))
        for a in range(3):
            for b in range(a, 3):
                hessian[..., a, b] = hessian[..., b, a] = np.gradient(gradient[a], spacing[b], axis=b)
        eigenvalues = np.linalg.eigvalsh(hessian)[..., ::-1] * scale**2
        first = 1 + 5 * row
        assert np.allclose(features[..., first], smooth, atol=1e-5)
        magnitude = np.sqrt(sum(g**2 for g in gradient)) * scale
        assert np.allclose(features[..., first + 1], magnitude, atol=1e-4)
        assert np.allclose(features[..., first + 2 : first + 5], eigenvalues, atol=2e-3)


@pytest.mark.parametrize("factor", [0.5, 2.0, 10.0])
def test_the_unit_of_length_does_not_matter(factor):
    image, spacing = smooth_image(), (3.0, 1.0, 1.0)
    scaled = compute_features(image, tuple(factor * s for s in spacing))
    assert np.allclose(scaled, compute_features(image, spacing), atol=1e-4)


def test_scales_are_in_millimetres_along_every_axis():
    fine = smooth_image((36, 24, 24))
    fine = ndimage.gaussian_filter(fine, (0, 2, 2, 2)) * 4
    coarse = np.ascontiguousarray(fine[:, ::2])
    of_fine = compute_features(fine, CUBIC)[::2]
    of_coarse = compute_features(coarse, (2.0, 1.0, 1.0))
    inner = (slice(5, -5), slice(5, -5), slice(5, -5))
    for feature in (11, 12, 16):  # coarse scale: value, gradient; context
        a, b = of_fine[inner][..., feature].reshape(-1), of_coarse[inner][..., feature].reshape(-1)
        assert np.corrcoef(a, b)[0, 1] > 0.98
        assert b.std() == pytest.approx(a.std(), rel=0.2)


def test_features_of_flat_and_thin_images_are_finite():
    for shape in ((1, 1, 8, 8), (2, 3, 1, 5), (1, 2, 2, 2)):
        for image in (np.zeros(shape, np.float32), np.ones(shape, np.float32) * 3):
            features = compute_features(image, (5.0, 1.0, 1.0))
            assert features.shape[:3] == shape[1:]
            assert np.isfinite(features).all()


@pytest.mark.parametrize("spacing", [CUBIC, (4.0, 1.0, 1.0)])
def test_features_slab_by_slab_equal_those_of_the_whole(monkeypatch, spacing):
    image = smooth_image((60, 6, 7))
    whole = FeatureVolume(image, spacing)
    assert len(whole.slabs()) == 1
    monkeypatch.setattr(features_module, "_SLAB_VOXELS", 11 * 6 * 7)
    parts = FeatureVolume(image, spacing)
    assert len(parts.slabs()) == 6
    together = np.concatenate([parts.compute(slab) for slab in parts.slabs()])
    assert np.allclose(together, whole.compute(whole.slabs()[0]), atol=1e-5)
    voxels = np.array([2519, 3, 1400, 3])
    assert np.allclose(parts.at(voxels), together[voxels], atol=1e-6)


def test_the_last_columns_are_the_position():
    features = FeatureVolume(smooth_image((3, 4, 5)), CUBIC)
    rows = features.at(np.array([0, 59, 5]))
    assert rows[:, -3:] == pytest.approx(np.array([[0, 0, 0], [1, 1, 1], [0, 1 / 3, 0]]))
