"""The network that a training begins with."""

from napari_sparseseg.case_survey import CaseSurvey
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
from napari_sparseseg.encoder_start import check_encoder, hash_encoder, take_over
from napari_sparseseg.errors import InputError
from napari_sparseseg.learner import Gentleness, StartedNetwork
from napari_sparseseg.networks import (
    build_network,
    choose_device,
    default_patch_voxels,
    plan_network,
)
from napari_sparseseg.settings import NetworkConfig, TrainingConfig

_THICK_SLICES = 3.0


def start_network(
    survey: CaseSurvey,
    classes: int,
    config: TrainingConfig,
    network_config: NetworkConfig,
    initial: Model | None,
    encoder: EncoderCheckpoint | None,
) -> StartedNetwork:
    """Build a network for cases: of a model, with the encoder of a checkpoint, or with random weights.

    Raises
    ------
    InputError
        If both a model and an encoder are given, or the encoder is of another network.
    """
    channels = survey.cases[0].channels
    if initial:
        plan, position = initial.plan, initial.position
        network = initial.build()
    else:
        # One volume of thick slices: where a voxel lies says much that its surroundings do not.
        thick = max(survey.spacing) > _THICK_SLICES * min(survey.spacing)
        position = len(survey.cases) == 1 and thick
        voxels = config.patch_voxels or default_patch_voxels(choose_device(config.device))
        plan = plan_network(survey.shape, survey.spacing, network_config, voxels)
        network = build_network(network_config, plan, channels + 3 * position, classes)
    if encoder is not None and initial is not None:
        raise InputError("training starts from a model or from an encoder; give one of the two.")
    if encoder is None:
        return StartedNetwork(network, plan, position, None, "", hash_encoder(None))
    check_encoder(encoder, network_config, channels)
    taken = take_over(encoder, network, plan, survey.spacing)
    gently = Gentleness(taken.names, config.encoder_rate, config.encoder_share)
    return StartedNetwork(network, plan, position, gently, taken.sentence, hash_encoder(encoder))
