from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from phantoms import TABLE, label_slices, make_image, make_truth
from torch import nn

from napari_sparseseg import linear_probe
from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
from napari_sparseseg.encoders import Encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import WorkDone, finish
from napari_sparseseg.linear_probe import probe_cases, probe_encoder, random_encoder, sample_level
from napari_sparseseg.networks import NetworkPlan
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.settings import NetworkConfig

PLAN = NetworkPlan((8, 16, 8), ((1, 1, 1), (2, 2, 2)), ((3, 3, 3),) * 2)
CUBE = (1.0, 1.0, 1.0)
TRUTH = make_truth(20)
SPARSE = label_slices(TRUTH, axial=(6, 9, 12))
DENSE = (TRUTH + 1).astype(np.uint8)


class Indicator(nn.Module):
    """Two features: whether the intensity is near 1, and near 2."""

    def forward(self, x):
        return torch.cat([(x - value).abs() < 0.4 for value in (1, 2)], dim=1).float()


class Noise(nn.Module):
    """Three features that have nothing to do with the image."""

    def forward(self, x):
        generator = torch.Generator().manual_seed(0)
        return torch.randn(len(x), 3, *x.shape[2:], generator=generator)


@dataclass(frozen=True, eq=False)
class HandMade(EncoderCheckpoint):
    """A checkpoint whose encoder is given, not described."""

    encoder: Encoder = None

    def build(self):
        return self.encoder


def hand_made(*stages, strides=((1, 1, 1),), channels=(2,), spacing=CUBE, window=(0.0, 2.0, 0.0, 1.0)):
    encoder = Encoder(stages, strides, channels)
    normalisation = Normalisation((window,))
    return HandMade("hand", NetworkConfig(), PLAN, 1, spacing, normalisation, {}, {}, encoder)


def flat_image(truth=TRUTH):
    return truth[None].astype(np.float32)


def repeat(array, axis):
    return np.repeat(array, 2, axis)


def test_features_that_are_the_classes_give_full_marks():
    encoder = hand_made(Indicator())
    probe = finish(probe_encoder(encoder, flat_image(), CUBE, SPARSE, TABLE, test=DENSE))
    assert probe.dice == 1
    assert probe.per_class == {"ball": 1.0, "cube": 1.0}


def test_a_volume_smaller_than_a_window_is_continued():
    roomy = replace(hand_made(Indicator()), plan=replace(PLAN, patch=(32, 8, 30)))
    assert finish(probe_encoder(roomy, flat_image(), CUBE, SPARSE, TABLE, test=DENSE)).dice == 1


def test_features_of_noise_are_about_chance():
    encoder = hand_made(Noise(), channels=(3,))
    probe = finish(probe_encoder(encoder, flat_image(), CUBE, SPARSE, TABLE, test=DENSE))
    unlabelled = SPARSE == 0
    shares = [(TRUTH[unlabelled] == channel).mean() for channel in (1, 2)]
    guess = np.mean([2 * share / 3 / (share + 1 / 3) for share in shares])  # each class a third of the time
    assert probe.dice == pytest.approx(guess, abs=0.1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_another_spacing_is_brought_to_the_encoders(axis):
    spacing = tuple(0.5 if a == axis else 1.0 for a in range(3))
    fine, labels, dense = (repeat(array, axis) for array in (TRUTH, SPARSE, DENSE))
    seen = []

    class Spy(Indicator):
        def forward(self, x):
            seen.append(x.shape[2:])
            return super().forward(x)

    probe = finish(probe_encoder(hand_made(Spy()), flat_image(fine), spacing, labels, TABLE, test=dense))
    assert probe.dice > 0.97  # between two voxels of the coarser grid lies half a feature
    finish(probe_encoder(hand_made(Spy()), flat_image(), CUBE, SPARSE, TABLE, test=DENSE))
    assert set(seen) == {PLAN.patch}
    assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]  # as many windows as at the encoder's own spacing


def test_the_coarse_levels_are_read_where_they_belong():
    z, y, x = torch.meshgrid(*[torch.arange(n).float() for n in (4, 6, 5)], indexing="ij")
    features = torch.stack([z * 2, y, x * 4])[None]  # the place on the input's grid
    places = torch.tensor([[0.0, 0.0, 0.0], [3.5, 2.25, 9.0], [6.0, 5.0, 16.0], [20.0, 20.0, 20.0]])
    expected = torch.minimum(places, torch.tensor([6.0, 5.0, 16.0]))
    assert torch.allclose(sample_level(features, (2, 1, 4), places), expected, atol=1e-5)
    thin = sample_level(features[:, :, :1], (2, 1, 4), places)
    assert torch.allclose(thin[:, 1:], expected[:, 1:], atol=1e-5)
    assert (thin[:, 0] == 0).all()


def spy_on_voxels(monkeypatch):
    """Return the images and voxels that features were read at, as they come; fitted ones come first."""
    seen = []
    read = linear_probe._FeatureReader.read

    def noting(self, image, spacing, voxels, *job):
        seen.append((id(image), set(voxels.tolist())))
        return read(self, image, spacing, voxels, *job)

    monkeypatch.setattr(linear_probe._FeatureReader, "read", noting)
    return seen


@pytest.mark.parametrize("kind", ["held out", "mask", "annotation"])
def test_it_is_never_fitted_to_what_it_is_measured_on(monkeypatch, kind):
    seen = spy_on_voxels(monkeypatch)
    mask = np.zeros(TRUTH.shape, bool)
    mask[9] = True
    test = {"held out": None, "mask": mask, "annotation": DENSE}[kind]
    finish(probe_encoder(hand_made(Indicator()), flat_image(), CUBE, SPARSE, TABLE, test=test))
    (_, fitted), (_, tested) = seen
    labelled = set(np.flatnonzero(SPARSE).tolist())
    assert fitted
    assert tested
    assert not fitted & tested
    assert fitted <= labelled
    if kind == "annotation":
        assert tested == set(np.flatnonzero(SPARSE == 0).tolist())
    else:
        assert fitted | tested == labelled
    if kind == "mask":
        assert {voxel // 400 for voxel in tested} == {9}


def test_few_voxels_are_fitted_to_and_rare_classes_are_not_lost(monkeypatch):
    monkeypatch.setattr(linear_probe, "_FITTED", 60)
    monkeypatch.setattr(linear_probe, "_TESTED", 500)
    seen = spy_on_voxels(monkeypatch)
    probe = finish(probe_encoder(hand_made(Indicator()), flat_image(), CUBE, SPARSE, TABLE, test=DENSE))
    (_, fitted), (_, tested) = seen
    assert np.bincount(SPARSE.reshape(-1)[sorted(fitted)]).tolist() == [0, 20, 20, 20]
    assert len(tested) == 500
    assert probe.dice == 1


def test_several_volumes_are_fitted_together_and_others_measured(monkeypatch):
    seen = spy_on_voxels(monkeypatch)
    truths = [make_truth(size) for size in (18, 20, 19, 18)]
    cases = [(flat_image(truth), CUBE, (truth + 1).astype(np.uint8)) for truth in truths]
    events = []
    probe = finish(probe_cases(hand_made(Indicator()), cases[:2], cases[2:], TABLE), events.append)
    assert probe.dice == 1
    assert [image for image, _ in seen] == [id(image) for image, _, _ in cases]
    shares = [event.share for event in events if isinstance(event, WorkDone)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1


def test_a_class_that_was_not_fitted_to_counts_as_missed():
    only_ball = np.where(SPARSE == 3, 0, SPARSE)
    probe = finish(probe_encoder(hand_made(Indicator()), flat_image(), CUBE, only_ball, TABLE, test=DENSE))
    assert probe.per_class["cube"] == 0
    assert probe.per_class["ball"] == 1


def test_what_cannot_be_measured_is_refused():
    encoder, image = hand_made(Indicator()), flat_image()
    one_class = np.where(SPARSE > 1, 0, SPARSE)
    one_stroke = np.zeros_like(SPARSE)
    one_stroke[9, 5, 5:8] = 1
    for annotation, test, words in (
        (SPARSE * 0, None, "no labels of a class"),
        (one_stroke, None, "no labels of a class"),
        (SPARSE, SPARSE, "no labels of a class"),
        (one_class, DENSE, "fewer than two"),
        (SPARSE, DENSE[:-1], "shape"),
        (SPARSE[:-1], None, "shape"),
        (SPARSE * 2, None, "class table"),
    ):
        with pytest.raises(InputError, match=words):
            finish(probe_encoder(encoder, image, CUBE, annotation, TABLE, test=test))
    with pytest.raises(InputError, match="channels"):
        finish(probe_encoder(encoder, np.concatenate([image, image]), CUBE, SPARSE, TABLE))


def test_an_encoder_with_random_weights_is_like_the_other_one():
    image = make_image(TRUTH)
    first = random_encoder(NetworkConfig(), image, CUBE)
    again, other = random_encoder(NetworkConfig(), first), random_encoder(NetworkConfig(), first, seed=1)
    assert again.plan == first.plan
    assert again.normalisation == first.normalisation
    assert all(torch.equal(tensor, again.weights[name]) for name, tensor in first.weights.items())
    assert any(not torch.equal(tensor, other.weights[name]) for name, tensor in first.weights.items())
    few = {name: t for name, t in first.weights.items() if name.startswith(("stages.0.", "stages.1."))}
    shallow = random_encoder(NetworkConfig(), replace(first, task="classifier", weights=few))
    assert set(shallow.weights) == set(few)


def test_a_real_encoder_of_few_levels_tells_classes_apart():
    image = make_image(TRUTH, noise=0.1)
    whole = random_encoder(NetworkConfig(), image, CUBE)
    few = {name: t for name, t in whole.weights.items() if name.startswith(("stages.0.", "stages.1."))}
    classifier = replace(whole, task="classifier", weights=few)
    assert len(classifier.build().channels) == 2
    before = torch.random.get_rng_state()
    first, again = (
        finish(probe_encoder(classifier, image, CUBE, SPARSE, TABLE, test=DENSE)) for _ in range(2)
    )
    assert first == again
    assert first.dice > 0.6
    assert torch.equal(torch.random.get_rng_state(), before)
