"""The check whether a class map depends on what was learnt."""

import math

import numpy as np
import pytest
import torch
from cam_phantoms import (
    BRIGHT,
    DARK,
    make_classifier,
    make_model,
    make_volume,
    train_small_classifier,
    with_summary,
    with_weights,
)

from napari_sparseseg import cam_check
from napari_sparseseg.cam import CAM_METHODS
from napari_sparseseg.cam_check import check_map, randomise_weights, rank_correlation
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Noted, WorkDone, finish
from napari_sparseseg.settings import CamConfig

UNIT = (1.0, 1.0, 1.0)
MEASURED = {"held_out": {"auc": {"bright": 0.95, "dark": 0.52}}}


def check(subject, image, label=BRIGHT, method="grad_cam", **named):
    events = []
    config = CamConfig(method=method, smooth_runs=2, occlusion_share=0.5)
    work = check_map(subject, image, UNIT, label, config, device="cpu", **named)
    return finish(work, events.append), events


@pytest.fixture
def image():
    return make_volume((20, 20, 20), bright=(6, 7, 8), dark=(14, 13, 14), seed=5)


@pytest.mark.parametrize("method", ["cam", "grad_cam", "grad_cam_pp", "occlusion"])
@pytest.mark.parametrize("label", [BRIGHT, DARK])
def test_the_map_of_a_trained_network_depends_on_its_training(method, label, image):
    measured = {"held_out": {"auc": {"bright": 0.9, "dark": 0.8}}}
    answer, events = check(with_summary(train_small_classifier(), **measured), image, label, method)
    assert answer.depends
    assert 0 <= answer.similarity < 0.4
    assert "depends on what was learnt" in answer.text
    assert f"similarity {answer.similarity:.2f}; AUC {0.9 if label == BRIGHT else 0.8:.2f}" in answer.text
    shares = [event.share for event in events if isinstance(event, WorkDone)]
    assert shares == sorted(shares)
    assert shares[-1] <= 1


def test_a_network_that_was_measured_to_guess_does_not_pass(image):
    untrained = with_summary(make_classifier(), held_out={"auc": {"bright": 0.5, "dark": 0.6}})
    answer, _ = check(untrained, image, BRIGHT)
    assert not answer.depends
    assert answer.text == (
        "The network answers hardly better than guessing for bright (AUC 0.50 on parts kept aside), so its "
        "map tells nothing; give more labels or let it learn longer."
    )
    assert check(untrained, image, DARK)[0].depends
    model = with_summary(make_model(patch=12), held_out_dice={"network": 0.12, "both": 0.9})
    answer, _ = check(model, make_volume((12, 12, 12)), method="saliency")
    assert not answer.depends
    assert "hardly finds the classes (Dice 0.12" in answer.text


@pytest.mark.parametrize("summary", [{}, {"held_out": {}}, {"held_out": {"auc": {"dark": 0.4}}}])
def test_where_nothing_was_held_out_it_is_said_that_this_was_not_measured(image, summary):
    answer, _ = check(with_summary(train_small_classifier(), **summary), image)
    assert answer.depends
    assert "How well the network learnt was not measured" in answer.text
    assert "what was learnt" not in answer.text


@pytest.mark.parametrize("make", [train_small_classifier, make_model])
def test_a_method_that_follows_edges_is_found_out(make, image, monkeypatch):
    def follow_edges(question, config):
        def look(window):
            yield 0.0
            z, y, x = torch.gradient(window[0, 0])
            return (z**2 + y**2 + x**2).sqrt()

        return look

    monkeypatch.setitem(CAM_METHODS, "saliency", follow_edges)
    answer, _ = check(with_summary(make(), **MEASURED), image, method="saliency")
    assert not answer.depends
    assert answer.similarity > 0.9
    assert answer.text.startswith("Do not trust this map")


@pytest.mark.parametrize("make", [make_classifier, make_model])
@pytest.mark.parametrize("method", ["saliency", "occlusion"])
def test_a_network_that_answers_with_nan_does_not_pass(make, method):
    broken = with_weights(make(), lambda _, tensor: torch.full_like(tensor, math.nan))
    answer, _ = check(with_summary(broken, **MEASURED), make_volume(), method=method)
    assert not answer.depends
    assert "not finite numbers" in answer.text


def blank(network, _seed=0):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()


def test_random_networks_without_a_map_are_left_out(image, monkeypatch):
    found = []

    def correlate(first, second):
        found.append(rank_correlation(first, second))
        return found[-1]

    monkeypatch.setattr(cam_check, "rank_correlation", correlate)
    monkeypatch.setattr(
        cam_check, "randomise_weights", lambda network, seed: blank(network) if seed > 1 else 0
    )
    answer, _ = check(train_small_classifier(), image)
    assert found == [pytest.approx(1), None, None]
    assert answer.similarity == pytest.approx(1)
    monkeypatch.setattr(cam_check, "randomise_weights", blank)
    answer, _ = check(train_small_classifier(), image)
    assert not answer.depends
    assert answer.text.startswith("This check tells nothing")


def test_a_map_that_is_the_same_everywhere_has_a_sentence_of_its_own():
    answer, _ = check(train_small_classifier(), make_volume((1, 1, 1), bright=(0, 0, 0)), method="saliency")
    assert not answer.depends
    assert "the same everywhere" in answer.text


def test_a_class_that_was_not_learnt_is_told(image):
    with pytest.raises(InputError, match="has not learnt dark"):
        check(with_summary(train_small_classifier(), learnt=["bright"]), image, DARK)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_map_that_random_weights_do_not_change_is_not_to_be_trusted(image, monkeypatch, seed):
    monkeypatch.setattr(cam_check, "randomise_weights", lambda *_: None)
    answer, _ = check(train_small_classifier(), image, seed=seed)
    assert answer.similarity == pytest.approx(1)
    assert not answer.depends
    assert answer.text.startswith("Do not trust this map")
    assert "1.00" in answer.text


def test_an_empty_map_has_a_sentence_of_its_own(image):
    blind = with_weights(make_classifier(), lambda n, t: torch.zeros_like(t) if n.startswith("head") else t)
    for method in CAM_METHODS:
        answer, _ = check(blind, image, method=method)
        assert not answer.depends
        assert "0 everywhere" in answer.text


@pytest.mark.parametrize(
    ("architecture", "method"), [("unet", "saliency"), ("unet", "occlusion"), ("dynunet", "grad_cam")]
)
def test_segmentation_networks_are_checked_too(architecture, method):
    model = with_summary(make_model(architecture, patch=12), held_out_dice={"network": 0.9})
    image = make_volume((12, 12, 12), bright=(6, 7, 8))
    answer, _ = check(model, image, method=method)
    assert answer.depends
    assert "Dice 0.90" in answer.text
    # what lies outside the window is 0 in all maps, and shall not make them alike
    near, _ = check(model, make_volume((60, 12, 12)), method=method, voxel=(5, 5, 5))
    assert near.depends


def test_the_same_seed_gives_the_same_answer(image):
    first, _ = check(train_small_classifier(), image, seed=3)
    second, _ = check(train_small_classifier(), image, seed=3)
    assert first == second


@pytest.mark.parametrize("architecture", ["unet", "dynunet", "segresnet"])
def test_random_weights_leave_nothing_of_what_was_learnt(architecture):
    network = make_classifier(architecture).build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(17.0)
    randomise_weights(network, 1)
    assert all((parameter != 17).all() for parameter in network.parameters())
    first = {name: value.clone() for name, value in network.state_dict().items()}
    randomise_weights(network, 1)
    assert all(torch.equal(first[name], value) for name, value in network.state_dict().items())
    randomise_weights(network, 2)
    assert any(not torch.equal(first[name], value) for name, value in network.state_dict().items())


def test_rank_correlation_of_maps():
    values = torch.rand(12, 13, 14, generator=torch.Generator().manual_seed(0))
    assert rank_correlation(values, values**3) == pytest.approx(1)
    assert rank_correlation(values, 1 - values) == pytest.approx(-1)
    assert rank_correlation(values, values.clone().fill_(2)) is None
    assert rank_correlation(values, -values) is None
    assert rank_correlation(values, values.clone().fill_(math.nan)) is None
    large = torch.rand(60, 60, 60, generator=torch.Generator().manual_seed(0))
    other = torch.rand(60, 60, 60, generator=torch.Generator().manual_seed(1))
    assert abs(rank_correlation(large, other)) < 0.02


def test_mistakes_are_told_as_for_maps(image):
    with pytest.raises(InputError, match="no class 9"):
        check(train_small_classifier(), image, 9)
    with pytest.raises(InputError, match="choose grad_cam"):
        check(make_model(), image, method="cam")


def test_the_cpu_steps_in_for_a_small_gpu(monkeypatch, image):
    calls = []
    real = cam_check.open_volume

    def fail_once(*arguments, **named):
        calls.append(named)
        if len(calls) == 1:
            raise torch.cuda.OutOfMemoryError
        return real(*arguments, **named)

    monkeypatch.setattr(cam_check, "open_volume", fail_once)
    answer, events = check(train_small_classifier(), image)
    assert np.isfinite(answer.similarity)
    assert any("GPU" in event.text for event in events if isinstance(event, Noted))
