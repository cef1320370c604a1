import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog
from scipy.special import log_softmax, softmax

from napari_sparseseg.clustering import (
    balanced_shares,
    column_potentials,
    find_clusters,
    refill_empty,
    whiten,
)


def log_probabilities(things, groups, seed=0, scale=2.0):
    return log_softmax(scale * np.random.default_rng(seed).standard_normal((things, groups)), axis=1)


def best_equal_partition(scores):
    """Return the value of the best plan with unit rows and equal columns, by linear programming."""
    things, groups = scores.shape
    rows = np.kron(np.eye(things), np.ones(groups))
    columns = np.kron(np.ones(things), np.eye(groups))
    sums = np.concatenate([np.ones(things), np.full(groups, things / groups)])
    return -linprog(-scores.ravel(), A_eq=np.concatenate([rows, columns]), b_eq=sums).fun


class TestWhitening:
    def test_makes_the_covariance_the_identity(self):
        random = np.random.default_rng(0)
        features = random.standard_normal((300, 6)) @ random.standard_normal((6, 6)) + 40
        whitened = whiten(features, 6).project(features)
        np.testing.assert_allclose(whitened.mean(0), 0, atol=1e-9)
        np.testing.assert_allclose(np.cov(whitened.T), np.eye(6), atol=1e-9)

    def test_keeps_the_directions_of_most_variance(self):
        features = np.random.default_rng(0).standard_normal((300, 3)) * (0.1, 10, 1)
        directions = np.abs(whiten(features, 2).directions)
        assert directions[:, 0].argmax() == 1
        assert directions[:, 1].argmax() == 2

    def test_brings_features_to_length_one(self):
        features = np.random.default_rng(0).standard_normal((20, 5))
        np.testing.assert_allclose(np.linalg.norm(whiten(features, 3)(features), axis=1), 1)

    def test_leaves_out_what_does_not_vary_and_fills_up_what_is_missing(self):
        features = np.zeros((10, 4))
        features[:, 2] = np.arange(10)
        found = whiten(features, 6)
        assert found.directions.shape == (4, 6)
        assert (np.abs(found.directions).sum(0) > 0).tolist() == [True, False, False, False, False, False]
        assert np.isfinite(found(features)).all()


class TestClusters:
    def test_finds_separate_groups_again(self):
        random = np.random.default_rng(0)
        truth = np.repeat(np.arange(4), 25)
        features = 10 * np.eye(4)[truth] + random.standard_normal((100, 4))
        labels, centroids = find_clusters(features, 4, random)
        assert all(len(set(labels[truth == group])) == 1 for group in range(4))
        assert len(set(labels)) == 4
        np.testing.assert_allclose(centroids[labels[0]], features[:25].mean(0))

    def test_depends_on_the_generator_alone(self):
        features = np.random.default_rng(0).standard_normal((600, 8))
        first, second = (find_clusters(features, 9, np.random.default_rng(3)) for _ in range(2))
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])

    @given(st.integers(0, 1000), st.integers(1, 7), st.booleans())
    @settings(max_examples=30, deadline=None)
    def test_no_cluster_stays_empty(self, seed, used, all_the_same):
        random = np.random.default_rng(seed)
        features = random.standard_normal((40, 3)) * (not all_the_same)
        labels = random.integers(0, used, 40)
        new, centroids, refilled = refill_empty(labels, np.zeros((8, 3)), features, random)
        assert np.bincount(new, minlength=8).min() > 0
        assert refilled == 8 - len(set(labels))
        assert len(np.unique(centroids[np.bincount(labels, minlength=8) == 0], axis=0)) == refilled

    def test_the_largest_is_split_and_the_others_are_left(self):
        features = np.random.default_rng(0).standard_normal((30, 2))
        labels = np.repeat([0, 2], [20, 10])
        new, _, refilled = refill_empty(labels, np.zeros((3, 2)), features, np.random.default_rng(0))
        assert refilled == 1
        assert np.bincount(new).tolist() == [10, 10, 10]
        assert (new[20:] == 2).all()

    def test_nothing_changes_where_none_is_empty(self):
        labels, centroids = np.arange(6) % 3, np.arange(6.0).reshape(3, 2)
        new, same, refilled = refill_empty(labels, centroids, np.ones((6, 2)), np.random.default_rng(0))
        assert refilled == 0
        np.testing.assert_array_equal(new, labels)
        np.testing.assert_array_equal(same, centroids)

    @given(st.lists(st.integers(0, 5), min_size=1, max_size=50))
    def test_all_clusters_come_alike_often_whatever_their_size(self, labels):
        labels = np.array(labels)
        shares = balanced_shares(labels)
        present = np.unique(labels)
        weights = [shares[labels == cluster].sum() for cluster in present]
        np.testing.assert_allclose(weights, 1 / len(present))


def transport(scores, sharpness, iterations=100):
    """Return the plan that `column_potentials` stands for."""
    return softmax((scores + column_potentials(scores, sharpness, iterations)) / sharpness, axis=1)


class TestSinkhorn:
    @given(st.integers(0, 10_000), st.integers(2, 30), st.integers(2, 6), st.sampled_from([0.1, 0.3, 1.0]))
    @settings(max_examples=15, deadline=None)
    def test_rows_have_the_sum_one_and_columns_are_equal(self, seed, things, groups, sharpness):
        plan = transport(log_probabilities(things, groups, seed), sharpness, 200)
        assert (plan >= 0).all()
        np.testing.assert_allclose(plan.sum(1), 1, rtol=1e-9)
        np.testing.assert_allclose(plan.sum(0), things / groups, rtol=1e-2)

    @pytest.mark.parametrize("seed", range(3))
    def test_becomes_the_best_partition_when_sharp(self, seed):
        scores = log_probabilities(12, 3, seed)
        plan = transport(scores, 0.005, 200)
        assert (plan * scores).sum() == pytest.approx(best_equal_partition(scores), abs=0.05)
        rows, seats = linear_sum_assignment(-np.repeat(scores, 4, axis=1))
        np.testing.assert_array_equal(plan.argmax(1), (seats // 4)[np.argsort(rows)])

    def test_is_smoother_with_more_weight_on_entropy(self):
        scores = log_probabilities(20, 4)
        assert transport(scores, 0.05).max(1).mean() > transport(scores, 1.0).max(1).mean() + 0.1

    def test_parts_equally_what_predictions_put_into_one_group(self):
        random = np.random.default_rng(0)
        collapsed = log_softmax(random.standard_normal((64, 4)) + 9 * np.eye(4)[0], axis=1)
        assert set(collapsed.argmax(1)) == {0}
        assert np.bincount(transport(collapsed, 0.05).argmax(1), minlength=4).tolist() == [16, 16, 16, 16]

    def test_stays_finite_with_far_too_certain_predictions(self):
        certain = np.full((8, 2), -5000.0)
        certain[:, 0] = 0
        plan = transport(certain, 0.001)
        assert np.isfinite(plan).all()
        np.testing.assert_allclose(plan.sum(0), 4, rtol=1e-3)
