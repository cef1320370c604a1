from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms_ssl import make_sources, run_pretraining, short_pretraining
from scipy import ndimage
from torch import nn

from napari_sparseseg.events import PretextScored
from napari_sparseseg.gradient_reversal import reverse_gradient
from napari_sparseseg.networks import NetworkPlan
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.phantoms import generate_phantom, measure_surface
from napari_sparseseg.pretext import TaskContext
from napari_sparseseg.pretext_synthetic import (
    SyntheticTask,
    contour_loss,
    normal_loss,
    pool_features,
)
from napari_sparseseg.pretraining_settings import PretextConfig
from napari_sparseseg.settings import NetworkConfig
from napari_sparseseg.volume_pool import ReadVolume, VolumePool, VolumeSource

PLAN = NetworkPlan((16, 16, 16), ((1, 1, 1), (2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3)
CROP = (16, 16, 16)
CUBE = (1.0, 1.0, 1.0)
spacings = st.tuples(*[st.floats(0.5, 8.0)] * 3)
shapes = st.tuples(st.integers(1, 12), st.integers(2, 12), st.integers(2, 12))


def make_pool(sources, channels=1, spacing=CUBE):
    normalisation = Normalisation((None,) * channels)
    pool = VolumePool(sources, [20**3] * len(sources), normalisation, spacing, CROP, 100, 0)
    pool.turn(0)
    return pool


def make_task(domain=0.1, channels=1, spacing=CUBE, batch_size=6):
    torch.manual_seed(0)
    config, network = PretextConfig(domain=domain), NetworkConfig()
    return SyntheticTask(
        TaskContext(config, network, PLAN, channels, spacing, CROP, CROP, CROP, batch_size, 3, 0, is_ct=False)
    )


@given(st.integers(0, 2**31), shapes, spacings, st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_phantoms_know_their_surfaces_in_mm(seed, shape, spacing, channels):
    phantom = generate_phantom(np.random.default_rng(seed), shape, spacing, channels)
    assert phantom.image.shape == (channels, *shape)
    assert phantom.image.dtype == phantom.distance.dtype == phantom.normal.dtype == np.float32
    assert np.isfinite(phantom.image).all()
    assert np.linalg.norm(phantom.normal, axis=0) == pytest.approx(1, abs=1e-4)
    assert (phantom.distance[phantom.inside] <= 0).all()
    assert (phantom.distance[~phantom.inside] > 0).all()
    assert np.array_equal(phantom.distance == 0, phantom.contour)


@given(st.integers(0, 2**31), shapes, spacings)
@settings(max_examples=25, deadline=None)
def test_distance_is_that_to_the_nearest_surface_voxel(seed, shape, spacing):
    inside = np.random.default_rng(seed).random(shape) < 0.3
    distance, contour = measure_surface(inside, spacing)
    if not contour.any():
        assert np.isinf(distance).all()
        return
    places = np.argwhere(np.ones(shape)) * spacing
    surface = np.argwhere(contour) * spacing
    nearest = np.linalg.norm(places[:, None] - surface[None], axis=2).min(1).reshape(shape)
    assert np.where(inside, -nearest, nearest) == pytest.approx(distance, rel=1e-5, abs=1e-5)


@given(st.integers(0, 2**31), shapes)
@settings(max_examples=25, deadline=None)
def test_contour_is_one_voxel_thick(seed, shape):
    inside = np.random.default_rng(seed).random(shape) < 0.6
    contour = measure_surface(inside, CUBE)[1]
    padded = np.pad(inside, 1, constant_values=True)  # objects go on beyond the border
    outside_near = np.zeros(shape, bool)
    for axis in range(3):
        for step in (-1, 1):
            outside_near |= ~np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    assert np.array_equal(contour, inside & outside_near)


def test_objects_are_round_in_mm_whatever_the_voxels():
    random = np.random.default_rng(0)
    lengths = []
    for _ in range(30):
        inside = generate_phantom(random, (8, 40, 40), (5.0, 1.0, 1.0), 1).inside
        parts, count = ndimage.label(inside)
        for part in range(1, count + 1):
            where = np.argwhere(parts == part)
            if where.min() > 0 and (where.max(0) < (7, 39, 39)).all():
                lengths.append((np.ptp(where, axis=0) + 1) * (5.0, 1.0, 1.0))
    z, y, x = np.mean(lengths, axis=0)
    assert len(lengths) > 5
    assert 0.6 < z / y < 1.8
    assert 0.6 < x / y < 1.6


def test_normals_look_outward_where_the_distance_grows():
    cosines = []
    for seed in range(5):
        phantom = generate_phantom(np.random.default_rng(seed), (24, 24, 24), (2.0, 1.0, 1.0), 1)
        slopes = np.stack(np.gradient(ndimage.gaussian_filter(phantom.distance, 0.7), 2.0, 1.0, 1.0))
        slopes /= np.linalg.norm(slopes, axis=0) + 1e-6
        cosines.append((slopes * phantom.normal).sum(0)[phantom.contour].mean())
    assert np.mean(cosines) > 0.8


def test_phantoms_differ_and_the_same_numbers_make_the_same_one():
    first, again, other = (generate_phantom(np.random.default_rng(s), CROP, CUBE, 2) for s in (1, 1, 2))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.distance, again.distance)
    assert not np.array_equal(first.inside, other.inside)
    assert not np.allclose(first.image[0], first.image[1], atol=0.1)


@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0])
def test_a_reversed_gradient_has_the_other_sign(weight):
    values = torch.randn(4, 3, requires_grad=True)
    factor = torch.randn(4, 3)
    reversed_values = reverse_gradient(values, weight)
    assert torch.equal(reversed_values, values)
    (reversed_values * factor).sum().backward()
    assert torch.allclose(values.grad, -weight * factor)


def test_losses_are_what_they_are_called():
    random = torch.Generator().manual_seed(0)
    predicted, true = (torch.randn(2, 3, 2, 3, 2, generator=random) for _ in range(2))
    true[:, :, 0] = 0
    terms = []
    for b, z, y, x in np.ndindex(2, 2, 3, 2):
        u, v = predicted[b, :, z, y, x], true[b, :, z, y, x]
        if v.norm() > 0:
            terms.append(1 - float(u @ v / (u.norm() * v.norm())))
    assert float(normal_loss(predicted, true)) == pytest.approx(np.mean(terms), abs=1e-5)
    logits = torch.randn(2, 1, 2, 3, 2, generator=random)
    contour = (torch.rand(logits.shape, generator=random) < 0.2).float()
    chances = logits.sigmoid()
    expected = -(chances[contour == 1].log().mean() + (1 - chances[contour == 0]).log().mean()) / 2
    assert float(contour_loss(logits, contour)) == pytest.approx(float(expected), abs=1e-5)
    assert float(normal_loss(predicted, torch.zeros_like(true))) == 0
    assert torch.isfinite(contour_loss(logits, torch.zeros_like(contour)))


def test_it_learns(few_checks):
    config = short_pretraining("synthetic", steps=50, batch_size=4)
    encoder, events = run_pretraining(make_sources(4), config)
    scores = [event for event in events if isinstance(event, PretextScored)]
    assert scores[-1].figure == "error"
    assert scores[-1].value < 0.9 * scores[-1].trivial
    assert encoder.task == "synthetic"


def test_the_trivial_answer_is_the_best_constant():
    task, pool = make_task(domain=0).eval(), make_pool(make_sources(2))
    with torch.no_grad():
        batch = task.draw(pool, np.random.default_rng(0))
        outcome = task.learn(batch)
    truth = batch["distance"] * task.reach
    errors = [float((truth - constant).square().mean().sqrt()) for constant in np.linspace(-3, 3, 601)]
    assert float(outcome.trivial) == pytest.approx(min(errors), abs=1e-3)


def test_half_of_the_pieces_are_real_and_the_others_look_as_bright():
    task, pool = make_task(channels=2), make_pool(make_sources(2, channels=2), channels=2)
    batch = task.draw(pool, np.random.default_rng(0))
    assert batch["generated"].shape == batch["real"].shape == (3, 2, *CROP)
    assert torch.allclose(batch["generated"].mean((2, 3, 4)), batch["real"].mean((2, 3, 4)), atol=1e-3)
    assert all(tensor.dtype == torch.float32 for tensor in batch.values())
    assert batch["distance"].abs().max() <= 1
    near = batch["normal"].norm(dim=1) > 0
    assert near.any()
    assert not near.all()
    task.context = replace(task.context, batch_size=3)  # as when a GPU's memory was too small
    smaller = task.draw(pool, np.random.default_rng(0))
    assert len(smaller["generated"]) == 2
    assert len(smaller["real"]) == 1
    assert torch.isfinite(task.learn(smaller).loss)


def make_stripes(number):
    def read():
        image = np.random.default_rng(number).normal(0, 0.05, (1, 20, 20, 20)).astype(np.float32)
        image[:, :, :, ::2] += 1
        return ReadVolume(image, CUBE)

    return VolumeSource(f"stripes {number}", read)


def domain_accuracy(domain, steps=45):
    """Return how often the classifier, in the last third of a training, knows generated from real pieces."""
    task, pool = make_task(domain), make_pool([make_stripes(number) for number in range(3)])
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
    correct = []
    for step in range(steps):
        batch = task.draw(pool, np.random.default_rng(step))
        with torch.no_grad():
            features = task.encoder(torch.cat([batch["generated"], batch["real"]]))[-1]
            says_real = task.critic(pool_features(features))[:, 0] > 0
        correct.append(float((says_real == (torch.arange(6) >= 3)).float().mean()))
        optimizer.zero_grad()
        task.learn(batch).loss.backward()
        nn.utils.clip_grad_norm_(task.parameters(), 5.0)
        optimizer.step()
    return np.mean(correct[-steps // 3 :])


def test_the_domain_term_hides_what_is_generated():
    assert domain_accuracy(1e-6) > 0.85  # the classifier learns, and the encoder hardly notices
    assert domain_accuracy(0.3) < 0.75


def test_without_the_domain_term_there_is_no_classifier():
    task, pool = make_task(domain=0), make_pool(make_sources(2))
    assert task.critic is None
    batch = task.draw(pool, np.random.default_rng(0))
    other = {**batch, "real": torch.randn_like(batch["real"])}
    assert torch.equal(task.learn(batch).loss, task.learn(other).loss)


def test_the_pictures_have_the_shape_of_a_piece():
    task, pool = make_task(spacing=(4.0, 1.0, 1.0)), make_pool(make_sources(2))
    with torch.no_grad():
        pictures = task.picture(task.draw(pool, np.random.default_rng(0)))
    assert [picture.name for picture in pictures][:3] == ["input", "target", "prediction"]
    assert all(picture.image.shape == CROP and picture.image.dtype == np.float32 for picture in pictures)
