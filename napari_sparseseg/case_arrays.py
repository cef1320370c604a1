"""A prepared case as training lays it out, and as the network is measured on it."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.annotation import OverlapCounter
from napari_sparseseg.cases import PreparedCase
from napari_sparseseg.inference import PlacedNetwork, predict_voxels
from napari_sparseseg.sampling import LabelledVoxels, TrainingArrays


def lay_out_case(
    case: PreparedCase,
    annotation: NDArray[np.integer[Any]],
    taught: NDArray[np.uint8] | None,
    class_weights: Tensor,
    device: torch.device | None = None,
) -> TrainingArrays:
    """Lay a case out as it is learnt.

    Parameters
    ----------
    case
        The case.
    annotation
        ``(Z, Y, X)``: those of its labels that are learnt.
    taught
        ``(Z, Y, X)`` labels that a preview teaches beside them, as `preview.confident_labels` returns them;
        None for none.
    class_weights
        ``(K + 1,)`` as `cases.balance_classes` gives them.
    device
        Where to; the CPU by default.
    """
    labels = torch.from_numpy(annotation.astype(np.uint8))
    weights = class_weights.cpu()[labels.long()]
    if case.weights is not None:
        weights = weights * torch.from_numpy(case.weights)
    arrays = TrainingArrays(
        torch.from_numpy(case.image), labels, weights.half(),
        torch.zeros_like(labels) if taught is None else torch.from_numpy(taught),
        case.spacing, case.start, case.whole, case.presence, LabelledVoxels.of(labels.numpy()),
    )  # fmt: skip
    return arrays if device is None else move_arrays(arrays, device)


def move_arrays(arrays: TrainingArrays, device: torch.device) -> TrainingArrays:
    """Bring a laid out case to the device that it is learnt on."""
    names = ("image", "labels", "weights", "preview")
    return replace(arrays, **{name: getattr(arrays, name).to(device) for name in names})


def score_case(
    placed: PlacedNetwork,
    case: PreparedCase,
    by_preview: NDArray[np.float16] | None,
    held_out: NDArray[np.int64],
) -> dict[str, OverlapCounter]:
    """Compare answers with the labels of a case that were held out.

    Parameters
    ----------
    placed
        The network.
    case
        The case.
    by_preview
        ``(K, N)`` the preview's answer for them; None without a preview.
    held_out
        ``(N,)`` flat indices of labels that neither has learnt from.

    Returns
    -------
    The overlaps of the "network", and where there is a preview of the "preview" and of "both" (their mean
    probability).
    """
    truth = case.annotation.reshape(-1)[held_out].astype(np.int64) - 1
    by_network = predict_voxels(placed, torch.from_numpy(case.image), held_out, case.start, case.whole)
    answers = {"network": by_network}
    if by_preview is not None:
        weak = by_preview.astype(np.float32)
        answers |= {"preview": weak, "both": by_network + weak}
    counters = {name: OverlapCounter(placed.classes) for name in answers}
    for name, answer in answers.items():
        counters[name].add(truth, answer.argmax(0))
    return counters


def without(annotation: NDArray[np.integer[Any]], voxels: NDArray[np.int64]) -> NDArray[np.integer[Any]]:
    """Return a copy of an annotation without the labels at some flat indices."""
    kept = np.array(annotation)
    kept.reshape(-1)[voxels] = 0
    return kept
