"""Networks, their plan from spacing and shape, and the device and precision they run with."""

import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import platformdirs
import torch
from monai.networks.nets import DynUNet, SegResNet, UNet
from torch import Tensor, nn

from napari_sparseseg.atomic import write_text
from napari_sparseseg.errors import InputError
from napari_sparseseg.settings import NetworkConfig

Triple = tuple[int, int, int]

_WIDTHS = {"small": 16, "medium": 32, "large": 48}
_LEVELS = {"small": 4, "medium": 5, "large": 5}
_THIN_PATCH = 12
_LEAST_LEVELS = {"unet": 2, "dynunet": 3, "segresnet": 2}
_DEFAULT_PATCH_VOXELS = {"cpu": 64**3, "mps": 64**3, "cuda": 96**3}


@dataclass(frozen=True)
class NetworkPlan:
    """The geometry of a network: patch size in voxels, and stride and kernel per level, all ``(Z, Y, X)``.

    `dynunet` uses all of it; MONAI's `unet` takes the strides and has kernels of 3 at every level, and
    `segresnet` always pools all axes by 2.

    The first level keeps the full resolution (stride 1).
    """

    patch: Triple
    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict for JSON."""
        return {"patch": self.patch, "strides": self.strides, "kernels": self.kernels}

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """Read what `to_json` wrote; raise `InputError` for anything else."""
        try:
            patch = to_triple(values["patch"])
            strides = tuple(to_triple(level) for level in values["strides"])
            kernels = tuple(to_triple(level) for level in values["kernels"])
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise InputError(f"the network's plan cannot be read ({error}).") from error
        sizes_fit = all(1 <= size <= 1024 for size in patch) and 1 < len(strides) == len(kernels) <= max(
            _LEVELS.values()
        )
        strides_fit = all(step in (1, 2) for level in strides for step in level)
        kernels_fit = all(size in (1, 3) for level in kernels for size in level)
        divisors = [math.prod(level[axis] for level in strides) for axis in range(3)]
        divisible = strides_fit and not any(size % d for size, d in zip(patch, divisors, strict=True))
        if not (sizes_fit and kernels_fit and divisible):
            raise InputError("the network's plan has sizes that no plan of this program has.")
        return cls(patch, strides, kernels)


def to_triple(values: Iterable[Any]) -> Triple:
    """Return three whole numbers ``(Z, Y, X)``."""
    z, y, x = (int(value) for value in values)
    return z, y, x


def plan_network(
    shape: Triple, spacing: tuple[float, float, float], config: NetworkConfig, patch_voxels: int
) -> NetworkPlan:
    """Choose patch size, strides and kernels from the volume's geometry.

    An axis is pooled only when its voxels are not yet much longer than the shortest ones, and while at
    least 4 voxels of it are left (so that at least 2 reach the bottleneck); an axis twice as coarse as
    the finest one gets kernels of 1 until pooling has evened it out (Isensee et al. 2021, nnU-Net).

    Parameters
    ----------
    shape
        Typical size of a volume in voxels ``(Z, Y, X)``.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    config
        The network; `segresnet` pools all axes alike.
    patch_voxels
        About how many voxels a patch may have.
    """
    sizes = _patch_extent(shape, spacing, patch_voxels)
    strides: list[Triple] = [(1, 1, 1)]
    kernels: list[Triple] = []
    lengths = list(spacing)
    left = list(sizes)
    levels = _LEVELS[config.size]
    for _ in range(levels):
        kernels.append(to_triple(1 if length > 2 * min(lengths) else 3 for length in lengths))
        stride = to_triple(
            2 if left[axis] >= 4 and lengths[axis] <= 2 * min(lengths) * 0.999 else 1 for axis in range(3)
        )
        if config.architecture == "segresnet":
            stride = (2, 2, 2)
        if len(strides) < _LEAST_LEVELS[config.architecture] and max(stride) == 1:  # a tiny volume
            stride = (2, 2, 2)
        if len(strides) == levels or max(stride) == 1:
            break
        strides.append(stride)
        lengths = [length * step for length, step in zip(lengths, stride, strict=True)]
        left = [math.ceil(size / step) for size, step in zip(left, stride, strict=True)]
    kernels = kernels[: len(strides)]
    divisors = [math.prod(level[axis] for level in strides) for axis in range(3)]
    minimum = [2 * d if d > 1 else 1 for d in divisors]
    patch = to_triple(
        max(low, math.ceil(size / d) * d) for low, size, d in zip(minimum, sizes, divisors, strict=True)
    )
    return NetworkPlan(patch, tuple(strides), tuple(kernels))


def _patch_extent(shape: Triple, spacing: tuple[float, float, float], voxels: int) -> list[int]:
    """Return a box of about `voxels` voxels, as cubic in mm as the volume's shape allows."""
    sizes = [0.0, 0.0, 0.0]
    free = [0, 1, 2]
    budget = float(voxels)
    while free:
        edge = (budget * math.prod(spacing[axis] for axis in free)) ** (1 / len(free))
        limited = [axis for axis in free if edge / spacing[axis] >= shape[axis]]
        if not limited:
            for axis in free:
                sizes[axis] = edge / spacing[axis]
            break
        for axis in limited:
            sizes[axis] = shape[axis]
            budget /= shape[axis]
            free.remove(axis)
    return [max(1, round(size)) for size in sizes]


def _unet(plan: NetworkPlan, width: int, channels: int, classes: int) -> nn.Module:
    network: nn.Module = UNet(
        spatial_dims=3,
        in_channels=channels,
        out_channels=classes,
        channels=[width * 2**level for level in range(len(plan.strides))],
        strides=plan.strides[1:],
        kernel_size=3,
        up_kernel_size=3,
        num_res_units=1,
    )
    return network


def _dynunet(plan: NetworkPlan, width: int, channels: int, classes: int) -> nn.Module:
    network: nn.Module = DynUNet(
        spatial_dims=3,
        in_channels=channels,
        out_channels=classes,
        kernel_size=plan.kernels,
        strides=plan.strides,
        upsample_kernel_size=plan.strides[1:],
        filters=[min(width * 2**level, 320) for level in range(len(plan.strides))],
    )
    return network


def _segresnet(plan: NetworkPlan, width: int, channels: int, classes: int) -> nn.Module:
    network: nn.Module = SegResNet(
        spatial_dims=3,
        in_channels=channels,
        out_channels=classes,
        init_filters=width // 2,
        norm=("INSTANCE", {"affine": True}),
        blocks_down=[1] + [2] * (len(plan.strides) - 1),
        blocks_up=[1] * (len(plan.strides) - 1),
    )
    return network


NETWORKS: dict[str, Callable[[NetworkPlan, int, int, int], nn.Module]] = {
    "unet": _unet,
    "dynunet": _dynunet,
    "segresnet": _segresnet,
}
"""Architecture name → builder ``(plan, width, input channels, classes) -> module``."""


def build_network(config: NetworkConfig, plan: NetworkPlan, channels: int, classes: int) -> nn.Module:
    """Build a network from `NETWORKS`, ``(B, channels, Z, Y, X)`` to ``(B, classes, Z, Y, X)`` logits."""
    return NETWORKS[config.architecture](plan, _WIDTHS[config.size], channels, classes)


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises
    ------
    InputError
        If the named device is not on this machine.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in present.items() if there)
    if not present[name]:
        raise InputError(f"this machine has no usable {name} device; choose cpu or auto as the device.")
    return torch.device(name)


def default_patch_voxels(device: torch.device) -> int:
    """Return how many voxels a patch has by default on `device`."""
    return _DEFAULT_PATCH_VOXELS[device.type]


@dataclass(frozen=True)
class Precision:
    """Number format (``float32`` or ``bfloat16`` autocast) and memory format of a network."""

    dtype: str
    channels_last: bool

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return the autocast context for `device`."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.dtype == "bfloat16")

    def place(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Move `network` to `device` in this memory format."""
        return network.to(device, memory_format=self._memory_format)  # type: ignore[call-overload, no-any-return]

    def arrange(self, batch: Tensor) -> Tensor:
        """Give a ``(B, C, Z, Y, X)`` batch this memory format."""
        return batch.contiguous(memory_format=self._memory_format)

    @property
    def _memory_format(self) -> torch.memory_format:
        return torch.channels_last_3d if self.channels_last else torch.contiguous_format


_CANDIDATES = tuple(Precision(d, c) for d in ("bfloat16", "float32") for c in (True, False))


def choose_precision(
    name: str, network: nn.Module, plan: NetworkPlan, channels: int, device: torch.device
) -> Precision:
    """Return the fastest precision for training `network` here: measured once, then remembered.

    Which pair of number and memory format wins differs between machines by a factor of up to thirty,
    so it is timed (a fraction of a second, on a small patch) and cached per machine and network.
    ``float32`` and ``bfloat16`` in `name` fix the number format; the memory format is still measured.
    """
    candidates = [c for c in _CANDIDATES if name in ("auto", c.dtype)]
    divisors = [math.prod(level[axis] for level in plan.strides) for axis in range(3)]
    small = to_triple(min(size, max(2 * d, 32)) for size, d in zip(plan.patch, divisors, strict=True))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.processor()} {torch.get_num_threads()} threads"
    )
    description = f"{type(network).__name__} {parameters} {small} {name}"
    key = f"{platform.node()} {where} torch {torch.__version__} {description}"
    cache = Path(platformdirs.user_cache_dir("napari-sparseseg")) / "precision.json"
    known = _read_cache(cache)
    if key in known and Precision(*known[key]) in candidates:
        return _avoid_crash(Precision(*known[key]), plan, device, name)
    state = torch.get_rng_state()
    batch = torch.randn(1, channels, *small, device=device)
    timed = [(_time_step(network, candidate, batch, device), candidate) for candidate in candidates]
    torch.set_rng_state(state)
    best = min(timed, key=lambda pair: pair[0])[1]
    known[key] = [best.dtype, best.channels_last]
    _write_cache(cache, known)
    return _avoid_crash(best, plan, device, name)


def _avoid_crash(best: Precision, plan: NetworkPlan, device: torch.device, name: str) -> Precision:
    """Return `best`, or float32 where bfloat16 was not asked for and would end the process.

    The backward convolution of torch 2.13 in bfloat16 on CPUs with AMX corrupts memory for some thin
    patches, (8, 120, 120) among them; which, only a process that may die can tell.
    """
    thin = min(plan.patch) <= _THIN_PATCH
    if name == "auto" and best.dtype == "bfloat16" and device.type == "cpu" and thin:
        cache = Path(platformdirs.user_cache_dir("napari-sparseseg")) / "precision.json"
        known = _read_cache(cache)
        key = f"{platform.node()} {platform.processor()} torch {torch.__version__} survives {plan.patch}"
        if key not in known:
            command = [sys.executable, "-c", _TRIAL, json.dumps(plan.to_json())]
            known[key] = subprocess.run(command, capture_output=True, check=False).returncode == 0
            _write_cache(cache, known)
        if known[key] is not True:
            return Precision("float32", channels_last=False)
    return best


_TRIAL = """
import json, sys, torch
plan = json.loads(sys.argv[1])
size = plan["patch"]
for stride in plan["strides"]:
    size = [-(-length // step) for length, step in zip(size, stride)]
    layer = torch.nn.Conv3d(2, 2, 3, padding=1)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            layer(torch.randn(1, 2, *size, requires_grad=True)).float().square().mean().backward()
"""
"""Bare convolutions of a network's sizes, in a process of their own."""


def _time_step(network: nn.Module, precision: Precision, batch: Tensor, device: torch.device) -> float:
    network = precision.place(network, device)
    batch = precision.arrange(batch)
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        with precision.autocast(device):
            loss = network(batch).float().square().mean()
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
        if best > 1.0:  # hopeless beside the others, and the user is waiting
            break
    network.zero_grad(set_to_none=True)
    return best


def _read_cache(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write_cache(path: Path, known: dict[str, Any]) -> None:
    try:
        write_text(path, json.dumps(known, indent=1))
    except InputError:
        return  # a read-only home only costs the next start a measurement


def with_smaller_patch(plan: NetworkPlan) -> NetworkPlan | None:
    """Return `plan` with its longest patch axis halved, or None when it cannot shrink."""
    divisors = [math.prod(level[axis] for level in plan.strides) for axis in range(3)]
    axis = max(range(3), key=lambda a: plan.patch[a] / divisors[a])
    half = plan.patch[axis] // 2 // divisors[axis] * divisors[axis]
    if half < max(2 * divisors[axis], 8):
        return None
    patch = list(plan.patch)
    patch[axis] = half
    return replace(plan, patch=to_triple(patch))
