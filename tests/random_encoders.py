"""Encoders that have learnt nothing, as checkpoints, shared by the tests."""

import torch

from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
from napari_sparseseg.encoders import encoder_of
from napari_sparseseg.networks import build_network, plan_network
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.settings import NetworkConfig

SUMMARY = {"volumes": ["a", "b", "c"], "steps": 2000, "data_sha256": "none", "scores": {}}


def make_encoder(
    config=None, channels=1, seed=7, shape=(18, 18, 18), spacing=(1.0, 1.0, 1.0), plan=None, levels=None
):
    """Return an encoder with random weights, as one that saw volumes of `shape` voxels."""
    config = config or NetworkConfig()
    plan = plan or plan_network(shape, spacing, config, 12**3)
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        encoder = encoder_of(build_network(config, plan, channels, 2), plan)
    encoder = encoder.first_levels(levels or len(encoder.stages))
    return EncoderCheckpoint(
        "masked_autoencoder", config, plan, channels, spacing, Normalisation((None,) * channels),
        encoder.state_dict(), SUMMARY,
    )  # fmt: skip
