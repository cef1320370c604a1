"""Class maps: each method against its formula, and what holds for all of them."""

import math

import numpy as np
import pytest
import torch
from cam_phantoms import (
    BRIGHT,
    DARK,
    TABLE,
    make_classifier,
    make_model,
    make_volume,
    train_small_classifier,
    with_summary,
    with_weights,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from napari_sparseseg import cam, settings
from napari_sparseseg.cam import CAM_METHODS, map_class
from napari_sparseseg.cam_methods import Question, occlusion_cells, spread_features
from napari_sparseseg.cam_subjects import EvidenceScores
from napari_sparseseg.cam_windows import WindowBlend, WindowGrid, mirrorings
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Noted, WorkDone, finish
from napari_sparseseg.networks import NETWORKS
from napari_sparseseg.settings import CamConfig

UNIT = (1.0, 1.0, 1.0)
ON_ANY_NETWORK = sorted(set(CAM_METHODS) - {"cam"})


def ask(subject, image, label=BRIGHT, spacing=UNIT, voxel=None, **changes):
    """Return the map, and the events on the way."""
    events = []
    config = CamConfig(**{"smooth_runs": 2, "occlusion_share": 0.5, **changes})
    work = map_class(subject, image, spacing, label, config, voxel=voxel, device="cpu")
    return finish(work, events.append), events


def notes(events):
    return " ".join(event.text for event in events if isinstance(event, Noted))


def make_question(network, *, level=None, index=0, **changes):
    """Ask a `ClassifierNetwork` about a layer."""
    level = level or network.level
    values = {
        "network": network,
        "layer": network.encoder.stages[level - 1],
        "stride": network.encoder.strides[level - 1],
        "index": index,
        "head": network.head.weight[index].detach() if level == network.level else None,
        "channels": 1,
        "span": torch.ones(1),
    }
    return Question(**{**values, **changes})


def raw_map(method, question, window, **changes):
    work = CAM_METHODS[method](question, CamConfig(**changes))(window)
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("level", [1, 2, 3])
def test_the_mean_of_a_cam_and_the_bias_is_the_score(architecture, level):
    network = make_classifier(architecture, level=level).build()
    window = noise(1, 1, 16, 12, 9)
    for index in (0, 1):
        values = raw_map("cam", make_question(network, index=index), window)
        expected = float(network(window)[0, index])
        assert float(values.mean() + network.head.bias[index]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("level", [1, 2, 3])
def test_grad_cam_of_a_pooled_level_is_cam_over_the_number_of_features(architecture, level):
    classifier, window = make_classifier(architecture, level=level), noise(1, 1, 16, 12, 9)
    values = raw_map("cam", make_question(classifier.build()), window)
    gradients = raw_map("grad_cam", make_question(classifier.build()), window)
    torch.testing.assert_close(gradients, values.relu() / values.numel(), rtol=1e-4, atol=1e-7)


def layer_gradients(network, level, window, index):
    features = network.encoder(window)[level - 1].double().detach().requires_grad_()
    values = features
    with torch.enable_grad():
        rest = [stage.double() for stage in list(network.encoder.stages)[level:]]
        for stage in rest:
            values = stage(values)
        score = network.head.double()(values.mean((2, 3, 4)))[0, index]
        (gradient,) = torch.autograd.grad(score, features)
    return features.detach()[0], gradient[0], score.detach()


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("index", [0, 1])
def test_grad_cam_is_its_formula_at_any_level(architecture, level, index):
    classifier, window = make_classifier(architecture), noise(1, 1, 16, 12, 9)
    features, gradient, _ = layer_gradients(classifier.build(), level, window, index)
    expected = (gradient.mean((1, 2, 3))[:, None, None, None] * features).sum(0).relu()
    values = raw_map("grad_cam", make_question(classifier.build(), level=level, index=index), window)
    torch.testing.assert_close(values.double(), expected, rtol=1e-3, atol=1e-7)


class ReluClassifier(nn.Module):
    """Positive features, as Grad-CAM++ supposes them."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.first = nn.Sequential(nn.Conv3d(1, 5, 3, padding=1), nn.ReLU())
            self.second = nn.Sequential(nn.Conv3d(5, 4, 3, stride=2, padding=1), nn.ReLU())
            self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.second(self.first(x)).mean((2, 3, 4)))


def test_grad_cam_pp_is_its_formula():
    network, window = ReluClassifier(), noise(1, 1, 8, 8, 8)
    reference = ReluClassifier().double()
    features = reference.first(window.double()).detach().requires_grad_()
    score = reference.head(reference.second(features).mean((2, 3, 4)))[0, 1]
    # the derivatives of exp(score), of which the network is a piecewise linear part
    (first,) = torch.autograd.grad(score.exp(), features)
    gradient = first / score.detach().exp()
    second, third = score.detach().exp() * gradient**2, score.detach().exp() * gradient**3
    denominator = 2 * second + features.detach().sum((2, 3, 4), keepdim=True) * third
    shares = torch.where(second > 0, second / denominator, torch.zeros_like(second))
    weights = (shares * first.relu()).sum((2, 3, 4), keepdim=True)
    expected = (weights * features.detach()).sum(1)[0].relu()
    question = Question(network, network.first, (1, 1, 1), 1, None, 1, torch.ones(1))
    values = raw_map("grad_cam_pp", question, window).double()
    assert expected.max() > 0
    torch.testing.assert_close(values / values.max(), expected / expected.max(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_grad_cam_pp_neither_overflows_nor_loses_small_gradients(scale):
    network = ReluClassifier()
    with torch.no_grad():
        network.head.weight.mul_(scale)
    question = Question(network, network.second, (2, 2, 2), 1, None, 1, torch.ones(1))
    values = raw_map("grad_cam_pp", question, noise(1, 1, 8, 8, 8))
    assert values.isfinite().all()
    assert values.max() > 0


@pytest.mark.parametrize("architecture", NETWORKS)
def test_saliency_is_the_gradient(architecture):
    classifier, window = make_classifier(architecture, channels=2), noise(1, 2, 16, 12, 9)
    copy = window.clone().requires_grad_()
    (expected,) = torch.autograd.grad(classifier.build()(copy)[0, 1], copy)
    question = make_question(classifier.build(), index=1, channels=2)
    torch.testing.assert_close(raw_map("saliency", question, window), expected[0].abs().amax(0))
    assert not window.requires_grad


def test_position_channels_are_no_evidence():
    classifier, window = make_classifier(channels=4), noise(1, 4, 12, 12, 12)
    copy = window.clone().requires_grad_()
    (expected,) = torch.autograd.grad(classifier.build()(copy)[0, 0], copy)
    values = raw_map("saliency", make_question(classifier.build()), window)
    torch.testing.assert_close(values, expected[0, 0].abs())


def test_smooth_saliency_without_noise_is_saliency():
    classifier, window = make_classifier(), noise(1, 1, 12, 12, 12)
    expected = raw_map("saliency", make_question(classifier.build()), window)
    values = raw_map("smooth_saliency", make_question(classifier.build(), span=torch.zeros(1)), window)
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-7)
    noisy = raw_map("smooth_saliency", make_question(classifier.build()), window)
    assert not torch.allclose(noisy, expected, rtol=0.01)


class OneVoxel(nn.Module):
    """Reads one voxel of one channel, and counts how often it is asked."""

    def __init__(self, voxel):
        super().__init__()
        self.voxel, self.calls = voxel, 0
        self.layer = nn.Identity()

    def forward(self, x):
        self.calls += len(x)
        z, y, x_place = self.voxel
        return self.layer(x)[:, :1, z, y, x_place]


@given(
    voxel=st.tuples(st.integers(0, 9), st.integers(0, 7), st.integers(0, 12)),
    share=st.sampled_from([0.2, 0.3, 0.5]),
)
def test_occlusion_is_highest_where_the_network_reads(voxel, share):
    network, shape = OneVoxel(voxel), (10, 8, 13)
    window = torch.zeros(1, 2, *shape)
    window[(0, 0, *voxel)] = 5.0
    question = Question(network, network.layer, (1, 1, 1), 0, None, 2, torch.ones(2))
    values = raw_map("occlusion", question, window, occlusion_share=share)
    assert values.shape == shape
    assert values.max() > 0
    sizes = [
        math.ceil(length / parts) for length, parts in zip(shape, occlusion_cells(shape, share), strict=True)
    ]
    highest = (values == values.max()).nonzero().numpy()
    assert (np.abs(highest - voxel) <= sizes).all()


def test_occlusion_covers_the_image_s_channels_with_their_means():
    seen = []

    class Watcher(nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return x.mean((2, 3, 4))

    window = noise(1, 3, 4, 4, 4)
    question = Question(Watcher(), nn.Identity(), (1, 1, 1), 0, None, 2, torch.ones(2))
    raw_map("occlusion", question, window, occlusion_share=0.5)
    assert sum(len(batch) for batch in seen) == 9
    first = seen[1][0]
    for channel in (0, 1):
        mean = float(window[0, channel].mean())
        torch.testing.assert_close(first[channel, :2, :2, :2], torch.full((2, 2, 2), mean))
        torch.testing.assert_close(first[channel, 2:], window[0, channel, 2:])
    assert torch.equal(first[2], window[0, 2])


def test_occlusion_keeps_to_its_budget_and_leaves_out_what_is_not_seen():
    network = OneVoxel((1, 1, 1))
    values = {"stride": UNIT, "index": 0, "head": None, "channels": 1, "span": torch.ones(1)}
    question = Question(network, network.layer, **values, most_passes=30)
    raw_map("occlusion", question, noise(1, 1, 16, 16, 16), occlusion_share=0.1)
    assert network.calls == 28  # three parts along each axis, and the whole
    unseen = Question(network, network.layer, **values, least_score=100.0)
    assert not raw_map("occlusion", unseen, noise(1, 1, 16, 16, 16)).any()


@given(
    shape=st.tuples(*[st.integers(1, 17)] * 3),
    share=st.sampled_from([0.02, 0.15, 0.5]),
    passes=st.integers(1, 500),
)
def test_occlusion_cells_fit_window_and_budget(shape, share, passes):
    cells = occlusion_cells(shape, share, passes)
    assert all(1 <= n <= length for n, length in zip(cells, shape, strict=True))
    assert math.prod(cells) <= max(8, passes)
    assert all(n >= few for n, few in zip(occlusion_cells(shape, share), cells, strict=True))


def test_evidence_is_counted_where_it_lies():
    classifier = train_small_classifier()
    network = classifier.build()
    window = torch.from_numpy(make_volume(bright=(8, 8, 8)))[None]
    evidence = EvidenceScores(network)
    with torch.no_grad():
        logits = network.head(network.features(window).movedim(1, -1))
        absent = (-logits).double().sigmoid()
        expected = -absent.log().mean((1, 2, 3)).float()
        torch.testing.assert_close(evidence(window), expected)
        without = evidence(torch.from_numpy(make_volume())[None])
    assert expected[0, 0] > 1.5 * without[0, 0]


@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    stride=st.tuples(*[st.sampled_from([1, 2, 4])] * 3),
    slope=st.tuples(*[st.integers(-2, 2)] * 3),
)
def test_features_lie_at_their_voxels(shape, stride, slope):
    axes = [torch.arange(length).float() for length in shape]
    plane = sum(
        a * axis.reshape([-1 if n == i else 1 for n in range(3)])
        for i, (a, axis) in enumerate(zip(slope, axes, strict=True))
    ).expand(shape)
    features = plane[:: stride[0], :: stride[1], :: stride[2]]
    spread = spread_features(features, stride, shape)
    assert spread.shape == shape
    known = tuple(
        slice(0, (length - 1) // step * step + 1) for length, step in zip(shape, stride, strict=True)
    )
    torch.testing.assert_close(spread[known], plane[known], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("level", [1, 2, 3])
def test_the_features_of_an_encoder_lie_where_they_are_spread_to(architecture, level):
    network = make_classifier(architecture, level=level).build()
    stride = network.encoder.strides[level - 1]
    voxel = 8
    window = noise(1, 1, 17, 17, 17)
    window.requires_grad_()
    feature = voxel // stride[0]
    score = network.features(window)[0, :, feature, feature, feature].square().sum()
    (gradient,) = torch.autograd.grad(score, window)
    weight = gradient[0, 0].square()
    weight = weight / weight.sum()
    for axis in range(3):
        along = weight.sum(tuple(a for a in range(3) if a != axis))
        centre = float((along * torch.arange(17)).sum())
        assert abs(centre - voxel) < 0.75


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    window=st.tuples(*[st.integers(2, 6)] * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.6]),
)
def test_windows_blend_to_the_volume_they_were_cut_from(shape, window, overlap):
    image = noise(2, *shape)
    grid = WindowGrid(image, window, position=True, overlap=overlap)
    parts = [(start, grid.read(start, torch.device("cpu"))[0]) for start in grid.starts]
    for channel in (0, 1):
        blend = WindowBlend(grid)
        for start, part in parts:
            blend.add(start, part[channel])
        torch.testing.assert_close(blend.result(), image[channel], rtol=1e-4, atol=1e-4)
    padded = grid.pad(image[0])
    torch.testing.assert_close(grid.crop(padded), image[0])
    assert padded.abs().sum() == pytest.approx(float(image[0].abs().sum()), rel=1e-4)
    for start, part in parts:
        inside = padded[grid.place(start)]
        assert torch.equal(inside[inside != 0], part[0][inside != 0])
    for axis, size in enumerate(window):
        starts = sorted({start[axis] for start in grid.starts})
        mirrored = sorted(max(starts) - start for start in starts)
        assert np.abs(np.subtract(starts, mirrored)).max() <= 1
        assert starts[-1] + size == max(shape[axis], size)


def test_there_are_eight_mirror_images():
    assert list(mirrorings(all_axes=False)) == [()]
    images = list(mirrorings(all_axes=True))
    assert len(set(images)) == 8
    assert images[0] == ()


@pytest.mark.parametrize("method", CAM_METHODS)
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((16, 16, 16), UNIT), ((21, 18, 25), UNIT), ((5, 16, 17), UNIT), ((9, 23, 20), (2.0, 0.8, 1.0))],
)
def test_a_classifier_s_map_is_on_the_image_s_grid_and_from_0_to_1(method, shape, spacing):
    image = make_volume(shape, bright=[n // 2 for n in shape])
    answer, events = ask(train_small_classifier(), image, spacing=spacing, method=method)
    assert answer.values.shape == shape
    assert answer.values.dtype == np.float32
    assert answer.values.min() >= 0
    assert answer.values.max() == 1
    assert answer.largest > 0
    assert 0 <= answer.score <= 1
    again, _ = ask(train_small_classifier(), image, spacing=spacing, method=method)
    np.testing.assert_array_equal(again.values, answer.values)
    shares = [event.share for event in events if isinstance(event, WorkDone)]
    assert shares == sorted(shares)
    assert shares
    assert 0 <= shares[0] <= shares[-1] <= 1


@pytest.mark.parametrize("method", ON_ANY_NETWORK)
@pytest.mark.parametrize(
    ("architecture", "position"),
    [("unet", False), ("unet", True), ("dynunet", True), ("segresnet", True)],
)
def test_a_segmentation_network_s_map_is_on_the_image_s_grid(method, architecture, position, monkeypatch):
    monkeypatch.setattr(cam, "_OCCLUSION_OPERATIONS", {"cpu": 1.0})
    patch = 16 if architecture == "segresnet" else 12
    model = make_model(architecture, position=position, channels=2, patch=patch)
    image = np.concatenate([make_volume((17, 12, 9), bright=(8, 5, 4)), make_volume((17, 12, 9), seed=1)])
    answer, _ = ask(model, image, DARK, method=method)
    assert answer.values.shape == (17, 12, 9)
    assert answer.values.max() in (0, 1)
    assert 0 <= answer.score <= 1


@pytest.mark.parametrize("method", ["cam", "grad_cam", "grad_cam_pp", "occlusion"])
@pytest.mark.parametrize(("label", "shift"), [(BRIGHT, (0, 0, 0)), (BRIGHT, (6, 4, 2)), (DARK, (2, 6, 4))])
def test_the_map_is_highest_at_the_object(method, label, shift):
    places = [(7 + shift[0], 8 + shift[1], 7 + shift[2]), (17, 17, 18)]
    image = make_volume((24, 24, 24), *(places if label == BRIGHT else reversed(places)), seed=5)
    answer, _ = ask(train_small_classifier(), image, label, method=method, occlusion_share=0.3)
    highest = np.unravel_index(answer.values.argmax(), answer.values.shape)
    assert max(abs(np.subtract(highest, places[0]))) <= 3
    assert answer.score > 0.8


@pytest.mark.parametrize("method", sorted(set(CAM_METHODS) - {"smooth_saliency"}))
def test_with_mirror_images_the_mirrored_volume_has_the_mirrored_map(method):
    image = make_volume((16, 16, 16), bright=(5, 6, 7))
    answer, _ = ask(train_small_classifier(), image, method=method, flips=True)
    mirrored, _ = ask(train_small_classifier(), image[:, ::-1, :, ::-1], method=method, flips=True)
    np.testing.assert_allclose(mirrored.values[::-1, :, ::-1], answer.values, atol=1e-3)


def test_several_scales_see_the_same_place_from_further_and_nearer():
    image = make_volume((24, 24, 24), bright=(7, 8, 9))
    single, _ = ask(train_small_classifier(), image)
    several, _ = ask(train_small_classifier(), image, several_scales=True)
    assert not np.allclose(several.values, single.values)
    assert np.corrcoef(single.values.ravel(), several.values.ravel())[0, 1] > 0.7


def test_refined_maps_follow_the_image():
    image = make_volume((20, 20, 20), bright=(9, 9, 9), size=7)
    truth = np.zeros((20, 20, 20), bool)
    truth[6:13, 6:13, 6:13] = True
    plain, _ = ask(train_small_classifier(), image)
    refined, events = ask(train_small_classifier(), image, refine=True)
    assert refined.values.max() == 1
    assert refined.values.min() >= 0

    def contrast(values):
        return values[truth].mean() - values[~truth].mean()

    assert contrast(refined.values) > contrast(plain.values)
    assert any("edges" in event.words for event in events if isinstance(event, WorkDone))


@pytest.mark.parametrize("method", CAM_METHODS)
def test_a_constant_image_has_a_defined_map(method):
    answer, events = ask(train_small_classifier(), np.full((1, 16, 16, 16), 3.0, np.float32), method=method)
    assert np.isfinite(answer.values).all()
    assert answer.values.max() in (0, 1)
    assert ("0 everywhere" in notes(events)) == (answer.values.max() == 0)


@pytest.mark.parametrize("method", CAM_METHODS)
def test_a_network_that_sees_nothing_gives_an_empty_map_and_says_so(method):
    blind = with_weights(make_classifier(), lambda n, t: torch.zeros_like(t) if n.startswith("head") else t)
    answer, events = ask(blind, make_volume(), method=method, refine=True)
    assert not answer.values.any()
    assert answer.largest == 0
    assert answer.score == 0.5
    assert "speaks for bright" in notes(events)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (1, 30, 30)])
@pytest.mark.parametrize("make", [make_classifier, make_model])
def test_tiny_and_flat_volumes_have_maps(shape, make):
    answer, _ = ask(make(), make_volume(shape), method="grad_cam")
    assert answer.values.shape == shape


def test_a_voxel_of_a_segmentation_network_is_asked_about():
    model = make_model()
    image = make_volume((40, 20, 20))
    answer, _ = ask(model, image, voxel=(33, 4, 12), method="saliency")
    other, _ = ask(model, image, voxel=(20, 14, 6), method="saliency")
    highest = np.unravel_index(answer.values.argmax(), answer.values.shape)
    assert max(abs(np.subtract(highest, (33, 4, 12)))) <= 3
    assert not answer.values[:20].any()
    assert not np.array_equal(answer.values, other.values)


def test_a_voxel_of_a_classifier_has_a_window_round_it():
    answer, _ = ask(train_small_classifier(), make_volume((40, 20, 20), (33, 8, 9)), voxel=(32, 8, 8))
    assert answer.values[33, 8, 9] > 0.5
    assert not answer.values[:20].any()


@pytest.mark.parametrize(("spacing", "first"), [(UNIT, 42), ((0.5, 0.8, 1.0), 28)])
def test_a_refined_map_of_a_voxel_stays_in_its_window(spacing, first):
    image = make_volume((60, 20, 20), bright=(50, 8, 9))
    plain, _ = ask(train_small_classifier(), image, voxel=(50, 8, 8), spacing=spacing)
    refined, _ = ask(train_small_classifier(), image, voxel=(50, 8, 8), spacing=spacing, refine=True)
    assert plain.values[first:].max() == 1
    assert refined.values[first:].max() == 1
    assert not plain.values[:first].any()
    assert not refined.values[:first].any()
    assert not np.array_equal(plain.values, refined.values)


@pytest.mark.parametrize("make", [make_classifier, make_model])
@pytest.mark.parametrize("method", ["saliency", "occlusion"])
def test_a_network_that_answers_with_nan_is_told(make, method):
    broken = with_weights(make(), lambda _, tensor: torch.full_like(tensor, math.nan))
    with pytest.raises(InputError, match="not finite numbers"):
        ask(broken, make_volume(), method=method)


def test_a_class_that_was_not_learnt_has_no_map():
    classifier = with_summary(train_small_classifier(), learnt=["bright"])
    assert ask(classifier, make_volume(), BRIGHT)[0].largest > 0
    with pytest.raises(InputError, match="has not learnt dark: say in which slices it is"):
        ask(classifier, make_volume(), DARK)


def biased(model, channel):
    """Return `model` so that it gives all voxels to `channel`."""
    last = [n for n in model.weights if n.endswith("bias") and model.weights[n].shape == (3,)][-1]
    more = 100 * torch.nn.functional.one_hot(torch.tensor(channel), 3)
    return with_weights(model, lambda name, tensor: tensor + more if name == last else tensor)


@pytest.mark.parametrize("architecture", ["dynunet", "segresnet"])
def test_a_class_that_no_voxel_was_given_to_is_said_so(architecture):
    model = make_model(architecture, patch=12 if architecture == "dynunet" else 16)
    absent, events = ask(biased(model, 2), make_volume(), BRIGHT)
    assert "gives no voxel to bright" in notes(events)
    assert absent.score < 0.01
    present, events = ask(biased(model, 1), make_volume(), BRIGHT)
    assert "gives no voxel" not in notes(events)
    assert present.score > 0.99


def test_a_fine_volume_is_mapped_on_the_network_s_grid():
    fine = make_volume((32, 32, 32), bright=(12, 14, 16), size=11)
    answer, _ = ask(train_small_classifier(), fine, spacing=(0.5, 0.5, 0.5))
    assert answer.values.shape == (32, 32, 32)
    highest = np.unravel_index(answer.values.argmax(), answer.values.shape)
    assert max(abs(np.subtract(highest, (12, 14, 16)))) <= 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": 4}, "no class 4"),
        ({"label": 1}, "no class 1"),
        ({"image": make_volume().repeat(2, 0)}, "1 channels"),
        ({"image": make_volume()[0]}, "channels"),
        ({"voxel": (0, 16, 0)}, "outside"),
        ({"spacing": (9.0, 9.0, 9.0)}, "voxel size"),
        ({"level": 5}, "no level 5"),
        ({"level": 1, "method": "cam"}, "choose grad_cam"),
    ],
)
def test_mistakes_are_told_in_a_sentence(changes, words):
    values = {"image": make_volume(), **changes}
    with pytest.raises(InputError, match=words):
        ask(make_classifier(), **values)


def test_cam_is_not_for_segmentation_networks():
    with pytest.raises(InputError, match="choose grad_cam"):
        ask(make_model(), make_volume(), method="cam")


def test_a_segmentation_network_has_all_its_levels():
    model = make_model()
    maps = [ask(model, make_volume(), level=level)[0].values for level in (0, 1, 2, 3, 4)]
    np.testing.assert_array_equal(maps[0], maps[4])
    assert not np.array_equal(maps[1], maps[2])
    with pytest.raises(InputError, match="no level 5"):
        ask(model, make_volume(), level=5)


def test_the_subject_is_left_as_it_was():
    for subject in (make_classifier(), make_model()):
        before = {name: tensor.clone() for name, tensor in subject.weights.items()}
        ask(subject, make_volume(), method="grad_cam", flips=True)
        assert all(torch.equal(subject.weights[name], tensor) for name, tensor in before.items())
        assert all(not tensor.requires_grad for tensor in subject.weights.values())


def test_maps_can_be_ended_between_windows():
    work = map_class(
        make_classifier(), make_volume((40, 40, 40)), UNIT, 2, CamConfig(method="smooth_saliency")
    )
    for _ in range(40):
        assert isinstance(next(work), WorkDone)
    work.close()


def test_the_cpu_steps_in_for_a_small_gpu(monkeypatch):
    calls = []
    real = cam.open_volume

    def fail_once(*arguments, **named):
        calls.append(named["device"])
        if len(calls) == 1:
            raise torch.cuda.OutOfMemoryError
        return real(*arguments, **named)

    monkeypatch.setattr(cam, "open_volume", fail_once)
    answer, events = ask(train_small_classifier(), make_volume(bright=(8, 8, 8)))
    assert "GPU" in notes(events)
    assert answer.values.max() == 1


def test_coarser_occlusion_is_told(monkeypatch):
    monkeypatch.setattr(cam, "_OCCLUSION_OPERATIONS", {"cpu": 1.0})
    image = make_volume((20, 20, 20), bright=(9, 9, 9))
    answer, events = ask(train_small_classifier(), image, method="occlusion", occlusion_share=0.1)
    assert "would take too long" in notes(events)
    assert answer.values.max() == 1


def test_the_methods_are_those_that_the_settings_name():
    assert tuple(CAM_METHODS) == settings.CAM_METHODS
    assert len(TABLE) == 3
