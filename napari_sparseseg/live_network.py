"""The network that a round of a live session begins with."""

from dataclasses import dataclass

from napari_sparseseg.checkpoint import Model
from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
from napari_sparseseg.encoder_start import compare_spacings, hash_encoder, hash_weights, take_over
from napari_sparseseg.learner import Gentleness, StartedNetwork
from napari_sparseseg.networks import (
    Triple,
    build_network,
    choose_device,
    default_patch_voxels,
    plan_network,
)
from napari_sparseseg.settings import NetworkConfig, TrainingConfig

FIRST_STEPS = 100
"""Before, a network that began with random weights says nothing of worth."""

_TAUGHT_STEPS = 10  # the same of one that knew the classes, at voxels of this size
_CPU_PATCH_VOXELS = 48**3  # more and smaller steps learn faster in the first minute
_THICK_SLICES = 3.0


@dataclass(frozen=True, eq=False)
class BegunNetwork(StartedNetwork):
    """A network before its first step, as a live session shows it.

    Attributes
    ----------
    speaks_from
        Steps before which its answers are not worth showing.
    """

    speaks_from: int = FIRST_STEPS


def begin_network(
    shape: Triple,
    channels: int,
    classes: int,
    spacing: tuple[float, float, float],
    config: TrainingConfig,
    network_config: NetworkConfig,
    encoder: EncoderCheckpoint | None,
) -> BegunNetwork:
    """Build a network for a box of an image, with the encoder of a checkpoint or with random weights.

    Parameters
    ----------
    shape, channels, spacing
        Of the box: voxels ``(Z, Y, X)``, and their size in mm.
    classes
        Number of classes, background included.
    config, network_config
        Settings.
    encoder
        What it starts from, if `encoder_start.check_encoder` lets it pass.
    """
    position = max(spacing) > _THICK_SLICES * min(spacing)
    device = choose_device(config.device)
    usual = default_patch_voxels(device) if device.type == "cuda" else _CPU_PATCH_VOXELS
    plan = plan_network(shape, spacing, network_config, config.patch_voxels or usual)
    network = build_network(network_config, plan, channels + 3 * position, classes)
    gently, sentence = None, ""
    if encoder is not None:
        taken = take_over(encoder, network, plan, spacing)
        gently, sentence = Gentleness(taken.names, config.encoder_rate, config.encoder_share), taken.sentence
    return BegunNetwork(network, plan, position, gently, sentence, hash_encoder(encoder))


def go_on_with(model: Model, spacing: tuple[float, float, float], config: TrainingConfig) -> BegunNetwork:
    """Return a trained network, to learn on from an image of a voxel size in mm ``(Z, Y, X)``."""
    network = model.build()
    everything = frozenset(name for name, _ in network.named_parameters())
    gently = Gentleness(everything, config.encoder_rate, config.encoder_share)
    unlike = compare_spacings(model.spacing, spacing)
    return BegunNetwork(
        network, model.plan, model.position, gently,
        f"The network goes on with the project's.{unlike}" if unlike else "",
        hash_weights(model.weights), FIRST_STEPS if unlike else _TAUGHT_STEPS,
    )  # fmt: skip
