import numpy as np
import pytest
from skimage.segmentation import random_walker

from napari_sparseseg.random_walker import walk_from_labels


def make_problem(shape=(4, 5, 6), classes=3, seed=0):
    random = np.random.default_rng(seed)
    image = random.normal(size=(2, *shape)).astype(np.float32) * 0.4
    annotation = np.where(random.random(shape) < 0.1, random.integers(1, classes + 1, shape), 0).astype(
        np.uint8
    )
    prior = random.random((classes, *shape)).astype(np.float32)
    return image, annotation, prior / prior.sum(0)


def solve_densely(image, annotation, prior, spacing, prior_weight, contrast):
    """Return the minimum by a dense linear solve over all voxels."""
    shape = annotation.shape
    number = annotation.size
    index = np.arange(number).reshape(shape)
    matrix = np.eye(number) * prior_weight
    for axis in range(3):
        low, high = (np.take(index, range(a, shape[axis] - 1 + a), axis).reshape(-1) for a in (0, 1))
        values = image.reshape(len(image), -1).astype(float)
        step = ((values[:, low] - values[:, high]) ** 2).sum(0)
        weight = (min(spacing) / spacing[axis]) ** 2 * (np.exp(-contrast * step) + 1e-6)
        np.add.at(matrix, (low, low), weight)
        np.add.at(matrix, (high, high), weight)
        np.add.at(matrix, (low, high), -weight)
        np.add.at(matrix, (high, low), -weight)
    flat = annotation.reshape(-1)
    fixed = flat > 0
    solution = np.zeros((len(prior), number))
    for channel, row in enumerate(prior.reshape(len(prior), -1).astype(float)):
        known = (flat[fixed] == channel + 1).astype(float)
        right = prior_weight * row[~fixed] - matrix[np.ix_(~fixed, fixed)] @ known
        solution[channel, fixed] = known
        solution[channel, ~fixed] = np.linalg.solve(matrix[np.ix_(~fixed, ~fixed)], right)
    return solution.reshape(prior.shape)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 1.0, 1.5)])
@pytest.mark.parametrize("prior_weight", [0.02, 0.5])
def test_it_solves_its_linear_system(spacing, prior_weight):
    image, annotation, prior = make_problem()
    expected = solve_densely(image, annotation, prior, spacing, prior_weight, 13.0)
    found = walk_from_labels(image, annotation, prior, spacing, prior_weight, 13.0)
    assert np.abs(found - expected).max() < 0.02  # the solver's tolerance


def test_without_prior_it_is_the_random_walker_of_scikit_image():
    random = np.random.default_rng(3)
    image = random.normal(0, 0.3, (6, 8, 8)).astype(np.float32)
    image[:, :, 4:] += 1
    annotation = np.zeros((6, 8, 8), np.uint8)
    annotation[2, 3, 1], annotation[3, 4, 6] = 1, 2
    contrast = 3.0
    # scikit-image divides the squared step by ten standard deviations, and weighs it by beta
    beta = contrast * 10 * image.std()
    theirs = random_walker(image, annotation, beta=beta, mode="bf", tol=1e-6, return_full_prob=True)
    uniform = np.full((2, 6, 8, 8), 0.5, np.float32)
    ours = walk_from_labels(image[None], annotation, uniform, (1.0, 1.0, 1.0), 1e-7, contrast)
    assert np.abs(ours - theirs).max() < 0.02


@pytest.mark.parametrize("seed", range(5))
def test_labels_stay_and_probabilities_sum_to_one(seed):
    image, annotation, prior = make_problem((5, 7, 6), seed=seed)
    before = prior.copy()
    found = walk_from_labels(image, annotation, prior, (2.0, 1.0, 1.0))
    labelled = annotation > 0
    one_hot = np.arange(1, 4)[:, None] == annotation[labelled]
    assert np.array_equal(found[:, labelled], one_hot.astype(np.float32))
    assert np.abs(found.sum(0) - 1).max() < 0.01
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.array_equal(prior, before)


def test_without_labels_or_edges_a_flat_prior_stays():
    image, annotation, prior = make_problem()
    flat = np.broadcast_to(np.array([0.2, 0.3, 0.5], np.float32)[:, None, None, None], prior.shape)
    found = walk_from_labels(image, annotation * 0, flat, (1.0, 1.0, 1.0))
    assert np.abs(found - flat).max() < 1e-4


def test_a_large_weight_gives_the_prior_back():
    image, annotation, prior = make_problem()
    found = walk_from_labels(image, annotation, prior, (1.0, 1.0, 1.0), prior_weight=1e5)
    free = annotation == 0
    assert np.abs(found - prior)[:, free].max() < 0.01


def test_labels_stop_at_an_edge():
    image = np.zeros((1, 3, 3, 20), np.float32)
    image[..., 8:] = 2
    annotation = np.zeros((3, 3, 20), np.uint8)
    annotation[1, 1, 0], annotation[1, 1, 19] = 1, 2
    prior = np.full((2, 3, 3, 20), 0.5, np.float32)
    found = walk_from_labels(image, annotation, prior, (1.0, 1.0, 1.0), prior_weight=1e-4)
    assert (found[0, ..., :8] > 0.9).all()
    assert (found[1, ..., 8:] > 0.9).all()


def test_everything_labelled_is_returned_as_it_is():
    image, _, prior = make_problem()
    annotation = np.random.default_rng(0).integers(1, 4, prior.shape[1:])
    found = walk_from_labels(image, annotation, prior, (1.0, 1.0, 1.0))
    assert np.array_equal(found.argmax(0) + 1, annotation)
