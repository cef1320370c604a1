"""Starting a network from an encoder that has learnt elsewhere: what fits, and what is told of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
from napari_sparseseg.encoders import Encoder, copy_encoder, encoder_of
from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import NetworkPlan
from napari_sparseseg.settings import NetworkConfig

_LIKE = 1.5  # voxels that differ by no more are taken for alike


@dataclass(frozen=True)
class TakenOver:
    """What became of an encoder's weights.

    Attributes
    ----------
    sentence
        What the user is told.
    names
        Of the target's parameters that have the encoder's weights now.
    """

    sentence: str
    names: frozenset[str]


def check_encoder(encoder: EncoderCheckpoint, network: NetworkConfig, channels: int) -> None:
    """Raise `InputError` where a network of these settings and image channels cannot start from `encoder`."""
    had = encoder.config
    if had != network:
        raise InputError(
            f"the encoder to start from is of a {had.size} {had.architecture} and the network to train is a "
            f"{network.size} {network.architecture}; choose the architecture {had.architecture} and the size "
            f"{had.size}."
        )
    if encoder.channels != channels:
        raise InputError(
            f"the encoder to start from takes {encoder.channels} channels and the image has {channels}; give "
            "the channels it was trained on."
        )


def take_over(
    encoder: EncoderCheckpoint,
    target: nn.Module,
    plan: NetworkPlan,
    spacing: tuple[float, float, float],
) -> TakenOver:
    """Copy an encoder's weights into a network that `check_encoder` let pass.

    Parameters
    ----------
    encoder
        What to start from.
    target
        An `Encoder`, or a network from `networks.NETWORKS`.
    plan, spacing
        The target's, and the voxel size in mm ``(Z, Y, X)`` that it is trained at.

    Raises
    ------
    InputError
        If nothing of it fits.
    """
    with torch.random.fork_rng(devices=()):  # building draws weights; what else draws them goes on as it was
        source = encoder.build()
    inner = target if isinstance(target, Encoder) else encoder_of(target, plan)
    report = copy_encoder(source, inner, plan)
    if not report.copied:
        raise InputError(
            "the encoder to start from does not fit the network; choose one that learnt with volumes of this "
            "kind."
        )
    filled = {id(parameter) for name, parameter in inner.named_parameters() if name in report.used}
    names = frozenset(name for name, parameter in target.named_parameters() if id(parameter) in filled)
    return TakenOver(
        report.sentence(describe_encoder(encoder)) + compare_spacings(encoder.spacing, spacing), names
    )


def describe_encoder(encoder: EncoderCheckpoint) -> str:
    """Return what an encoder is called: the task, and what it learnt from for how long, as far as known."""
    words = [encoder.task]
    volumes = encoder.summary.get("volumes", encoder.summary.get("cases"))
    if isinstance(volumes, (list, tuple)):
        words.append(f"{len(volumes)} volume{'s' * (len(volumes) != 1)}")
    steps = encoder.summary.get("steps")
    if isinstance(steps, int):
        words.append(f"{steps:,} step{'s' * (steps != 1)}")
    return f"The encoder ({', '.join(words)})"


def hash_encoder(encoder: EncoderCheckpoint | None) -> str:
    """Return a hash of an encoder's weights; empty for none."""
    return "" if encoder is None else hash_weights(encoder.weights)


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """Return a hash of a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def compare_spacings(there: tuple[float, float, float], here: tuple[float, float, float]) -> str:
    """Return a warning where voxels are much smaller or larger than those that were learnt from, else ""."""
    if all(1 / _LIKE <= a / b <= _LIKE for a, b in zip(there, here, strict=True)):
        return ""
    learnt, now = (" × ".join(f"{length:.3g}" for length in spacing) for spacing in (there, here))
    return f" It learnt at voxels of {learnt} mm and these are of {now} mm, so it may help less."
