"""Small networks to ask where they looked, shared by the tests of class maps."""

import functools

import numpy as np
import torch

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.classifier import Classifier, build_classifier
from napari_sparseseg.networks import build_network, plan_network
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.settings import NetworkConfig

TABLE = ClassTable.from_values([3, 5], {3: "bright", 5: "dark"})
BRIGHT, DARK = 2, 3


@functools.cache
def make_classifier(architecture="unet", *, level=2, channels=1, window=16, spacing=(1.0, 1.0, 1.0), seed=0):
    """Return a classifier with random weights."""
    config = NetworkConfig(architecture=architecture)
    plan = plan_network((window,) * 3, spacing, config, window**3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = build_classifier(config, plan, level, channels, TABLE).state_dict()
    return Classifier(
        config, plan, level, channels, TABLE, spacing, _plain(channels), (window,) * 3, weights, {}
    )


@functools.cache
def make_model(architecture="unet", *, channels=1, position=True, patch=16, spacing=(1.0, 1.0, 1.0), seed=0):
    """Return a segmentation network with random weights."""
    config = NetworkConfig(architecture=architecture)
    plan = plan_network((patch,) * 3, spacing, config, patch**3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = build_network(config, plan, channels + 3 * position, len(TABLE)).state_dict()
    return Model(config, plan, channels, position, TABLE, spacing, _plain(channels), weights, {})


def _plain(channels):
    """Return the normalisation that leaves values from -8 to 8 as they are."""
    return Normalisation(((-8.0, 8.0, 0.0, 1.0),) * channels)


def with_weights(subject, change):
    """Return a copy of a network whose weights are ``change(name, tensor)``."""
    weights = {name: change(name, tensor) for name, tensor in subject.weights.items()}
    return type(subject)(**{**vars(subject), "weights": weights})


def with_summary(subject, **summary):
    """Return a copy of a network whose training has recorded `summary`."""
    return type(subject)(**{**vars(subject), "summary": summary})


def make_volume(shape=(16, 16, 16), bright=None, dark=None, seed=0, size=5):
    """Return ``(1, Z, Y, X)`` noise, with a bright and a dark cube centred where told."""
    image = np.random.default_rng(seed).normal(0, 0.3, (1, *shape)).astype(np.float32)
    for centre, value in ((bright, 2.0), (dark, -2.0)):
        if centre is not None:
            image[(0, *(slice(max(0, c - size // 2), c + size // 2 + 1) for c in centre))] += value
    return image


@functools.cache
def train_small_classifier(steps=60):
    """Return a classifier that tells whether a volume shows a bright and a dark cube."""
    classifier = make_classifier(level=1)
    network = classifier.build()
    network.train()
    random = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    for _ in range(steps):
        answers = random.integers(0, 2, (8, 2))
        batch = []
        for row in answers:
            places = random.integers(3, 13, (2, 3))
            bright, dark = (place if there else None for place, there in zip(places, row, strict=True))
            batch.append(make_volume(bright=bright, dark=dark, seed=int(random.integers(10**6))))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            network(torch.from_numpy(np.stack(batch))), torch.from_numpy(answers).float()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = {name: value.detach() for name, value in network.state_dict().items()}
    return Classifier(**{**vars(classifier), "weights": weights, "summary": {"loss": loss.item()}})
