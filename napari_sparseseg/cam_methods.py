"""Where a network looked: six ways to ask it about one window of a volume.

All of them ask about one number, the class score, and answer with one map; what it is the score of, a
classifier's window or the voxels that a segmentation network gave to the class, is the network's business
(`cam`).

Parts of MONAI's `visualize` serve where they fit.  Where they do not: its CAM calls the head voxel by voxel
and adds the bias everywhere; its Grad-CAM++ adds 1e-7 to a denominator that in 3D is about 1e-9, and
multiplies by exp(score), which overflows; its SmoothGrad draws noise without a seed, also onto position
channels; its occlusion takes one mean for all channels and indexes by lists, which torch is about to forbid.
"""

import itertools
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from monai.visualize import GradCAM, VanillaGrad
from monai.visualize.class_activation_maps import ModelWithHooks
from torch import Tensor, nn

from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.settings import CamConfig

_NOISE_SEED = 0
_BATCH_VOXELS = 600_000
_LEAST_PARTS = 2


@dataclass(frozen=True, eq=False)
class Question:
    """What a network is asked.

    Attributes
    ----------
    network
        ``(B, C, Z, Y, X)`` to ``(B, K - 1)`` scores; its weights are frozen here.
    layer
        The module of `network` whose features are looked at.
    stride
        Voxels ``(Z, Y, X)`` between its features; feature i lies at voxel i · stride.
    index
        Which of the scores.
    head
        The weights ``(F,)`` by which the class score is a sum over the mean features of `layer`; None where
        it is no such sum.
    channels
        Image channels; those after them tell the position, and are no evidence.
    span
        ``(channels,)`` range of the image's intensities, as the network sees them.
    most_passes
        How often occlusion may call the network for one window.
    least_score
        Occlusion does not look into a window whose score is lower.
    """

    network: nn.Module
    layer: nn.Module
    stride: Triple
    index: int
    head: Tensor | None
    channels: int
    span: Tensor
    most_passes: int = 1000
    least_score: float = -math.inf

    @property
    def layer_name(self) -> str:
        """The name of `layer` in `network`."""
        names: dict[nn.Module, str] = {module: name for name, module in self.network.named_modules()}
        return names[self.layer]


WindowMap = Callable[[Tensor], Generator[float, None, Tensor]]
"""``(1, C, Z, Y, X)`` to the raw map ``(z, y, x)`` of the features or the voxels, yielding the share done."""

MapMethod = Callable[[Question, CamConfig], WindowMap]
"""Prepares a network once, for all windows."""


def _freeze(question: Question) -> None:
    question.network.eval().requires_grad_(False)


def _begin_at_layer(question: Question) -> None:
    """Let gradients begin at the layer: what comes before it costs neither time nor memory then."""

    def begin(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].detach().requires_grad_(), *inputs[1:])

    _freeze(question)
    question.layer.register_forward_pre_hook(begin)


def _map_at_once(compute: Callable[[Tensor], Tensor]) -> WindowMap:
    def map_window(window: Tensor) -> Generator[float, None, Tensor]:
        yield 0.0
        return compute(window)

    return map_window


def _prepare_cam(question: Question, config: CamConfig) -> WindowMap:
    """Zhou et al. 2016: the head's weights times the features, before they are averaged."""
    head = question.head
    if head is None:
        raise InputError("cam works on a classifier's last layer; choose grad_cam, or 0 as the layer.")
    _freeze(question)
    hooked = ModelWithHooks(question.network, question.layer_name, register_forward=True)

    @torch.no_grad()
    def compute(window: Tensor) -> Tensor:
        _, (features,), _ = hooked(window, class_idx=question.index)
        return torch.einsum("f,fzyx->zyx", head, features[0])

    return _map_at_once(compute)


def _prepare_grad_cam(question: Question, config: CamConfig) -> WindowMap:
    """Selvaraju et al. 2017: features weighed by the mean gradient of the score, cut off below 0."""
    _begin_at_layer(question)
    method = GradCAM(question.network, question.layer_name, postprocessing=lambda values: values)

    def compute(window: Tensor) -> Tensor:
        values: Tensor = method.compute_map(window, class_idx=question.index)
        return values[0, 0].detach()

    return _map_at_once(compute)


def _prepare_grad_cam_pp(question: Question, config: CamConfig) -> WindowMap:
    """Chattopadhyay et al. 2018: as Grad-CAM, with weights that let several objects count alike.

    The paper's weights are the sum of ``a · relu(exp(score) · g)`` with ``a = g² / (2 g² + g³ · sum of
    features)``, g the gradient.  ``exp(score)`` is left out: within a window it only scales the map.
    Features may be negative here, so that the denominator could vanish: it is kept at ``g²`` at least.
    """
    _begin_at_layer(question)
    hooked = ModelWithHooks(
        question.network, question.layer_name, register_forward=True, register_backward=True
    )

    def compute(window: Tensor) -> Tensor:
        _, (features,), (gradients,) = hooked(window, class_idx=question.index)
        features, gradients = features[0].detach(), gradients[0].detach()
        total = features.sum((1, 2, 3), keepdim=True)
        shares = gradients.ne(0) / (2 + gradients * total).clamp_min(1)
        weights = (shares * gradients.relu()).sum((1, 2, 3))
        return torch.einsum("f,fzyx->zyx", weights, features).relu()

    return _map_at_once(compute)


def _prepare_saliency(question: Question, config: CamConfig) -> WindowMap:
    """Simonyan et al. 2014: the largest gradient of the score among a voxel's channels, without its sign."""
    _freeze(question)
    method = VanillaGrad(question.network)

    def compute(window: Tensor) -> Tensor:
        gradient: Tensor = method.get_grad(window.detach().clone(), question.index, retain_graph=False)
        return gradient[0, : question.channels].abs().amax(0)

    return _map_at_once(compute)


def _prepare_smooth_saliency(question: Question, config: CamConfig) -> WindowMap:
    """Smilkov et al. 2017 (SmoothGrad): the mean gradient over noisy copies, then as for saliency."""
    _freeze(question)
    method = VanillaGrad(question.network)
    generator = torch.Generator().manual_seed(_NOISE_SEED)
    deviation = (config.smooth_noise * question.span).reshape(-1, 1, 1, 1)

    def map_window(window: Tensor) -> Generator[float, None, Tensor]:
        total = torch.zeros_like(window[0, : question.channels])
        for run in range(config.smooth_runs):
            yield run / config.smooth_runs
            noise = torch.randn(total.shape, generator=generator).to(window.device)
            copy = window.detach().clone()
            copy[0, : question.channels] += deviation * noise
            total += method.get_grad(copy, question.index, retain_graph=False)[0, : question.channels]
        return (total / config.smooth_runs).abs().amax(0)

    return map_window


def _prepare_occlusion(question: Question, config: CamConfig) -> WindowMap:
    """Zeiler & Fergus 2014: how far the score falls when a part is covered by the window's mean."""
    _freeze(question)

    @torch.no_grad()
    def map_window(window: Tensor) -> Generator[float, None, Tensor]:
        shape = to_triple(window.shape[2:])
        whole = question.network(window)[0, question.index]
        if whole < question.least_score:
            return torch.zeros(shape)
        cells = occlusion_cells(shape, config.occlusion_share, question.most_passes)
        z_parts, y_parts, x_parts = (_cut(length, n) for length, n in zip(shape, cells, strict=True))
        parts = list(itertools.product(z_parts, y_parts, x_parts))
        cover = window[0, : question.channels].mean((1, 2, 3))[:, None, None, None]
        falls = []
        batch_size = max(1, _BATCH_VOXELS // math.prod(shape))
        for first in range(0, len(parts), batch_size):
            yield first / len(parts)
            batch = parts[first : first + batch_size]
            covered = window.repeat(len(batch), 1, 1, 1, 1)
            for row, (z, y, x) in enumerate(batch):
                covered[row, : question.channels, z, y, x] = cover
            falls.append(whole - question.network(covered)[:, question.index])
        grid = torch.cat(falls).reshape(1, 1, *cells)
        return nn.functional.interpolate(grid, shape, mode="trilinear")[0, 0]

    return map_window


def occlusion_cells(shape: Triple, share: float, most_passes: int | None = None) -> Triple:
    """Return into how many parts a window is cut along each axis.

    Parameters
    ----------
    shape
        Of the window.
    share
        Side of a part, as a share of the window's side.
    most_passes
        Parts there may be; they are larger where the share would give more.
    """
    side = max(_LEAST_PARTS, math.ceil(1 / share))
    while most_passes is not None and side > _LEAST_PARTS:
        if math.prod(min(side, length) for length in shape) <= most_passes:
            break
        side -= 1
    return to_triple(min(side, length) for length in shape)


def _cut(length: int, parts: int) -> list[slice]:
    edges = [round(part * length / parts) for part in range(parts + 1)]
    return [slice(first, last) for first, last in itertools.pairwise(edges)]


def spread_features(values: Tensor, stride: Triple, shape: Triple) -> Tensor:
    """Bring a map ``(z, y, x)`` of features to the voxels of its window, linearly.

    A convolution of kernel 3, stride 2 and padding 1 has its feature i in the middle of voxel 2 i, so feature
    i of a level lies at voxel i · stride; the usual up-sampling by aligned corners or aligned edges would
    shift the map.

    Parameters
    ----------
    values
        One value per feature.
    stride
        Voxels between features.
    shape
        The window's.
    """
    if values.shape == shape:
        return values
    reach = [(length - 1) * step + 1 for length, step in zip(values.shape, stride, strict=True)]
    spread = nn.functional.interpolate(values[None, None], reach, mode="trilinear", align_corners=True)
    pads = [
        pad
        for have, want in reversed(list(zip(reach, shape, strict=True)))
        for pad in (0, max(0, want - have))
    ]
    padded = nn.functional.pad(spread, pads, mode="replicate")
    return padded[0, 0, : shape[0], : shape[1], : shape[2]]


CAM_METHODS: dict[str, MapMethod] = {
    "cam": _prepare_cam,
    "grad_cam": _prepare_grad_cam,
    "grad_cam_pp": _prepare_grad_cam_pp,
    "saliency": _prepare_saliency,
    "smooth_saliency": _prepare_smooth_saliency,
    "occlusion": _prepare_occlusion,
}
"""Name → what prepares a network to be asked in that way."""
