import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from phantoms import TABLE, fix_precision, make_case, mean_dice, short_training

from napari_sparseseg.annotation import ClassTable, source_code
from napari_sparseseg.cases import Case
from napari_sparseseg.events import StepDone, finish
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.inference import predict_volume
from napari_sparseseg.sec import (
    BACKGROUND_DECAY,
    FILLED,
    PRESENT_DECAY,
    choose_decays,
    constraint_loss,
    expansion_loss,
    find_present,
    pool_ranks,
)
from napari_sparseseg.settings import CrfConfig, InferenceConfig
from napari_sparseseg.training import train_network

SPACING = (1.0, 1.0, 1.0)
NO_CRF = CrfConfig(appearance_weight=0.0, smoothness_weight=0.0)


@pytest.fixture(autouse=True)
def _fixed_precision(monkeypatch):
    fix_precision(monkeypatch)


def draw_logits(seed, batch=2, classes=3, shape=(3, 4, 5), scale=2.0):
    random = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, classes, *shape, generator=random)


def pool_by_hand(scores, decay):
    """The paper's formula, the decay brought from 1681 scores to this many."""
    ordered = sorted(map(float, scores), reverse=True)
    decay = decay ** (1681 / len(ordered))
    weights = [decay**rank for rank in range(len(ordered))]
    return sum(w * s for w, s in zip(weights, ordered, strict=True)) / sum(weights)


@given(seed=st.integers(0, 10**6), decay=st.sampled_from([0.0, 0.5, 0.996, 0.999, 1.0]))
def test_rank_pooling_follows_its_formula(seed, decay):
    scores = torch.rand(2, 37, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pooled = pool_ranks(scores, decay)
    for row, value in zip(scores, pooled, strict=True):
        assert float(value) == pytest.approx(pool_by_hand(row, decay), rel=1e-9)


def test_rank_pooling_goes_from_the_largest_to_the_mean():
    scores = torch.rand(500, generator=torch.Generator().manual_seed(0))
    assert float(pool_ranks(scores, 0.0)) == float(scores.max())
    assert float(pool_ranks(scores, 1.0)) == pytest.approx(float(scores.mean()))
    largest, present, background, mean = (
        float(pool_ranks(scores, d)) for d in (0.0, PRESENT_DECAY, BACKGROUND_DECAY, 1.0)
    )
    assert largest > present > background > mean


@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 0.95))
def test_the_same_share_of_a_patch_counts_alike_whatever_its_size(seed, share):
    def pool(number):
        scores = torch.zeros(number)
        scores[
            torch.randperm(number, generator=torch.Generator().manual_seed(seed))[: int(share * number)]
        ] = 1
        return float(pool_ranks(scores, PRESENT_DECAY))

    assert pool(2000) == pytest.approx(pool(40_000), abs=0.01)


@given(seed=st.integers(0, 10**6))
def test_expansion_follows_its_formula(seed):
    logits = draw_logits(seed, batch=4, classes=4)
    presence = torch.tensor([[1, 0, -1], [-1, -1, -1], [1, 1, 0], [0, 0, 0]], dtype=torch.int8)
    background = torch.tensor([True, False, False, True])
    probabilities = logits.double().softmax(1).flatten(2).numpy()
    total = 0.0
    for patch, known in enumerate(presence.tolist()):
        there = [-np.log(pool_by_hand(probabilities[patch, c + 1], 0.996)) for c in range(3) if known[c] == 1]
        gone = [
            pool_by_hand(-np.log(1 - probabilities[patch, c + 1]), 0.996) for c in range(3) if known[c] == 0
        ]
        total += (np.mean(there) if there else 0) + (np.mean(gone) if gone else 0)
        if background[patch]:
            total -= np.log(pool_by_hand(probabilities[patch, 0], 0.999))
    assert float(expansion_loss(logits, presence, background)) == pytest.approx(total / 4, rel=1e-4)


@given(room=st.floats(0.001, 1))
def test_a_class_fills_a_part_of_its_room(room):
    scores = torch.zeros(1, 100_000)
    scores[:, : round(FILLED * room * 100_000)] = 1
    pooled = pool_ranks(scores, choose_decays(torch.tensor([room])))
    assert float(pooled) == pytest.approx(0.95, abs=0.01)


@given(seed=st.integers(0, 10**6))
def test_each_class_of_each_patch_has_its_own_room(seed):
    logits, presence = draw_logits(seed), torch.tensor([[1, 1], [-1, 1]], dtype=torch.int8)
    room = torch.tensor([[0.1, 0.9], [0.4, 0.5]])
    scores, decays = logits.softmax(1).flatten(2), choose_decays(room)
    first, second, third = (
        -pool_ranks(scores[b, c + 1], float(decays[b, c])).log() for b, c in ((0, 0), (0, 1), (1, 1))
    )
    expected = ((first + second) / 2 + third) / 2
    assert float(expansion_loss(logits, presence, None, room)) == pytest.approx(float(expected), rel=1e-4)


def test_a_class_with_room_is_never_asked_to_fill_more_than_in_the_paper():
    decays = choose_decays(torch.tensor([0.0, 0.001, 0.1, 0.5, 1.0]))
    assert decays[0] == 0
    assert (decays.diff() >= 0).all()
    assert float(decays[-1]) < PRESENT_DECAY


def test_what_is_not_known_has_no_loss_and_no_gradient():
    logits = draw_logits(0).requires_grad_()
    loss = expansion_loss(logits, torch.full((2, 2), -1, dtype=torch.int8))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def test_expansion_has_the_gradient_of_finite_differences():
    presence, background = torch.tensor([[1, 0]], dtype=torch.int8), torch.tensor([True])
    logits = draw_logits(3, batch=1, shape=(2, 2, 3)).requires_grad_()
    expansion_loss(logits, presence, background).backward()
    step = 1e-2
    for index in itertools.islice(itertools.product(*map(range, logits.shape)), 0, None, 5):
        low, high = logits.detach().clone(), logits.detach().clone()
        low[index] -= step
        high[index] += step
        slope = (expansion_loss(high, presence, background) - expansion_loss(low, presence, background)) / (
            2 * step
        )
        assert float(logits.grad[index]) == pytest.approx(float(slope), abs=2e-3)


@pytest.mark.parametrize("scale", [1.0, 15.0], ids=["undecided", "almost certain"])
def test_a_present_class_grows_and_an_absent_one_goes(scale):
    logits = draw_logits(1, batch=1, shape=(6, 6, 6))
    logits[:, 1] -= scale  # the present class is nowhere
    logits[:, 2] += scale  # the absent one everywhere
    presence = torch.tensor([[1, 0]], dtype=torch.int8)
    before = logits.softmax(1)
    for _ in range(400):
        logits.requires_grad_()
        loss = expansion_loss(logits, presence)
        loss.backward()
        assert torch.isfinite(logits.grad).all()
        logits = (logits - 20 * logits.grad).detach()
    after = logits.softmax(1)
    assert after[0, 2].max() < before[0, 2].max()
    assert after[0, 2].max() < 0.5
    if scale == 1:
        assert float(pool_ranks(after[0, 1].flatten(), PRESENT_DECAY)) > 0.9


def test_large_patches_are_pooled_on_a_coarser_grid_to_about_the_same():
    smooth = torch.nn.functional.interpolate(
        draw_logits(0, batch=1, shape=(5, 5, 5)), size=(48, 48, 48), mode="trilinear"
    )
    presence, background = torch.tensor([[1, 1]], dtype=torch.int8), torch.tensor([True])
    scores = smooth.softmax(1).flatten(2)[0]
    expected = (
        -pool_ranks(scores[1:], PRESENT_DECAY).log().mean() - pool_ranks(scores[0], BACKGROUND_DECAY).log()
    )
    assert float(expansion_loss(smooth, presence, background)) == pytest.approx(float(expected), rel=0.02)


def test_labels_overrule_what_is_said_of_their_place():
    judged = torch.tensor([[0, -1, 0], [1, -1, -1]], dtype=torch.int8)
    labels = torch.zeros((2, 2, 2, 2), dtype=torch.uint8)
    weights = torch.ones((2, 2, 2, 2))
    labels[0, 0, 0, 0], labels[0, 1, 1, 1] = 2, 3
    labels[1, 0, 0, 0], labels[1, 0, 0, 1] = 1, 4
    weights[1, 0, 0, 1] = 0  # not learnt from
    present, background = find_present(judged, labels, weights)
    assert present.tolist() == [[1, 1, 0], [1, -1, -1]]
    assert background.tolist() == [False, True]


def make_scene(side=14):
    """A bright cube on dark ground, and logits that know only roughly where it is."""
    image = torch.zeros(1, 1, side, side, side)
    image[..., 4:10, 4:10, 4:10] = 1.0
    logits = torch.zeros(1, 2, side, side, side)
    logits[:, 1] = torch.where(image[:, 0] > 0, 0.6, -0.6)
    logits[:, 1, 4:10, 4:10, 9] = -0.3  # one side of it is missed
    return image, logits


def test_the_constraint_is_zero_where_the_random_field_changes_nothing():
    image, _ = make_scene()
    logits = draw_logits(0, batch=1, classes=3, shape=image.shape[2:]).requires_grad_()
    loss = constraint_loss(logits, image, SPACING, NO_CRF)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    assert float(logits.grad.abs().max()) < 1e-6


def test_the_constraint_pulls_borders_to_the_edges_of_the_image():
    image, logits = make_scene()
    first = float(constraint_loss(logits, image, SPACING))
    assert first > 0
    for _ in range(60):
        logits.requires_grad_()
        constraint_loss(logits, image, SPACING).backward()
        logits = (logits - 300 * logits.grad).detach()
    assert float(constraint_loss(logits, image, SPACING)) < first
    assert torch.equal(logits.argmax(1), (image[:, 0] > 0).long())


def test_the_constraint_is_the_mean_divergence_from_the_random_field():
    from napari_sparseseg.dense_crf import refine_probabilities

    image, logits = make_scene()
    probabilities = logits.softmax(1)[0].numpy()
    refined = np.maximum(refine_probabilities(image[0].numpy(), probabilities, SPACING), 1e-6)
    refined /= refined.sum(0)
    expected = (refined * np.log(refined / probabilities)).sum(0).mean()
    assert float(constraint_loss(logits, image, SPACING)) == pytest.approx(float(expected), rel=1e-3)
    logits.requires_grad_()
    constraint_loss(logits, image, SPACING).backward()
    slope = (probabilities - refined) / probabilities[0].size  # no gradient goes through the random field
    np.testing.assert_allclose(logits.grad[0].numpy(), slope, atol=1e-6)


def test_a_coarser_random_field_says_about_the_same():
    image, logits = (
        torch.nn.functional.interpolate(values, scale_factor=2, mode="nearest") for values in make_scene()
    )
    fine = constraint_loss(*(v[..., ::2, ::2, ::2] for v in (logits, image)), (2.0, 2.0, 2.0))
    assert float(constraint_loss(logits, image, SPACING)) == pytest.approx(float(fine), rel=0.3)


def test_the_constraint_takes_what_is_odd():
    image, logits = make_scene()
    assert not np.isfinite(float(constraint_loss(logits * np.nan, image, SPACING)))
    certain = logits.sign() * 300
    assert np.isfinite(float(constraint_loss(certain, image, SPACING)))
    assert np.isfinite(float(constraint_loss(logits[:, :, :1], image[:, :, :1], (8.0, 1.0, 1.0))))
    assert np.isfinite(float(constraint_loss(logits, image * 0, SPACING)))


# -- in training --


def train(case, config, table=TABLE):
    events = []
    result = finish(train_network([case], table, config), events.append)
    return result, [event.loss for event in events if isinstance(event, StepDone)]


def same_weights(first, second):
    return all(
        torch.equal(tensor, second.model.weights[name]) for name, tensor in first.model.weights.items()
    )


SAID = (ImageLabel(2, True, 0, 4, 13), ImageLabel(3, False, 1, 0, 3))


def test_image_labels_alone_change_nothing():
    case, _ = make_case()
    told = replace(case, image_labels=SAID)
    config = short_training(steps=6)
    first, second = (train(one, config)[0] for one in (case, told))
    assert same_weights(first, second)


def test_sources_of_the_users_own_labels_change_nothing():
    case, _ = make_case()
    own = replace(case, sources=np.where(case.annotation > 0, source_code("stroke"), 0).astype(np.uint8))
    config = short_training(steps=6, seeding=3.0)
    first, second = (train(one, config)[0] for one in (case, own))
    assert same_weights(first, second)


@pytest.mark.parametrize("changes", [{"expansion": 1.0}, {"constraint": 1.0}])
def test_each_term_changes_what_is_learnt(changes):
    case, _ = make_case()
    case = replace(case, image_labels=SAID)
    plain, with_term, again = (
        train(case, short_training(steps=4, **values)) for values in ({}, changes, changes)
    )
    assert not same_weights(plain[0], with_term[0])
    assert same_weights(with_term[0], again[0])
    assert with_term[1][0] > plain[1][0]


def test_the_terms_work_on_patches_with_position_channels_and_several_in_a_step():
    case, _ = make_case(spacing=(5.0, 1.0, 1.0))
    result, losses = train(case, short_training(steps=3, expansion=1.0, constraint=1.0, batch_size=2))
    assert result.model.position
    assert np.isfinite(losses).all()


def make_ball(seed, size=16):
    """A ball of which only the middle and the volume's far corners are seeded; and its truth."""
    random = np.random.default_rng(seed)
    z, y, x = np.indices((size, size, size)) - size / 2 + 0.5
    truth = z**2 + y**2 + x**2 < (size * 0.32) ** 2
    image = (truth + random.normal(0, 0.35, truth.shape)).astype(np.float32)[None]
    annotation = np.zeros(truth.shape, np.uint8)
    annotation[:2, :2], annotation[-2:, -2:] = 1, 1
    annotation[7:9, 7:9, 7:9] = 2
    sources = np.where(annotation > 0, source_code("cam"), 0).astype(np.uint8)
    low, high = np.flatnonzero(truth.any((1, 2)))[[0, -1]].tolist()
    said = tuple(ImageLabel(2, True, axis, low, high) for axis in range(3))
    return Case(image, SPACING, annotation, sources=sources, image_labels=said), truth


def test_the_three_terms_find_more_than_seeds_alone():
    table = ClassTable.from_values([2], {2: "ball"})
    dice = {0.0: [], 0.3: []}
    for seed, expansion in itertools.product(range(3), dice):
        case, truth = make_ball(seed)
        config = short_training(
            steps=40, seed=seed, patch_voxels=16**3, learning_rate=5e-3, held_out_share=0.0,
            expansion=expansion, constraint=expansion / 3,
        )  # fmt: skip
        model = train(case, config, table)[0].model
        prediction = finish(predict_volume(model, case.image, SPACING, InferenceConfig(device="cpu")))
        dice[expansion].append(mean_dice(truth.astype(np.uint8), prediction.channels))
    assert np.mean(dice[0.3]) > np.mean(dice[0.0]) + 0.03
