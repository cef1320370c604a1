"""A classifier of volumes: the U-Net's encoder, global average pooling, one linear layer; and its files."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.checkpoint import Model, load_model, read_tensors, write_tensors
from napari_sparseseg.encoders import Encoder, encoder_of
from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import NetworkPlan, Triple, build_network, to_triple
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.settings import NetworkConfig

FORMAT_VERSION = 1
_FORMAT = "napari-sparseseg classifier"
_LARGEST_WINDOW = 65_536


class ClassifierNetwork(nn.Module):
    """Says which classes a volume shows, from the mean of an encoder's features (Zhou et al. 2016).

    It takes no position channels: it would answer by the place alone.

    Parameters
    ----------
    encoder
        Its features; the levels beyond `level` are left out.
    level
        The level, from 1, whose features are averaged.
    classes
        Number of classes without background.
    """

    def __init__(self, encoder: Encoder, level: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder.first_levels(level)
        self.level = level
        self.head = nn.Linear(encoder.channels[level - 1], classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the features ``(B, F, z, y, x)`` that are averaged, for a ``(B, C, Z, Y, X)`` batch."""
        features: Tensor = self.encoder(x)[-1]
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(B, K - 1)`` of the classes without background."""
        logits: Tensor = self.head(self.features(x).mean((2, 3, 4)))
        return logits


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier with all that is needed to apply it.

    Attributes
    ----------
    config, plan
        What `networks.build_network` needs to make the network whose encoder it has.
    level
        The encoder's level, from 1, whose features it averages.
    channels
        Image channels.
    table
        The classes; output i belongs to row i + 1, its first one is background.
    spacing
        Voxel size in mm ``(Z, Y, X)`` it was trained at.
    normalisation
        How intensities become its input.
    window
        Voxels ``(Z, Y, X)`` at that spacing: the typical size of what it was trained on.
    weights
        The state of its `ClassifierNetwork`.
    summary
        How it was trained: plain values for JSON.
    """

    config: NetworkConfig
    plan: NetworkPlan
    level: int
    channels: int
    table: ClassTable
    spacing: tuple[float, float, float]
    normalisation: Normalisation
    window: Triple
    weights: Mapping[str, Tensor]
    summary: Mapping[str, Any]

    def build(self) -> ClassifierNetwork:
        """Return the network with its weights, in evaluation mode, on the CPU.

        Raises
        ------
        InputError
            If the weights do not fit the network described.
        """
        network = build_classifier(self.config, self.plan, self.level, self.channels, self.table)
        try:
            network.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise InputError(
                "the classifier's weights do not fit the network that classifier.json describes; "
                "the two files are of different trainings or damaged."
            ) from error
        return network.eval()


def build_classifier(
    config: NetworkConfig, plan: NetworkPlan, level: int, channels: int, table: ClassTable
) -> ClassifierNetwork:
    """Build a classifier with random weights on the encoder of a network from `networks.NETWORKS`."""
    encoder = encoder_of(build_network(config, plan, channels, len(table)), plan)
    if not 1 <= level <= len(encoder.stages):
        raise InputError(
            f"the encoder has {len(encoder.stages)} levels and no level {level}; choose one of them."
        )
    return ClassifierNetwork(encoder, level, len(table) - 1)


def save_classifier(folder: str | os.PathLike[str], classifier: Classifier) -> None:
    """Write `classifier` to ``classifier.safetensors`` and ``classifier.json`` in `folder`, atomically."""
    description = {
        "format": _FORMAT,
        "format_version": FORMAT_VERSION,
        "network": classifier.config.to_json(),
        "plan": classifier.plan.to_json(),
        "level": classifier.level,
        "channels": classifier.channels,
        "classes": classifier.table.to_json(),
        "spacing_mm_zyx": classifier.spacing,
        "normalisation": classifier.normalisation.to_json(),
        "window_zyx": classifier.window,
        "summary": dict(classifier.summary),
    }
    write_tensors(Path(folder) / "classifier", classifier.weights, description)


def load_classifier(folder: str | os.PathLike[str]) -> Classifier:
    """Read what `save_classifier` wrote; nothing in it is ever executed.

    Raises
    ------
    InputError
        If the folder holds no classifier, is of a newer version, or its parts are damaged or do not fit.
    """
    folder = Path(folder)
    tensors, description = read_tensors(folder / "classifier")
    if description.get("format") != _FORMAT:
        raise InputError(
            f"{folder} is not a napari-sparseseg classifier; give a folder that one was saved to."
        )
    if description.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{folder} has classifier format {description.get('format_version')!r}, this version reads "
            f"{FORMAT_VERSION}; install the version of napari-sparseseg that wrote it."
        )
    try:
        classifier = Classifier(
            config=NetworkConfig.from_json(description["network"]),
            plan=NetworkPlan.from_json(description["plan"]),
            level=_whole_number(description["level"], 16),
            channels=_whole_number(description["channels"], 64),
            table=ClassTable.from_json(description["classes"]),
            spacing=_spacing(description["spacing_mm_zyx"]),
            normalisation=Normalisation.from_json(description["normalisation"]),
            window=to_triple(_whole_number(size, _LARGEST_WINDOW) for size in description["window_zyx"]),
            weights=tensors,
            summary=dict(description["summary"]),
        )
        if len(classifier.normalisation.windows) != classifier.channels:
            raise ValueError("normalisation and channels differ in number")
        classifier.build()
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{folder} is not a usable classifier: {error}") from error
    return classifier


def load_subject(folder: str | os.PathLike[str]) -> Classifier | Model:
    """Read the network in `folder`, of whichever kind: a classifier where there is one, else a model."""
    if (Path(folder) / "classifier.json").exists():
        return load_classifier(folder)
    return load_model(folder)


def _whole_number(value: Any, largest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        raise ValueError(f"{value!r:.80} is no whole number from 1 to {largest}")
    return value


def _spacing(values: Any) -> tuple[float, float, float]:
    z, y, x = (float(value) for value in values)
    if not all(0 < length < 1e4 for length in (z, y, x)):
        raise ValueError("the spacing is not three lengths")
    return z, y, x
