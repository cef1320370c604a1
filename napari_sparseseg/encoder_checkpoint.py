"""A pre-trained encoder on disk: a folder with `encoder.safetensors` and `encoder.json`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from napari_sparseseg.checkpoint import read_tensors, write_tensors
from napari_sparseseg.classifier import load_classifier
from napari_sparseseg.encoders import Encoder, encoder_of
from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import NetworkPlan, build_network
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.pretraining_settings import ENCODER_FORMAT, ENCODER_VERSION
from napari_sparseseg.settings import NetworkConfig


@dataclass(frozen=True, eq=False)
class EncoderCheckpoint:
    """An encoder that has learnt, with all that is needed to apply it or to start from it.

    Attributes
    ----------
    task
        What it learnt from: a name in `pretraining_settings.PRETEXT_TASKS`, or "classifier".
    config, plan
        What `networks.build_network` needs to make the network whose encoder it is.
    channels
        Image channels.
    spacing
        Voxel size in mm ``(Z, Y, X)`` it was trained at.
    normalisation
        How intensities become its input.
    weights
        The state of its `encoders.Encoder`.
    summary
        How it was trained: plain values for JSON, among them the hash of the data, the steps, the figures.
    """

    task: str
    config: NetworkConfig
    plan: NetworkPlan
    channels: int
    spacing: tuple[float, float, float]
    normalisation: Normalisation
    weights: Mapping[str, Tensor]
    summary: Mapping[str, Any]

    @property
    def levels(self) -> int:
        """How many of the network's levels it has, from the finest one."""
        return len({name.removeprefix("stages.").partition(".")[0] for name in self.weights})

    def build(self) -> Encoder:
        """Return the encoder with its weights, in evaluation mode, on the CPU.

        Raises
        ------
        InputError
            If the weights do not fit the network described.
        """
        encoder = encoder_of(build_network(self.config, self.plan, self.channels, 2), self.plan)
        encoder = encoder.first_levels(max(self.levels, 1))
        try:
            encoder.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise InputError(
                "the encoder's weights do not fit the network that encoder.json describes; "
                "the two files are of different trainings or damaged."
            ) from error
        return encoder.eval()


def save_encoder(folder: str | os.PathLike[str], encoder: EncoderCheckpoint) -> None:
    """Write `encoder` to ``encoder.safetensors`` and ``encoder.json`` in `folder`, atomically."""
    description = {
        "format": ENCODER_FORMAT,
        "format_version": ENCODER_VERSION,
        "task": encoder.task,
        "network": encoder.config.to_json(),
        "plan": encoder.plan.to_json(),
        "channels": encoder.channels,
        "spacing_mm_zyx": encoder.spacing,
        "normalisation": encoder.normalisation.to_json(),
        "summary": dict(encoder.summary),
    }
    write_tensors(Path(folder) / "encoder", encoder.weights, description)


def load_encoder(folder: str | os.PathLike[str]) -> EncoderCheckpoint:
    """Read what `save_encoder` wrote, or the encoder of a classifier; nothing in it is ever executed.

    Raises
    ------
    InputError
        If the folder holds neither, is of a newer version, or its parts are damaged or do not fit.
    """
    folder = Path(folder)
    if (folder / "classifier.json").exists() and not (folder / "encoder.json").exists():
        return _of_classifier(folder)
    tensors, description = read_tensors(folder / "encoder")
    if description.get("format") != ENCODER_FORMAT:
        raise InputError(
            f"{folder} is not a napari-sparseseg encoder; give a folder that pre-training wrote."
        )
    if description.get("format_version") != ENCODER_VERSION:
        raise InputError(
            f"{folder} has encoder format {description.get('format_version')!r}, this version reads "
            f"{ENCODER_VERSION}; install the version of napari-sparseseg that wrote it."
        )
    try:
        z, y, x = (float(value) for value in description["spacing_mm_zyx"])
        channels = description["channels"]
        if not all(0 < length < 1e4 for length in (z, y, x)):
            raise ValueError("the spacing is not three lengths")
        if isinstance(channels, bool) or not isinstance(channels, int) or not 1 <= channels <= 64:
            raise ValueError("the input channels are not a number")
        encoder = EncoderCheckpoint(
            task=str(description["task"]),
            config=NetworkConfig.from_json(description["network"]),
            plan=NetworkPlan.from_json(description["plan"]),
            channels=channels,
            spacing=(z, y, x),
            normalisation=Normalisation.from_json(description["normalisation"]),
            weights=tensors,
            summary=dict(description["summary"]),
        )
        if len(encoder.normalisation.windows) != channels:
            raise ValueError("normalisation and channels differ in number")
        encoder.build()
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{folder} is not a usable encoder: {error}") from error
    return encoder


def _of_classifier(folder: Path) -> EncoderCheckpoint:
    classifier = load_classifier(folder)
    weights = {
        name.removeprefix("encoder."): tensor
        for name, tensor in classifier.weights.items()
        if name.startswith("encoder.")
    }
    return EncoderCheckpoint(
        "classifier", classifier.config, classifier.plan, classifier.channels, classifier.spacing,
        classifier.normalisation, weights, classifier.summary,
    )  # fmt: skip
