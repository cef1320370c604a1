"""Applying a trained network to a volume: overlapping windows, blended, in bounded memory."""

import copy
import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.checkpoint import Model
from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event, Noted, WindowDone
from napari_sparseseg.networks import Precision, Triple, choose_device, choose_precision, to_triple
from napari_sparseseg.placed_network import GPU_BATCH, MOST_THREADS, PlacedNetwork, prepare_network
from napari_sparseseg.postprocessing import clean_channels
from napari_sparseseg.resampling import resample_image, resample_slabs, shape_at
from napari_sparseseg.sampling import position_channels
from napari_sparseseg.settings import InferenceConfig
from napari_sparseseg.window_grid import plan_windows, read_window, shared_part

__all__ = [
    "PlacedNetwork",
    "Prediction",
    "Slab",
    "entropy",
    "most_probable",
    "place_model",
    "predict_box",
    "predict_region",
    "predict_slabs",
    "predict_volume",
    "predict_voxels",
    "predict_with_fallback",
]

_LARGEST_GROWTH = 64
_LEAST_FLOAT = torch.finfo(torch.float32).tiny


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
class Slab:
    """Finished class probabilities ``(K, n, Y, X)`` of the slices from `first` on."""

    first: int
    probabilities: Tensor


def place_model(
    model: Model,
    device_name: str = "auto",
    precision_name: str = "auto",
    *,
    precision: Precision | None = None,
    threads: int = 1,
) -> PlacedNetwork:
    """Put `model` on a device, in the precision that is fastest there.

    Parameters
    ----------
    model
        The network.
    device_name, precision_name
        As in the settings.
    precision
        What was found fastest before, so that it need not be measured.
    threads
        How many windows may be computed at once on a CPU, each in a thread of its own; see
        `placed_network.one_thread_per_window`.  The answer does not depend on it.
    """
    device = choose_device(device_name)
    network = model.build()
    if precision is None:
        channels = model.channels + 3 * model.position
        precision = choose_precision(precision_name, network, model.plan, channels, device)
    network = prepare_network(precision.place(network, device), precision)
    if device.type == "cpu":
        threads, batch = max(1, min(threads, MOST_THREADS)), 1
    else:
        threads, batch = 1, GPU_BATCH
    return PlacedNetwork(
        network, model.plan, device, precision, model.position, len(model.table), threads, batch
    )


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
    _check_channels(model, image.shape[0])
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


def _check_channels(model: Model, channels: int) -> None:
    """Raise `InputError` where a volume of so many `channels` is none that `model` was trained for."""
    if channels != model.channels:
        raise InputError(
            f"the volume has {channels} channels and the model was trained on {model.channels}; "
            "give the same channels in the same order."
        )


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
        self._channels[first:last] = most_probable(slab).numpy()
        self._uncertainty[first:last] = entropy(slab).half().numpy()
        if self._probabilities is not None:
            self._probabilities[:, first:last] = slab.half().numpy()

    def result(self) -> Prediction:
        return Prediction(self._channels, self._uncertainty, self._probabilities)


def entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy over the first axis of ``(K, …)`` probabilities, divided by log K."""
    probabilities = probabilities.float()
    terms = probabilities.clamp_min(_LEAST_FLOAT).log_().mul_(probabilities)  # 0 for what is 0
    return terms.sum(0).mul_(-1 / math.log(len(probabilities)))


def most_probable(probabilities: Tensor) -> Tensor:
    """Return the uint8 index of the largest of ``(K, …)`` probabilities, of the first where several are.

    Many times as fast as `torch.argmax` over the first axis.
    """
    best = probabilities[0].clone()
    channel = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for index, other in enumerate(probabilities[1:], 1):
        torch.maximum(channel, (other > best).to(torch.uint8).mul_(index), out=channel)
        torch.maximum(best, other, out=best)
    return channel


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
        network = precision.place(
            copy.deepcopy(placed.network).float(), cpu
        )  # the caller's stays where it is
        on_cpu = replace(placed, network=network, device=cpu, precision=precision, batch=1)
        yield from predict_slabs(on_cpu, image, overlap, start=start, whole=whole)


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
    layers = plan_windows(shape, patch, overlap)
    read = partial(_read_with_position, image, placed, start, whole or shape)
    done, count = 0, sum(len(layer.corners) for layer in layers)
    if count == 1:  # nothing to blend
        [(corner, probabilities)] = placed.predict_each(layers[0].corners, read)
        inner, _ = shared_part(corner, patch, shape)
        yield WindowDone(1, 1)
        yield Slab(0, probabilities[(slice(None), *inner)].cpu())
        return
    depth = min(patch[0], shape[0])
    total = torch.zeros((placed.classes, depth, *shape[1:]), device=placed.device)
    weight = torch.zeros((1, depth, *shape[1:]), device=placed.device)
    for layer in layers:
        for corner, probabilities in placed.predict_each(layer.corners, read):
            inner, outer = shared_part(corner, patch, shape)
            part = (slice(None), slice(0, inner[0].stop - inner[0].start), *outer[1:])
            total[part] += probabilities.mul_(placed.window_weight)[(slice(None), *inner)]
            weight[part] += placed.window_weight[inner]
            done += 1
            yield WindowDone(done, count)
        yield Slab(max(layer.first, 0), (total[:, : layer.ready] / weight[:, : layer.ready]).cpu())
        for sums in (total, weight):
            _forget_slices(sums, layer.ready)


def _forget_slices(sums: Tensor, number: int) -> None:
    """Move the slices of ``(K, Z, Y, X)`` down by `number`, in place; what follows them is 0."""
    left = sums.shape[1] - number
    for row in range(left):
        sums[:, row] = sums[:, row + number]
    sums[:, left:] = 0


def _read_with_position(
    image: Tensor, placed: PlacedNetwork, start: Triple, whole: Triple, corner: Triple
) -> Tensor:
    window = read_window(image, corner, placed.plan.patch)
    if not placed.position:
        return window
    origin = to_triple(a + b for a, b in zip(corner, start, strict=True))
    return torch.cat([window, position_channels(placed.plan.patch, origin, whole, window.device)])


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
