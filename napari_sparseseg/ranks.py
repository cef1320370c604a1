"""The processes of one training, as ``torchrun`` starts them: the first leads, the others do what it says.

The leader reads the volumes, decides, and writes; before anything that all take part in it tells the others
what that is.  So these need no clock, no volumes and no settings of their own.
"""

import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import IntEnum
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from napari_sparseseg.errors import InputError
from napari_sparseseg.events import Event

Result = TypeVar("Result")

_TIMEOUT = timedelta(minutes=30)
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class Order(IntEnum):
    """What the leader tells the others to do next."""

    WAIT = 0
    STEP = 1
    SCORE = 2
    LAY_OUT = 3
    STOP = 4


class ProcessLost(InputError):
    """Another process of the training has ended."""


class Ranks:
    """One process of a training among its processes; alone by default.

    Parameters
    ----------
    rank, world
        Its number, from 0, and how many there are.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world
        self._broken = False

    @property
    def leads(self) -> bool:
        """Whether this process is the one that decides and writes."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """Its number, and how many there are."""
        return self.rank, self.world

    def tell(self, order: Order, value: float = 0.0) -> None:
        """Tell the others what comes next; the leader alone calls this.

        Where something that all take part in was broken off they would not hear it: they notice when this
        process ends.
        """
        if self.world > 1 and not self._broken:
            with self.together():
                dist.broadcast(torch.tensor([float(order), value], dtype=torch.float64), 0)
            self._broken = order == Order.STOP

    def meanwhile(self, work: Generator[Event, None, Result]) -> Generator[Event, None, Result]:
        """Let the others wait while this process works alone; else they would give up after half an hour."""
        try:
            while True:
                try:
                    event = next(work)
                except StopIteration as stop:
                    result: Result = stop.value
                    return result
                self.tell(Order.WAIT)
                yield event
        finally:
            work.close()

    def hear(self) -> tuple[Order, float]:
        """Wait for what the leader tells to do; that it tells to wait is not returned."""
        told = torch.zeros(2, dtype=torch.float64)
        while True:
            with _noticing_loss():
                dist.broadcast(told, 0)
            order, value = told.tolist()
            if order != Order.WAIT:
                return Order(int(order)), value

    def share_json(self, value: Any = None) -> Any:
        """Return, everywhere, the plain value that the leader gives."""
        if self.world == 1:
            return value
        text = json.dumps(value).encode() if self.leads else b""
        with _noticing_loss():
            length = torch.tensor([len(text)])
            dist.broadcast(length, 0)
            content = torch.zeros(int(length), dtype=torch.uint8)
            if self.leads:
                content = torch.from_numpy(np.frombuffer(text, np.uint8).copy())
            dist.broadcast(content, 0)
        return json.loads(content.numpy().tobytes())

    def share_tensors(self, tensors: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return, everywhere, the tensors that the leader gives, on the CPU."""
        if self.world == 1:
            return tensors or {}
        given = {name: tensor.detach().cpu().contiguous() for name, tensor in (tensors or {}).items()}
        forms = self.share_json(
            {name: [list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in given.items()}
        )
        shared = {}
        for name, (shape, dtype) in forms.items():
            shared[name] = given[name] if self.leads else torch.zeros(shape, dtype=getattr(torch, dtype))
            with _noticing_loss():
                dist.broadcast(shared[name], 0)
        return shared

    def add_up(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return, everywhere, the sum of what all processes give: arrays of one shape."""
        if self.world == 1:
            return values
        total = torch.from_numpy(np.array(values))
        with _noticing_loss():
            dist.all_reduce(total)
        summed: NDArray[Any] = total.numpy()
        return summed

    def share_gradients(self, network: nn.Module) -> nn.Module:
        """Return a network that averages its gradients over the processes."""
        if self.world == 1:
            return network
        # Its weights are shared beforehand, with all else that a learner remembers.
        return DistributedDataParallel(network, init_sync=False)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do what all take part in; raise `ProcessLost` where it ends because one of them has.

        Raises
        ------
        InputError
            If a GPU's memory runs out: the others cannot go on with smaller patches alone.
        """
        if self.world == 1:
            yield
            return
        self._broken = True
        try:
            with _noticing_loss():
                yield
        except torch.cuda.OutOfMemoryError as error:
            raise InputError(
                f"the memory of the GPU of process {self.rank} is too small; give fewer --patch-voxels or a "
                "smaller --batch-size."
            ) from error
        self._broken = False

    def leave(self) -> None:
        """End taking part."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()


def join_ranks(device: str = "auto") -> Ranks:
    """Take part in the training that ``torchrun`` has started this process for; alone without it.

    Parameters
    ----------
    device
        As `TrainingConfig.device`; each process takes a GPU of its own.

    Raises
    ------
    InputError
        If there are not enough GPUs, or the others cannot be reached.
    """
    world = _read_number("WORLD_SIZE", 1)
    if world == 1:
        return Ranks()
    missing = [name for name in _TORCHRUN if name not in os.environ]
    if missing:
        raise InputError(f"{', '.join(missing)} is not set; start several processes by torchrun.")
    rank, local = _read_number("RANK", 0), _read_number("LOCAL_RANK", 0)
    backend = "gloo"
    if device in ("auto", "cuda") and torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise InputError(
                f"there are more processes than the {torch.cuda.device_count()} GPUs of this machine; start "
                "fewer by --nproc-per-node, or choose --device cpu."
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    with _noticing_loss():
        dist.init_process_group(backend, rank=rank, world_size=world, timeout=_TIMEOUT)
    return Ranks(rank, world)


def _read_number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise InputError(f"{name} is {text!r}; start several processes by torchrun.")
    return int(text)


@contextmanager
def _noticing_loss() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what torch raises where a connection ends or nothing comes
        words = str(error).lower()
        if not (isinstance(error, dist.DistError) or any(part in words for part in ("gloo", "nccl"))):
            raise
        raise ProcessLost(
            "another process of the training has ended or does not answer; see what it said, and go on with "
            "--resume."
        ) from error
