"""A network made ready to predict: on its device, in the fastest form, and many windows at once."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from napari_sparseseg.narrow_layers import quicken_layer
from napari_sparseseg.networks import NetworkPlan, Precision, Triple
from napari_sparseseg.window_grid import weigh_window

MOST_THREADS = 8
"""At most as many windows at once: each needs the memory of a whole pass through the network."""

GPU_BATCH = 4
"""Windows in a batch on a GPU, which one small window does not fill."""


@dataclass(frozen=True, eq=False)
class PlacedNetwork:
    """A network in evaluation mode on its device, and how to feed it.

    Attributes
    ----------
    network
        ``(B, C, Z, Y, X)`` to ``(B, classes, Z, Y, X)`` logits.
    plan, precision, position, classes
        As in `Model`.
    device
        Where it is.
    threads
        How many windows are computed at once, each in a thread of its own.
    batch
        How many are put into one batch.
    """

    network: nn.Module
    plan: NetworkPlan
    device: torch.device
    precision: Precision
    position: bool
    classes: int
    threads: int = 1
    batch: int = 1

    @cached_property
    def window_weight(self) -> Tensor:
        """Weight of each voxel of a window, on the device."""
        return weigh_window(self.plan.patch, self.device)

    @torch.no_grad()
    def predict_windows(self, windows: Tensor) -> Tensor:
        """Return the class probabilities ``(B, K, Z, Y, X)`` float32 of ``(B, C, Z, Y, X)`` windows."""
        batch = self.precision.arrange(windows.to(self.device, non_blocking=True))
        with self.precision.autocast(self.device):
            logits: Tensor = self.network(batch)
        # Class by class in memory, or each of the many steps that follow takes several times as long.
        return logits.contiguous().float().softmax(1)

    def predict_each(
        self, corners: Sequence[Triple], read: Callable[[Triple], Tensor]
    ) -> Iterator[tuple[Triple, Tensor]]:
        """Yield the class probabilities ``(K, *patch)`` of each window, in order.

        Parameters
        ----------
        corners
            Where the windows begin.
        read
            Returns the ``(C, *patch)`` window that begins at a corner; called in other threads, too.
        """
        if self.threads > 1 and len(corners) > 1:
            with closing(self._predict_in_threads(corners, read)) as answers:
                yield from zip(corners, answers, strict=True)
            return
        for first in range(0, len(corners), self.batch):
            some = corners[first : first + self.batch]
            windows = torch.stack([read(corner) for corner in some])
            yield from zip(some, self.predict_windows(windows), strict=True)

    def _predict_one(self, corner: Triple, read: Callable[[Triple], Tensor]) -> Tensor:
        return self.predict_windows(read(corner)[None])[0]

    def _predict_in_threads(
        self, corners: Sequence[Triple], read: Callable[[Triple], Tensor]
    ) -> Generator[Tensor, None, None]:
        waiting: deque[Future[Tensor]] = deque()
        pool = ThreadPoolExecutor(self.threads, "window")
        try:
            for corner in corners:
                waiting.append(pool.submit(self._predict_one, corner, read))
                if len(waiting) > self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


class InstanceNormOfOne(nn.Module):
    """Instance norm that needs no copy of a single volume in channels-last order.

    For one volume instance norm and batch norm over it are the same; torch's instance norm makes a copy in
    channels-first order, and the next convolution another one back.
    """

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, features: Tensor) -> Tensor:
        """Normalise ``(B, C, Z, Y, X)`` per volume and channel."""
        if len(features) > 1 or features.device.type != "cpu":
            answer: Tensor = self.norm(features)
            return answer
        norm = self.norm
        return nn.functional.batch_norm(
            features, None, None, norm.weight, norm.bias, training=True, eps=norm.eps
        )


def prepare_network(network: nn.Module, precision: Precision) -> nn.Module:
    """Give a network, in place, the form in which it predicts fastest; it cannot be trained any more.

    The answers are the same up to rounding.
    """
    network.eval().requires_grad_(requires_grad=False)
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.InstanceNorm3d) and not child.track_running_stats:
                setattr(module, name, InstanceNormOfOne(child))
            if precision.dtype == "bfloat16" and isinstance(child, nn.Conv3d | nn.ConvTranspose3d):
                child.to(torch.bfloat16)  # autocast would do it anew for each window
                if precision.channels_last and child.weight.device.type == "cpu":
                    setattr(module, name, quicken_layer(child))
    return network


@contextmanager
def one_thread_per_window() -> Iterator[int]:
    """Let torch compute each window in one thread while in here; yield how many windows that leaves room for.

    Many windows side by side are faster than many threads on one, other threads that read and write get on,
    and the answers, bit for bit, are the same on any number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
