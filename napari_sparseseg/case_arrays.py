"""A prepared case as training lays it out, and as the network is measured on it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.annotation import OverlapCounter
from napari_sparseseg.cases import PreparedCase
from napari_sparseseg.inference import PlacedNetwork, predict_voxels
from napari_sparseseg.preview import Preview, confident_labels
from napari_sparseseg.sampling import TrainingArrays


def lay_out_case(
    case: PreparedCase,
    annotation: NDArray[np.integer[Any]],
    preview: Preview | None,
    class_weights: Tensor,
    device: torch.device,
) -> TrainingArrays:
    """Bring a case to the device that it is learnt on.

    Parameters
    ----------
    case
        The case.
    annotation
        ``(Z, Y, X)``: those of its labels that are learnt.
    preview
        What teaches beside them.
    class_weights
        ``(K + 1,)`` as `cases.balance_classes` gives them.
    device
        Where to.
    """
    labels = torch.from_numpy(annotation.astype(np.uint8))
    weights = class_weights.cpu()[labels.long()]
    if case.weights is not None:
        weights = weights * torch.from_numpy(case.weights)
    taught = torch.from_numpy(confident_labels(preview, annotation))
    image = torch.from_numpy(case.image)
    image, labels, weights, taught = (tensor.to(device) for tensor in (image, labels, weights.half(), taught))
    return TrainingArrays(image, labels, weights, taught, case.spacing, case.start, case.whole, case.presence)


def score_held_out(
    placed: PlacedNetwork,
    cases: Sequence[PreparedCase],
    previews: Sequence[Preview | None],
    held_out: Sequence[NDArray[np.int64]],
) -> dict[str, OverlapCounter]:
    """Compare answers with the labels held out.

    Parameters
    ----------
    placed
        The network.
    cases, previews, held_out
        For each case its preview, and flat indices of the labels that neither has learnt from.

    Returns
    -------
    The overlaps of the "network", the "preview" and "both" (their mean probability); those of the network
    alone where a preview is missing, so that the three are comparable.
    """
    classes = placed.classes
    counters = {name: OverlapCounter(classes) for name in ("network", "preview", "both")}
    for case, preview, voxels in zip(cases, previews, held_out, strict=True):
        if len(voxels) == 0:
            continue
        truth = case.annotation.reshape(-1)[voxels].astype(np.int64) - 1
        by_network = predict_voxels(placed, torch.from_numpy(case.image), voxels, case.start, case.whole)
        counters["network"].add(truth, by_network.argmax(0))
        if preview is not None:
            by_preview = preview.probabilities.reshape(classes, -1)[:, voxels].astype(np.float32)
            counters["preview"].add(truth, by_preview.argmax(0))
            counters["both"].add(truth, (by_network + by_preview).argmax(0))
    if any(preview is None for preview, voxels in zip(previews, held_out, strict=True) if len(voxels)):
        return {"network": counters["network"]}
    return counters


def without(annotation: NDArray[np.integer[Any]], voxels: NDArray[np.int64]) -> NDArray[np.integer[Any]]:
    """Return a copy of an annotation without the labels at some flat indices."""
    kept = annotation.copy()
    kept.reshape(-1)[voxels] = 0
    return kept
