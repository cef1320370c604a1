import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_sparseseg.losses import combined_loss, sparse_cross_entropy, sparse_dice_loss


def draw_batch(seed, classes=3, shape=(2, 3, 4, 5), labelled=0.4):
    random = torch.Generator().manual_seed(seed)
    batch, *space = shape
    logits = torch.randn(batch, classes, *space, generator=random) * 3
    labels = torch.randint(1, classes + 1, shape, generator=random).to(torch.uint8)
    labels[torch.rand(shape, generator=random) > labelled] = 0
    labels[0, 0, 0, 0] = 1
    weights = torch.rand(shape, generator=random) + 0.1
    return logits, labels, weights


def brute_force_cross_entropy(logits, labels, weights):
    total, sum_of_weights = 0.0, 0.0
    for index in itertools.product(*map(range, labels.shape)):
        label, weight = int(labels[index]), float(weights[index])
        if label == 0 or weight == 0:
            continue
        scores = logits[index[0], :, *index[1:]].double().numpy()
        total += weight * (np.log(np.exp(scores).sum()) - scores[label - 1])
        sum_of_weights += weight
    return total / sum_of_weights


def brute_force_dice_loss(logits, labels, weights):
    chosen = (labels > 0) & (weights > 0)
    probabilities = logits.double().softmax(1).movedim(1, -1)[chosen].numpy()
    truth = labels[chosen].numpy() - 1
    losses = []
    for channel in np.unique(truth):
        p, t = probabilities[:, channel], truth == channel
        losses.append(1 - (2 * p[t].sum() + 1) / (p.sum() + t.sum() + 1))
    return np.mean(losses)


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 5))
def test_cross_entropy_follows_its_formula(seed, classes):
    logits, labels, weights = draw_batch(seed, classes)
    expected = brute_force_cross_entropy(logits, labels, weights)
    assert float(sparse_cross_entropy(logits, labels, weights)) == pytest.approx(expected, rel=1e-5)


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 5))
def test_dice_loss_follows_its_formula(seed, classes):
    logits, labels, weights = draw_batch(seed, classes)
    weights[:, 0] = 0
    labels[0, 1, 0, 0] = 1
    expected = brute_force_dice_loss(logits, labels, weights)
    assert float(sparse_dice_loss(logits, labels, weights)) == pytest.approx(expected, rel=1e-5)


@given(seed=st.integers(0, 10**6))
def test_unlabelled_voxels_have_no_influence_and_no_gradient(seed):
    logits, labels, weights = draw_batch(seed)
    unlabelled = (labels == 0)[:, None].expand_as(logits)
    changed = torch.where(unlabelled, 100 * torch.randn_like(logits), logits)
    logits.requires_grad_()
    loss = combined_loss(logits, [(labels, weights, 1.0)], 1.0)
    assert float(loss.detach()) == float(combined_loss(changed, [(labels, weights, 1.0)], 1.0))
    loss.backward()
    assert (logits.grad[unlabelled] == 0).all()
    assert (logits.grad[~unlabelled] != 0).any()


def test_weights_at_unlabelled_voxels_do_not_matter():
    logits, labels, weights = draw_batch(1)
    zeroed = torch.where(labels > 0, weights, 0)
    assert float(sparse_cross_entropy(logits, labels, weights)) == float(
        sparse_cross_entropy(logits, labels, zeroed)
    )


def test_labels_of_weight_zero_count_as_unlabelled():
    logits, labels, weights = draw_batch(2)
    off = torch.rand(labels.shape, generator=torch.Generator().manual_seed(3)) < 0.5
    off[0, 0, 0, 0] = False
    without = torch.where(off, 0, labels)
    for loss in (sparse_cross_entropy, sparse_dice_loss):
        assert float(loss(logits, labels, weights * ~off)) == float(loss(logits, without, weights))


def test_fully_labelled_equals_dense_cross_entropy():
    logits, labels, _ = draw_batch(4, labelled=1.0)
    dense = torch.nn.functional.cross_entropy(logits, labels.long() - 1)
    assert float(sparse_cross_entropy(logits, labels, torch.ones(labels.shape))) == pytest.approx(
        float(dense), rel=1e-6
    )


@pytest.mark.parametrize("what", ["no label", "no weight"])
def test_nothing_labelled_is_zero_with_zero_gradients(what):
    logits, labels, weights = draw_batch(5)
    if what == "no label":
        labels = torch.zeros_like(labels)
    if what == "no weight":
        weights = torch.zeros_like(weights)
    logits.requires_grad_()
    loss = combined_loss(logits, [(labels, weights, 1.0)], 1.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert (logits.grad == 0).all()
    assert float(sparse_dice_loss(logits.detach(), torch.zeros_like(labels), weights)) == 0


@given(seed=st.integers(0, 10**6), order=st.permutations(range(4)))
def test_permuting_classes_changes_nothing(seed, order):
    logits, labels, weights = draw_batch(seed, classes=4)
    renamed = torch.zeros_like(labels)
    for channel, old in enumerate(order):
        renamed[labels == old + 1] = channel + 1
    before = float(combined_loss(logits, [(labels, weights, 1.0)], 1.0))
    after = float(combined_loss(logits[:, list(order)], [(renamed, weights, 1.0)], 1.0))
    assert after == pytest.approx(before, rel=1e-5)


@given(factor=st.floats(0.01, 100))
def test_scale_of_the_weights_does_not_matter(factor):
    logits, labels, weights = draw_batch(6)
    before = float(sparse_cross_entropy(logits, labels, weights))
    assert float(sparse_cross_entropy(logits, labels, weights * factor)) == pytest.approx(before, rel=1e-4)


def test_scale_does_not_depend_on_how_much_is_unlabelled():
    logits, labels, weights = draw_batch(7)
    padding = (0, 20, 0, 20, 0, 20)
    pad = torch.nn.functional.pad
    before = float(combined_loss(logits, [(labels, weights, 1.0)], 1.0))
    after = float(
        combined_loss(pad(logits, padding), [(pad(labels, padding), pad(weights, padding), 1.0)], 1.0)
    )
    assert after == pytest.approx(before, rel=1e-6)


def test_many_weak_labels_do_not_drown_a_strong_one():
    logits = torch.zeros(1, 2, 1, 10, 100, requires_grad=True)
    strong, weak = torch.zeros(1, 1, 10, 100), torch.ones(1, 1, 10, 100)
    strong[0, 0, 0, 0], weak[0, 0, 0, 0] = 2, 0
    ones = torch.ones_like(strong)
    strong, weak = strong.to(torch.uint8), weak.to(torch.uint8)
    combined_loss(logits, [(strong, ones, 1.0), (weak, ones, 0.5)], 0.0).backward()
    pull = logits.grad[0, 1, 0]
    assert float(-pull[0, 0]) == pytest.approx(0.5)
    assert float(pull.sum() - pull[0, 0]) == pytest.approx(0.25)


def test_loss_of_several_sets_is_their_weighted_sum_and_dice_of_the_first():
    logits, labels, weights = draw_batch(8, labelled=0.8)
    first = torch.where(torch.arange(5) < 2, labels, 0)
    second = torch.where(torch.arange(5) < 2, 0, labels)
    expected = (
        sparse_cross_entropy(logits, first, weights)
        + 0.3 * sparse_cross_entropy(logits, second, weights)
        + 0.7 * sparse_dice_loss(logits, first, weights)
    )
    loss = combined_loss(logits, [(first, weights, 1.0), (second, weights, 0.3)], 0.7)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_memory_format_does_not_matter():
    logits, labels, weights = draw_batch(9)
    arranged = logits.contiguous(memory_format=torch.channels_last_3d)
    sets = [(labels, weights.half(), 1.0)]
    assert float(combined_loss(arranged, sets, 1.0)) == float(combined_loss(logits, sets, 1.0))
