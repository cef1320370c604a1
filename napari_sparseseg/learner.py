"""A network being trained: its weights, their running average, and the optimiser."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from napari_sparseseg.losses import combined_loss
from napari_sparseseg.networks import NetworkPlan, Precision

_WARM_UP = 0.15
_AVERAGE_DECAY = 0.99
_WEIGHT_DECAY = 1e-4
_GRADIENT_NORM = 5.0


@dataclass(frozen=True)
class Gentleness:
    """Parameters that learn at another rate in the first part of a training.

    Attributes
    ----------
    names
        Of the parameters, in the network.
    factor
        Of the learning rate.
    share
        How long that part is, as a share of the training.
    """

    names: frozenset[str]
    factor: float
    share: float


@dataclass(frozen=True, eq=False)
class StartedNetwork:
    """A network before its first step.

    Attributes
    ----------
    network, plan, position
        The network on the CPU, its geometry, and whether it takes the position channels.
    gently
        Which parameters learn at another rate at first: an encoder's.
    encoder_taken, encoder_hash
        What was taken over of it in a sentence, and its hash; empty without one.
    """

    network: nn.Module
    plan: NetworkPlan
    position: bool
    gently: Gentleness | None
    encoder_taken: str
    encoder_hash: str


class Learner:
    """Takes training steps and keeps an exponential moving average of the weights.

    The average (Polyak & Juditsky 1992) is what is shown, scored and saved; it is steadier than the
    weights of any one step.

    Parameters
    ----------
    network
        On the CPU; moved to `device` in `precision`.
    device, precision
        Where and how to compute.
    learning_rate
        Peak of the one-cycle schedule.
    gently
        Which parameters learn at another rate at first; None: none.
    share_gradients
        Makes of a placed network one that averages its gradients with those of other processes.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        precision: Precision,
        learning_rate: float,
        gently: Gentleness | None = None,
        share_gradients: Callable[[nn.Module], nn.Module] = lambda network: network,
    ) -> None:
        self.device = device
        self.precision = precision
        self.network = precision.place(network, device).train()
        self._shared = share_gradients(self.network)
        self._peak = learning_rate
        self._gently = gently or Gentleness(frozenset(), 1.0, 0.0)
        self._parameters = list(self.network.parameters())
        self._average = [parameter.detach().clone() for parameter in self._parameters]
        groups = [{"params": params} for params in self._part()]
        self._optimizer = torch.optim.AdamW(
            groups, lr=learning_rate, weight_decay=_WEIGHT_DECAY, fused=device.type != "mps"
        )
        self._steps = 0

    def _part(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the parameters that always learn alike, and the others."""
        named, apart = list(self.network.named_parameters()), self._gently.names
        return [p for name, p in named if name not in apart], [p for name, p in named if name in apart]

    def step(
        self,
        image: Tensor,
        label_sets: list[tuple[Tensor, Tensor, float]],
        dice_weight: float,
        progress: float,
        further: Sequence[Callable[[Tensor], Tensor]] = (),
    ) -> float:
        """Take one step on a batch and return its loss.

        Parameters
        ----------
        image
            ``(B, C, Z, Y, X)`` on the device.
        label_sets, dice_weight
            As `losses.combined_loss` takes them.
        progress
            Share of the training done, 0 to 1; sets the learning rate: a linear rise, then a cosine.
        further
            Terms of the loss beside the labels': functions of the logits ``(B, K, Z, Y, X)``.
        """
        factor = self._gently.factor if progress < self._gently.share else 1.0
        for group, slower in zip(self._optimizer.param_groups, (1.0, factor), strict=True):
            group["lr"] = self._peak * one_cycle(progress) * slower
        self._optimizer.zero_grad(set_to_none=True)  # first: a step that ran out of memory leaves some
        with self.precision.autocast(self.device):
            logits = self._shared(self.precision.arrange(image))
        loss = combined_loss(logits, label_sets, dice_weight)
        for term in further:
            loss = loss + term(logits)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, _GRADIENT_NORM, foreach=True)
        self._optimizer.step()
        self._steps += 1
        decay = min(_AVERAGE_DECAY, self._steps / (self._steps + 9))
        with torch.no_grad():
            torch._foreach_lerp_(self._average, list[Tensor](self._parameters), 1 - decay)
        return float(loss.detach())

    def average_weights(self) -> dict[str, Tensor]:
        """Return the network's state with the averaged weights, copied to the CPU."""
        state = {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}
        names = [name for name, _ in self.network.named_parameters()]
        averages = (average.cpu().clone() for average in self._average)
        return {**state, **dict(zip(names, averages, strict=True))}

    def on_cpu(self) -> "Learner":
        """Return a learner that goes on with these weights on the CPU, in float32."""
        network = self.network.cpu()
        cpu = torch.device("cpu")
        return Learner(network, cpu, Precision("float32", channels_last=False), self._peak, self._gently)

    def state(self) -> dict[str, Tensor]:
        """Return everything a later `load_state` needs to go on exactly here."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"average.{i}": average for i, average in enumerate(self._average)}
        for i, parameter in enumerate(self._parameters):  # the optimiser has them in another order
            values = self._optimizer.state.get(parameter, {})
            tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in values.items()}
        tensors["steps"] = torch.tensor(self._steps)
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        self.network.load_state_dict(with_prefix(tensors, "network."))
        with torch.no_grad():
            for i, average in enumerate(self._average):
                average.copy_(tensors[f"average.{i}"])
        description = self._optimizer.state_dict()
        description["state"] = {}
        order = {parameter: place for place, parameter in enumerate(chain(*self._part()))}
        places = [order[parameter] for parameter in self._parameters]
        for name, tensor in with_prefix(tensors, "optimizer.").items():
            index, key = name.split(".")
            description["state"].setdefault(places[int(index)], {})[key] = tensor
        self._optimizer.load_state_dict(description)
        lay_out_moments(self._optimizer)
        self._steps = int(tensors["steps"])


def lay_out_moments(optimizer: torch.optim.Optimizer) -> None:
    """Give what an optimiser remembers of each parameter that parameter's memory format.

    A state that was read has lost it, and a fused optimiser takes the numbers in the order they lie in.
    """
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)


def one_cycle(progress: float) -> float:
    """Return the share of the peak learning rate at `progress` (0 to 1) of the training."""
    progress = min(max(progress, 0.0), 1.0)
    if progress < _WARM_UP:
        return 0.1 + 0.9 * progress / _WARM_UP
    return 0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
