import subprocess
import sys
import tracemalloc
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg import dense_crf
from napari_sparseseg.dense_crf import refine_probabilities
from napari_sparseseg.errors import InputError
from napari_sparseseg.sample_data import load_sample
from napari_sparseseg.settings import CrfConfig

SPACING = (3.0, 1.0, 1.5)


def make_problem(shape=(6, 7, 8), classes=2, seed=0, channels=1):
    """Return a noisy image with an edge, and random probabilities that lean to its sides."""
    random = np.random.default_rng(seed)
    side = np.indices(shape)[2] >= shape[2] // 2
    image = random.normal(0, 0.7, (channels, *shape)) + 2 * side
    probabilities = np.moveaxis(random.dirichlet(np.ones(classes), shape), -1, 0)
    probabilities[0] += 0.3 * side
    return image.astype(np.float32), (probabilities / probabilities.sum(0)).astype(np.float32)


def solve_densely(intensities, probabilities, spacing, config):
    """Return the marginals by sums over all pairs of voxels."""
    lattice = [np.arange(n) * size for n, size in zip(probabilities.shape[1:], spacing, strict=True)]
    places = np.stack(np.meshgrid(*lattice, indexing="ij"), -1).reshape(-1, 3)
    distance = ((places[:, None] - places) ** 2).sum(-1)
    grey = np.asarray(intensities, float).reshape(-1)
    contrast = (grey[:, None] - grey) ** 2 / (config.appearance_intensity * (grey.std() or 1)) ** 2
    kernels = (
        (config.appearance_weight, np.exp(-distance / config.appearance_mm**2 / 2 - contrast / 2)),
        (config.smoothness_weight, np.exp(-distance / config.smoothness_mm**2 / 2)),
    )
    pairwise = 0
    for weight, kernel in kernels:
        root = kernel.sum(1) ** -0.5
        normalised = root[:, None] * kernel * root
        np.fill_diagonal(normalised, 0)
        pairwise = pairwise + weight * normalised
    unary = probabilities.reshape(len(probabilities), -1).astype(float)
    marginals = unary
    for _ in range(config.crf_iterations):
        marginals = unary * np.exp(marginals @ pairwise)
        marginals /= marginals.sum(0)
    return marginals.reshape(probabilities.shape)


def assert_alike(found, expected, tolerance=0.01):
    # the grid's own error, measured: marginals within 0.004 at cells of half a standard deviation
    assert np.abs(found - expected).max() < tolerance
    assert (found.argmax(0) == expected.argmax(0)).mean() >= 0.97


def dice(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING, (8.0, 0.5, 0.7)])
def test_it_is_the_mean_field_over_all_pairs(spacing, classes, seed):
    image, probabilities = make_problem(classes=classes, seed=seed)
    expected = solve_densely(image, probabilities, spacing, CrfConfig())
    assert_alike(refine_probabilities(image, probabilities, spacing), expected)


@pytest.mark.parametrize(
    "config",
    [
        CrfConfig(crf_iterations=1),
        CrfConfig(appearance_weight=8, crf_iterations=12),
        CrfConfig(smoothness_weight=0),
        CrfConfig(appearance_weight=0),
        CrfConfig(appearance_mm=1, smoothness_mm=0.5),
        CrfConfig(appearance_mm=0.01, smoothness_mm=0.01),
        CrfConfig(appearance_mm=1000, smoothness_mm=1000),
        CrfConfig(appearance_intensity=0.02),
        CrfConfig(appearance_intensity=100),
    ],
)
def test_every_setting_means_what_the_model_says(config):
    image, probabilities = make_problem(classes=3, seed=5)
    expected = solve_densely(image, probabilities, SPACING, config)
    assert_alike(refine_probabilities(image, probabilities, SPACING, config), expected, 0.05)


@pytest.mark.parametrize("shape", [(1, 9, 8), (7, 1, 9), (9, 7, 1), (1, 1, 12), (1, 1, 1)])
def test_volumes_one_voxel_thick(shape):
    image, probabilities = make_problem(shape, seed=2)
    expected = solve_densely(image, probabilities, SPACING, CrfConfig())
    assert_alike(refine_probabilities(image, probabilities, SPACING), expected)


@pytest.mark.parametrize("value", [0.0, 0.1, -1000.0])
def test_a_constant_image_leaves_position_alone(value):
    _, probabilities = make_problem(seed=3)
    image = np.full((1, *probabilities.shape[1:]), value, np.float32)
    expected = solve_densely(np.zeros(image.shape), probabilities, SPACING, CrfConfig())
    assert_alike(refine_probabilities(image, probabilities, SPACING), expected, 0.001)


def test_extreme_voxels_do_not_spread_the_grid_thin():
    image, probabilities = make_problem((9, 10, 10), seed=4)
    image[0, 0, 0, 0], image[0, 8, 9, 9] = 3000, -500
    config = CrfConfig(appearance_intensity=0.01)
    expected = solve_densely(image, probabilities, SPACING, config)
    assert_alike(refine_probabilities(image, probabilities, SPACING, config), expected)


def test_a_lone_voxel_hears_nothing_from_a_plane_far_away():
    image = np.random.default_rng(0).normal(0, 0.01, (1, 8, 40, 40))
    image[0, :, :, 30:] = 5
    image[0, 4, 20, 5] = 5
    probabilities = np.stack([image[0] > 1, image[0] <= 1]) * 0.4 + 0.3
    probabilities[:, 4, 20, 5] = 0.4, 0.6
    found = refine_probabilities(
        image, probabilities, (1, 1, 1), CrfConfig(smoothness_weight=0, appearance_mm=3)
    )
    assert abs(found[0, 4, 20, 5] - 0.4) < 0.005


def test_more_cells_than_allowed_widen_the_kernel():
    image, probabilities = make_problem((12, 12, 12), seed=4)
    found = refine_probabilities(image, probabilities, SPACING, CrfConfig(appearance_intensity=0.001))
    cell = float(np.ptp(image) / image.std()) / (dense_crf.MOST_CELLS - 1)
    # interpolation alone, without any blur, has a variance of a third of the cell's square
    widened = CrfConfig(appearance_intensity=cell / 3**0.5)
    assert np.abs(found - solve_densely(image, probabilities, SPACING, widened)).mean() < 0.04


def measure_kernel(cell, spread=4.0):
    """Return what the grid and the Gaussian say of pairs of intensities at one place."""
    random = np.random.default_rng(0)
    grey = random.uniform(-spread, spread, (1, 1, 600))
    tables = [np.ones((n, n)) for n in grey.shape]  # a reach without end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense_crf, "INTENSITY_CELL", cell)
        grid = dense_crf._make_grid(grey, tables)
    pairs = np.stack([grid.apply(row.reshape(grey.shape)) for row in np.eye(600, dtype=np.float32)])
    return grey.reshape(-1), pairs.reshape(600, 600), grid.diagonal.reshape(-1)


@pytest.mark.parametrize(("cell", "tolerance"), [(1.0, 0.25), (0.5, 0.05), (0.25, 0.012)])
def test_the_grid_is_a_gaussian_of_deviation_one(cell, tolerance):
    grey, pairs, diagonal = measure_kernel(cell)
    difference = grey[:, None] - grey
    assert np.abs(pairs - np.exp(-0.5 * difference**2)).max() < tolerance  # falls with the cell's square
    assert np.abs(pairs - pairs.T).max() < 1e-5
    assert np.abs(np.diag(pairs) - diagonal).max() < 1e-5
    middle = np.abs(grey) < 0.5
    slope = np.polyfit(difference[middle].reshape(-1) ** 2, np.log(pairs[middle].reshape(-1)), 1)[0]
    assert abs((-0.5 / slope) ** 0.5 - 1) < 0.04 * cell


def test_the_position_axes_are_gaussians():
    for reach in (0.3, 1.0, 2.5, 6.0, 40.0):
        (table,) = dense_crf._gaussian_tables((90,), (1.0,), reach)
        factor = dense_crf._factor(table)
        assert np.abs(factor @ factor.T - table).max() < 0.0003
    assert factor.shape[1] < 8


problems = st.builds(
    make_problem,
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    classes=st.integers(1, 4),
    seed=st.integers(0, 2**16),
    channels=st.integers(1, 2),
)
spacings = st.tuples(*[st.floats(0.3, 8)] * 3)


@given(problems, spacings)
def test_marginals_sum_to_one_and_inputs_stay(problem, spacing):
    image, probabilities = problem
    before = image.copy(), probabilities.copy()
    found = refine_probabilities(image, probabilities, spacing)
    assert found.dtype == np.float32
    assert found.shape == probabilities.shape
    assert found.min() >= 0
    assert np.abs(found.sum(0) - 1).max() < 1e-5
    assert np.array_equal(image, before[0])
    assert np.array_equal(probabilities, before[1])


@given(problems, spacings, st.floats(1e-3, 1e4), st.floats(-1e4, 1e4))
def test_shift_and_scale_of_the_image_do_not_matter(problem, spacing, scale, shift):
    image, probabilities = problem
    changed = image.astype(float) * scale + shift
    found = refine_probabilities(changed, probabilities, spacing)
    assert np.abs(found - refine_probabilities(image, probabilities, spacing)).max() < 1e-3


@given(problems, spacings)
def test_the_negative_of_an_image_has_the_same_edges(problem, spacing):
    image, probabilities = problem
    found = refine_probabilities(-image, probabilities, spacing)
    assert np.abs(found - refine_probabilities(image, probabilities, spacing)).max() < 1e-3


@given(problems, spacings, st.floats(0.1, 10))
def test_only_the_ratio_of_spacing_and_reach_matters(problem, spacing, factor):
    image, probabilities = problem
    config = CrfConfig(appearance_mm=6 * factor, smoothness_mm=2 * factor)
    scaled = tuple(size * factor for size in spacing)
    found = refine_probabilities(image, probabilities, scaled, config)
    assert np.abs(found - refine_probabilities(image, probabilities, spacing)).max() < 1e-3


@given(problems, spacings, st.permutations(range(3)), st.sets(st.integers(1, 3)))
def test_no_axis_and_no_direction_is_special(problem, spacing, order, mirrored):
    image, probabilities = problem
    axes = (0, *(axis + 1 for axis in order))
    turned = [np.flip(values, tuple(mirrored)).transpose(axes) for values in problem]
    found = refine_probabilities(*turned, tuple(spacing[axis] for axis in order))
    expected = np.flip(refine_probabilities(image, probabilities, spacing), tuple(mirrored)).transpose(axes)
    assert np.abs(found - expected).max() < 1e-3


def test_the_order_of_the_classes_does_not_matter():
    image, probabilities = make_problem(classes=3)
    expected = refine_probabilities(image, probabilities, SPACING)
    for order in permutations(range(3)):
        found = refine_probabilities(image, probabilities[list(order)], SPACING)
        assert np.abs(found - expected[list(order)]).max() < 1e-4


def test_one_class_and_no_weight_change_nothing():
    image, probabilities = make_problem()
    assert np.array_equal(refine_probabilities(image, probabilities[:1], SPACING), np.ones((1, 6, 7, 8)))
    nothing = CrfConfig(appearance_weight=0, smoothness_weight=0)
    found = refine_probabilities(image, probabilities, SPACING, nothing)
    assert np.abs(found - probabilities).max() < 1e-6


def test_probabilities_of_any_scale_and_type():
    image, probabilities = make_problem(classes=3)
    expected = refine_probabilities(image, probabilities, SPACING)
    for scale in (1e-60, 7.0, 1e200):
        found = refine_probabilities(image, probabilities.astype(float) * scale, SPACING)
        assert np.abs(found - expected).max() < 1e-4
    bytes_ = np.round(probabilities * 200).astype(np.uint8)
    assert np.abs(refine_probabilities(image, bytes_, SPACING) - expected).max() < 0.05


def test_a_voxel_without_probabilities_asks_its_neighbours():
    image = np.zeros((1, 5, 5, 5), np.float32)
    probabilities = np.stack([np.full((5, 5, 5), 0.8), np.full((5, 5, 5), 0.2)])
    probabilities[:, 2, 2, 2] = 0
    found = refine_probabilities(image, probabilities, (1, 1, 1))
    assert 0.9 < found[0, 2, 2, 2] < found[0].max()
    alone = refine_probabilities(image[:, :1, :1, :1], probabilities[:, 2:3, 2:3, 2:3], (1, 1, 1))
    assert np.allclose(alone, 0.5)


def test_an_excluded_class_stays_excluded():
    image, probabilities = make_problem(classes=3)
    probabilities[1, 3:] = 0
    found = refine_probabilities(image, probabilities, SPACING, CrfConfig(appearance_weight=50))
    assert not found[1, 3:].any()
    assert found[1, :3].any()


def test_several_channels_are_their_first_component():
    image, probabilities = make_problem()
    constant = np.full_like(image, 5)
    expected = refine_probabilities(image, probabilities, SPACING)
    for channels in ([image, constant], [image, 40 - 3 * image], [constant, image, image * 1e5]):
        found = refine_probabilities(np.concatenate(channels), probabilities, SPACING)
        assert np.abs(found - expected).max() < 1e-3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["image", "probabilities"])
def test_values_that_are_no_numbers_are_refused(which, bad):
    image, probabilities = make_problem()
    (image if which == "image" else probabilities)[0, 1, 1, 1] = bad
    with pytest.raises(InputError, match=f"{which} must be finite"):
        refine_probabilities(image, probabilities, SPACING)


@pytest.mark.parametrize(
    ("image", "probabilities"),
    [((1, 4, 4, 4), (2, 4, 4, 5)), ((4, 4, 4), (2, 4, 4, 4)), ((1, 4, 4, 4), (4, 4, 4)),
     ((0, 4, 4, 4), (2, 4, 4, 4)), ((1, 4, 4, 4), (0, 4, 4, 4))],
)  # fmt: skip
def test_shapes_that_differ_are_refused(image, probabilities):
    with pytest.raises(InputError, match=r"of one size, not \("):
        refine_probabilities(np.zeros(image), np.ones(probabilities), SPACING)


def test_negative_probabilities_and_sizes_are_refused():
    image, probabilities = make_problem()
    with pytest.raises(InputError, match="at least 0"):
        refine_probabilities(image, -probabilities, SPACING)
    for spacing in ((0, 1, 1), (1, -1, 1), (1, 1, np.nan), (1, 1)):
        with pytest.raises(InputError, match="positive voxel size"):
            refine_probabilities(image, probabilities, spacing)


def test_an_empty_volume_stays_empty():
    found = refine_probabilities(np.zeros((1, 0, 4, 4)), np.zeros((2, 0, 4, 4)), SPACING)
    assert found.shape == (2, 0, 4, 4)


def make_ball(size=32, shift=0):
    z, y, x = np.indices((size, size, size)) - size / 2
    return z**2 + y**2 + (x - shift) ** 2 < (0.3 * size) ** 2


@pytest.mark.parametrize("seed", range(3))
def test_a_noisy_ball_becomes_a_ball(seed):
    random = np.random.default_rng(seed)
    truth = make_ball()
    image = (truth + random.normal(0, 0.25, truth.shape)).astype(np.float32)[None]
    unsure = 1 / (1 + np.exp(-(2 * truth - 1) - random.normal(0, 1.5, truth.shape)))
    found = refine_probabilities(image, np.stack([1 - unsure, unsure]), (1, 1, 1))
    assert dice(unsure > 0.5, truth) < 0.75
    assert dice(found[1] > 0.5, truth) > 0.97


def test_a_border_moves_to_the_edge_of_the_image():
    truth = make_ball()
    image = (truth + np.random.default_rng(0).normal(0, 0.1, truth.shape)).astype(np.float32)[None]
    shifted = np.where(make_ball(shift=2), 0.7, 0.3)
    found = refine_probabilities(image, np.stack([1 - shifted, shifted]), (1, 1, 1))
    assert dice(shifted > 0.5, truth) < 0.92
    assert dice(found[1] > 0.5, truth) > 0.97


def test_white_matter_of_a_brain_is_found_again_from_a_poor_guess():
    from scipy import ndimage

    volume, labels, _ = load_sample()
    middle = (slice(35, 60), slice(20, 100), slice(10, 90))
    truth = (labels == 3)[middle]
    noise = np.random.default_rng(0).normal(0, 0.3, truth.shape)
    guess = np.clip(ndimage.gaussian_filter(truth.astype(float), 1) + noise, 0.02, 0.98)
    image = volume.data[(slice(None), *middle)]
    before = dice(guess > 0.5, truth)
    for config, gain in (
        (CrfConfig(), 0.07),
        (CrfConfig(appearance_intensity=0.15, appearance_mm=12, appearance_weight=6), 0.14),
    ):
        found = refine_probabilities(image, np.stack([1 - guess, guess]), volume.spacing, config)
        assert dice(found[1] > 0.5, truth) > before + gain


def test_memory_stays_near_that_of_the_volume():
    random = np.random.default_rng(0)
    image = random.normal(0, 1, (1, 48, 48, 48)).astype(np.float32)
    probabilities = np.moveaxis(random.dirichlet((1, 1), (48, 48, 48)), -1, 0).astype(np.float32)
    tracemalloc.start()
    refine_probabilities(image, probabilities, (1, 1, 1), CrfConfig(crf_iterations=1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * image.size


def test_it_needs_no_torch():
    code = "import sys, napari_sparseseg.dense_crf; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
