"""The main job: complete the sparse labels of one volume to a dense mask.

This is the semi-automated use of Çiçek et al. (2016): the network is trained on the volume it is
to complete.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.cases import Case, check_cases, weigh_case, without_derived
from napari_sparseseg.checkpoint import Model
from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
from napari_sparseseg.events import Event, Noted
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.inference import entropy, place_model, predict_region
from napari_sparseseg.postprocessing import clean_channels
from napari_sparseseg.preview import Preview
from napari_sparseseg.random_walker import LAST_PRIOR_WEIGHT, walk_from_labels
from napari_sparseseg.regions import find_region, grow_region, relative
from napari_sparseseg.settings import InferenceConfig, NetworkConfig, TrainingConfig
from napari_sparseseg.training import train_network

_MOST_ROUNDS = 10
_WALKED_VOXELS = 8_000_000  # the random walker needs some hundred bytes for each
_CLEARLY_BETTER = {"network": 0.03, "preview": 0.1}  # the network is not yet done when it is measured


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A completed volume.

    Attributes
    ----------
    channels
        ``(Z, Y, X)`` class channel per voxel, 0 = background; user labels are kept as they are.
    uncertainty
        ``(Z, Y, X)`` entropy of the class probabilities, 0 sure to 1 undecided; 0 at user labels and
        outside the region of interest.
    shown
        Whose answer it is: "network", "preview", or "both" (their mean probability): the best of
        the three on held-out labels, "both" where they are close.
    held_out_dice
        Their mean Dice on labels held out of training; empty where nothing could be held out.
    model
        The trained network.
    measured_by_derived
        As `training.TrainingResult` has it.
    """

    channels: NDArray[np.uint8]
    uncertainty: NDArray[np.float16]
    shown: str
    held_out_dice: dict[str, float]
    model: Model
    measured_by_derived: bool = False


def segment_volume(
    image: NDArray[np.float32],
    spacing: tuple[float, float, float],
    annotation: NDArray[np.integer[Any]],
    table: ClassTable,
    config: TrainingConfig,
    network_config: NetworkConfig | None = None,
    inference_config: InferenceConfig | None = None,
    weights: NDArray[np.float32] | None = None,
    *,
    sources: NDArray[np.uint8] | None = None,
    image_labels: tuple[ImageLabel, ...] = (),
    outside_absent: bool = True,
    encoder: EncoderCheckpoint | None = None,
) -> Generator[Event, None, Segmentation]:
    """Train on the labelled voxels of a volume and segment the rest of it.

    Training and prediction are restricted to the labelled foreground and a margin; where the
    prediction runs out of that region it is enlarged.  The class probabilities are the prior of a last
    random walker from the labels (Grady 2005), which lets the mask follow the image's edges and the
    user's strokes.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)`` intensities as read, finite.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    annotation
        ``(Z, Y, X)``: 0 unlabelled, 1 background, 2… classes.
    table
        The classes.
    config, network_config, inference_config
        Settings.
    weights
        ``(Z, Y, X)`` weight ≥ 0 of each label by its source; None for 1 everywhere.
    sources, image_labels, outside_absent
        As `cases.Case` has them.  Labels that were derived from boxes or class maps are learnt, but only the
        others lead the random walker and are kept as they are.
    encoder
        As `train_network` takes it.

    Returns
    -------
    The `Segmentation`; events on the way.

    Raises
    ------
    InputError
        If the labels cannot be trained on.
    """
    inference_config = inference_config or InferenceConfig(device=config.device)
    case = Case(
        image, spacing, annotation, weights,
        sources=sources, image_labels=image_labels, outside_absent=outside_absent,
    )  # fmt: skip
    learnt = weigh_case(case, config.seeding)
    check_cases([learnt], table)
    region = find_region(learnt.annotation)
    case = replace(case, region=region)
    result = yield from train_network([case], table, config, network_config, encoder=encoder)
    own = without_derived(annotation, sources)
    placed = place_model(result.model, config.device, config.precision)
    normalised = result.model.normalisation.apply(image)
    preview = result.previews[0]
    steps = result.model.summary["steps"]
    shown = choose_shown(result.held_out_dice, preview=preview is not None, steps=steps)
    channels = np.zeros(annotation.shape, np.uint8)
    uncertainty = np.zeros(annotation.shape, np.float16)
    current = region
    for attempt in range(_MOST_ROUNDS):
        probabilities = yield from predict_region(placed, normalised, current, inference_config.overlap)
        if preview is not None:
            _mix(probabilities[(slice(None), *relative(region, current))], preview, shown)
        if (preview is None or preview.choice.walked) and annotation[current].size <= _WALKED_VOXELS:
            part = np.ascontiguousarray(normalised[(slice(None), *current)])
            probabilities = walk_from_labels(part, own[current], probabilities, spacing, LAST_PRIOR_WEIGHT)
        channels[current] = probabilities.argmax(0)
        uncertainty[current] = entropy(torch.from_numpy(probabilities)).numpy()
        larger = grow_region(channels, learnt.annotation, current)
        if larger == current:
            break
        if attempt == _MOST_ROUNDS - 1:
            yield Noted(
                "The segmentation still reaches the border of the region looked at; label a slice there."
            )
            break
        yield Noted("The segmentation reached the border of the region looked at; looking further.")
        current = larger
    clean_channels(channels, inference_config)
    labelled = own > 0
    channels[labelled] = own[labelled] - 1
    uncertainty[labelled] = 0
    return Segmentation(
        channels, uncertainty, shown, result.held_out_dice, result.model, result.measured_by_derived
    )


def choose_shown(held_out_dice: dict[str, float], *, preview: bool, steps: int = 1) -> str:
    """Return whose answer to show: the best on held-out labels, "both" unless another is clearly better."""
    if not preview:
        return "network"
    if steps == 0:
        return "preview"
    if "both" not in held_out_dice:
        return "both"
    best = max(held_out_dice, key=lambda name: held_out_dice[name])
    if best == "both" or held_out_dice[best] <= held_out_dice["both"] + _CLEARLY_BETTER[best]:
        return "both"
    return best


def _mix(probabilities: NDArray[np.float32], preview: Preview, shown: str) -> None:
    """Put the preview's probabilities, or their mean with the network's, into the latter in place."""
    if shown != "network":
        share = 0.5 if shown == "both" else 1.0
        probabilities *= 1 - share
        probabilities += share * preview.probabilities
