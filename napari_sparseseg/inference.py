"""Applying a trained network to a volume: overlapping windows, blended, in bounded memory."""

import copy
import math
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from monai.data.utils import compute_importance_map
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sparseseg.checkpoint import Model
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Noted, WindowDone
from napari_sparseseg.networks import (
    NetworkPlan,
    Precision,
    Triple,
    choose_device,
    choose_precision,
    to_triple,
)
from napari_sparseseg.postprocessing import clean_channels
from napari_sparseseg.resampling import resample_image, resample_slabs, shape_at
from napari_sparseseg.sampling import position_channels
from napari_sparseseg.settings import InferenceConfig

_LARGEST_GROWTH = 64


@dataclass(frozen=True, eq=False)
class Prediction:
    """A network's answer for one volume.

    Attributes
    ----------
    channels
        ``(Z, Y, X)`` uint8 class channel per voxel, 0 = background.
    uncertainty
        ``(Z, Y, X)`` float16 entropy of the class probabilities, divided by log K: 0 sure, 1 undecided.
    probabilities
        ``(K, Z, Y, X)`` float16, or None where they were not asked for.
    """

    channels: NDArray[np.uint8]
    uncertainty: NDArray[np.float16]
    probabilities: NDArray[np.float16] | None


@dataclass(frozen=True, eq=False)
class PlacedNetwork:
    """A network in evaluation mode on its device, and how to feed it."""

    network: nn.Module
    plan: NetworkPlan
    device: torch.device
    precision: Precision
    position: bool
    classes: int


@dataclass(frozen=True, eq=False)
class Slab:
    """Finished class probabilities ``(K, n, Y, X)`` of the slices from `first` on."""

    first: int
    probabilities: Tensor


def place_model(model: Model, device_name: str = "auto", precision_name: str = "auto") -> PlacedNetwork:
    """Put `model` on a device, in the precision that is fastest there."""
    device = choose_device(device_name)
    network = model.build()
    channels = model.channels + 3 * model.position
    precision = choose_precision(precision_name, network, model.plan, channels, device)
    placed = precision.place(network, device).eval()
    return PlacedNetwork(placed, model.plan, device, precision, model.position, len(model.table))


def predict_volume(
    model: Model,
    image: NDArray[np.float32],
    spacing: tuple[float, float, float],
    config: InferenceConfig | None = None,
    *,
    probabilities: bool = False,
    placed: PlacedNetwork | None = None,
) -> Generator[Event, None, Prediction]:
    """Segment a volume with a trained network.

    The volume is brought to the spacing the network was trained at, predicted in windows of the
    training patch's size (with instance norm any other size changes the result), blended with
    Gaussian weights (Isensee et al. 2021), and the probabilities are resampled back.

    Parameters
    ----------
    model
        The network.
    image
        ``(C, Z, Y, X)`` intensities as read, finite.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    config
        Overlap, post-processing, device.
    probabilities
        Also return the class probabilities.
    placed
        `model` already on its device, when many volumes are predicted.

    Returns
    -------
    The `Prediction` on the image's own grid; events on the way.

    Raises
    ------
    InputError
        If the number of channels differs from the model's.
    """
    config = config or InferenceConfig()
    if image.shape[0] != model.channels:
        raise InputError(
            f"the volume has {image.shape[0]} channels and the model was trained on {model.channels}; "
            "give the same channels in the same order."
        )
    placed = placed or place_model(model, config.device)
    shape = to_triple(image.shape[1:])
    normalised = model.normalisation.apply(image)
    work_shape = shape_at(shape, spacing, model.spacing)
    if math.prod(work_shape) > _LARGEST_GROWTH * math.prod(shape):
        raise InputError(
            f"the volume's voxels of {_describe(spacing)} mm are far larger than the "
            f"{_describe(model.spacing)} mm that the model was trained at; check the voxel size, or use "
            "another model."
        )
    if work_shape != shape:
        normalised = resample_image(normalised, work_shape)
    collector = _Collector(len(model.table), shape, probabilities=probabilities)
    coarse = (
        None if work_shape == shape else torch.zeros((len(model.table), *work_shape), dtype=torch.float16)
    )
    for item in predict_with_fallback(placed, torch.from_numpy(normalised), config.overlap):
        if not isinstance(item, Slab):
            yield item
        elif coarse is None:
            collector.add(item.first, item.probabilities)
        else:
            coarse[:, item.first : item.first + item.probabilities.shape[1]] = item.probabilities
    if coarse is not None:
        for first, part in resample_slabs(coarse, shape):
            collector.add(first, part)
    prediction = collector.result()
    clean_channels(prediction.channels, config)
    return prediction


def predict_region(
    placed: PlacedNetwork,
    normalised: NDArray[np.float32],
    region: tuple[slice, slice, slice],
    overlap: float,
) -> Generator[Event, None, NDArray[np.float32]]:
    """Return the class probabilities ``(K, …)`` in a box of a volume, at the network's own spacing.

    Parameters
    ----------
    placed
        The network.
    normalised
        ``(C, Z, Y, X)``: the whole volume, normalised.
    region
        The box.
    overlap
        As in `InferenceConfig`.
    """
    part = torch.from_numpy(normalised[(slice(None), *region)])
    probabilities = np.empty((placed.classes, *part.shape[1:]), np.float32)
    start, whole = to_triple(edge.start for edge in region), to_triple(normalised.shape[1:])
    for item in predict_with_fallback(placed, part, overlap, start, whole):
        if isinstance(item, Slab):
            probabilities[:, item.first : item.first + item.probabilities.shape[1]] = item.probabilities
        else:
            yield item
    return probabilities


def _describe(spacing: tuple[float, float, float]) -> str:
    return " × ".join(f"{length:.3g}" for length in spacing)


class _Collector:
    """Reduces class probabilities to what is kept, slab by slab."""

    def __init__(self, classes: int, shape: Triple, *, probabilities: bool) -> None:
        self._channels = np.zeros(shape, np.uint8)
        self._uncertainty = np.zeros(shape, np.float16)
        self._probabilities = np.zeros((classes, *shape), np.float16) if probabilities else None

    def add(self, first: int, slab: Tensor) -> None:
        last = first + slab.shape[1]
        self._channels[first:last] = slab.argmax(0).numpy()
        self._uncertainty[first:last] = entropy(slab).numpy()
        if self._probabilities is not None:
            self._probabilities[:, first:last] = slab.numpy()

    def result(self) -> Prediction:
        return Prediction(self._channels, self._uncertainty, self._probabilities)


def entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy over the first axis of ``(K, …)`` probabilities, divided by log K."""
    nats: Tensor = torch.special.entr(probabilities.float()).sum(0)
    return nats / math.log(len(probabilities))


def predict_with_fallback(
    placed: PlacedNetwork,
    image: Tensor,
    overlap: float,
    start: Triple = (0, 0, 0),
    whole: Triple | None = None,
) -> Generator[Event | Slab, None, None]:
    """Predict by windows on the device; when its memory runs out, all anew on the CPU, and say so."""
    try:
        yield from predict_slabs(placed, image, overlap, start=start, whole=whole)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        yield Noted("The GPU's memory is too small for this network; predicting on the CPU instead.")
        precision = Precision("float32", channels_last=False)
        cpu = torch.device("cpu")
        network = precision.place(copy.deepcopy(placed.network), cpu)  # the caller's stays where it is
        on_cpu = PlacedNetwork(network, placed.plan, cpu, precision, placed.position, placed.classes)
        yield from predict_slabs(on_cpu, image, overlap, start=start, whole=whole)


@torch.no_grad()
def _predict_windows(placed: PlacedNetwork, windows: Tensor) -> Tensor:
    batch = placed.precision.arrange(windows.to(placed.device, non_blocking=True))
    with placed.precision.autocast(placed.device):
        logits: Tensor = placed.network(batch)
    return logits.float().softmax(1)


def predict_slabs(
    placed: PlacedNetwork,
    image: Tensor,
    overlap: float,
    *,
    start: Triple = (0, 0, 0),
    whole: Triple | None = None,
) -> Generator[WindowDone | Slab, None, None]:
    """Predict by overlapping windows and yield slices as soon as no later window touches them.

    Memory: the class probabilities of one layer of windows, not of the volume.

    Parameters
    ----------
    placed
        The network.
    image
        ``(C, Z, Y, X)`` normalised; on any device.
    overlap
        Share of a window that its neighbour covers too.
    start, whole
        Where `image` begins in the volume it was cut from, and that volume's shape; for the position
        channels.
    """
    shape = to_triple(image.shape[1:])
    patch = placed.plan.patch
    starts = [_window_starts(length, size, overlap) for length, size in zip(shape, patch, strict=True)]
    importance = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125, device="cpu").clamp_min(
        1e-3
    )
    importance = importance.to(placed.device)
    depth = max(patch[0], 1)
    total = torch.zeros((placed.classes, depth, *shape[1:]), device=placed.device)
    weight = torch.zeros((depth, *shape[1:]), device=placed.device)
    done, count = 0, math.prod(len(s) for s in starts)
    for row, z in enumerate(starts[0]):
        for y in starts[1]:
            for x in starts[2]:
                window = _read_window(image, (z, y, x), patch)
                if placed.position:
                    origin = to_triple(a + b for a, b in zip((z, y, x), start, strict=True))
                    where = position_channels(patch, origin, whole or shape, window.device)
                    window = torch.cat([window, where])
                probabilities = _predict_windows(placed, window[None])[0] * importance
                inner, outer = zip(
                    *(
                        _overlap(s, size, length)
                        for s, size, length in zip((z, y, x), patch, shape, strict=True)
                    ),
                    strict=True,
                )
                rows = slice(outer[0].start - max(z, 0), outer[0].stop - max(z, 0))
                total[:, rows, outer[1], outer[2]] += probabilities[(slice(None), *inner)]
                weight[rows, outer[1], outer[2]] += importance[inner]
                done += 1
                yield WindowDone(done, count)
        first = max(z, 0)
        following = starts[0][row + 1] if row + 1 < len(starts[0]) else shape[0]
        ready = following - first
        yield Slab(first, (total[:, :ready] / weight[:ready]).cpu())
        total = torch.roll(total, -ready, 1)
        weight = torch.roll(weight, -ready, 0)
        total[:, depth - ready :] = 0
        weight[depth - ready :] = 0


def _window_starts(length: int, size: int, overlap: float) -> list[int]:
    if length <= size:
        return [length // 2 - size // 2]
    number = math.ceil((length - size) / max(1, size * (1 - overlap))) + 1
    return [round(i * (length - size) / (number - 1)) for i in range(number)]


def _overlap(start: int, size: int, length: int) -> tuple[slice, slice]:
    """Return the part of a window that lies inside the volume, in window and in volume coordinates."""
    first, last = max(start, 0), min(start + size, length)
    return slice(first - start, last - start), slice(first, last)


def _read_window(image: Tensor, start: Triple, patch: Triple) -> Tensor:
    """Cut ``(C, *patch)`` out of `image`; beyond its border the edge is continued."""
    inner, outer = zip(
        *(_overlap(s, size, length) for s, size, length in zip(start, patch, image.shape[1:], strict=True)),
        strict=True,
    )
    window = image[(slice(None), *outer)].float()
    pads = [
        edge
        for i, size in reversed(list(zip(inner, patch, strict=True)))
        for edge in (i.start, size - i.stop)
    ]
    if any(pads):
        window = torch.nn.functional.pad(window[None], pads, mode="replicate")[0]
    return window


def predict_voxels(
    placed: PlacedNetwork,
    image: Tensor,
    voxels: NDArray[np.int64],
    image_start: Triple = (0, 0, 0),
    whole: Triple | None = None,
) -> NDArray[np.float32]:
    """Return ``(K, N)`` class probabilities at flat indices `voxels` of a ``(C, Z, Y, X)`` volume.

    Only the box round the voxels, at least one patch wide, is computed.  `image_start` and `whole` are as
    in `predict_slabs`.
    """
    position = np.array(np.unravel_index(voxels, to_triple(image.shape[1:])))
    low, high = position.min(1), position.max(1) + 1
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    probabilities = predict_box(placed, image, box, image_start, whole)
    z, y, x = position - low[:, None]
    return probabilities[:, z, y, x]


def predict_box(
    placed: PlacedNetwork,
    image: Tensor,
    box: tuple[slice, slice, slice],
    image_start: Triple = (0, 0, 0),
    whole: Triple | None = None,
    overlap: float = 0.25,
) -> NDArray[np.float32]:
    """Return the class probabilities ``(K, …)`` in a box of a ``(C, Z, Y, X)`` volume, in one go.

    Along an axis on which the box is thinner than a patch, one patch is laid round its middle.
    `image_start` and `whole` are as in `predict_slabs`.
    """
    shape = to_triple(image.shape[1:])
    start, stop = [], []
    for edge, size, length in zip(box, placed.plan.patch, shape, strict=True):
        missing = max(0, size - (edge.stop - edge.start))
        first = max(0, min(edge.start - missing // 2, length - (edge.stop - edge.start) - missing))
        start.append(first)
        stop.append(min(length, max(edge.stop, first + size)))
    part = image[(slice(None), *(slice(a, b) for a, b in zip(start, stop, strict=True)))]
    probabilities = torch.zeros((placed.classes, *part.shape[1:]))
    origin = to_triple(a + b for a, b in zip(start, image_start, strict=True))
    for item in predict_slabs(placed, part, overlap, start=origin, whole=whole or shape):
        if isinstance(item, Slab):
            probabilities[:, item.first : item.first + item.probabilities.shape[1]] = item.probabilities
    inner = tuple(slice(e.start - a, e.stop - a) for e, a in zip(box, start, strict=True))
    return probabilities[(slice(None), *inner)].numpy()
