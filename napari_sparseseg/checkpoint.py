"""A trained network on disk: a folder with `model.safetensors` and `model.json`, and nothing executable.

Training also keeps `state.safetensors` and `state.json` there, to be resumed from.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.atomic import atomic_path, write_text
from napari_sparseseg.errors import InputError
from napari_sparseseg.networks import NetworkPlan, build_network
from napari_sparseseg.normalisation import Normalisation
from napari_sparseseg.settings import NetworkConfig

FORMAT_VERSION = 1
_MAXIMUM_JSON_BYTES = 10_000_000


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network with all that is needed to apply it.

    Attributes
    ----------
    config, plan
        What `networks.build_network` needs.
    channels
        Image channels, without position.
    position
        Whether three channels tell the network where a voxel lies in its volume.
    table
        The classes, in channel order.
    spacing
        Voxel size in mm ``(Z, Y, X)`` the network was trained at.
    normalisation
        How intensities become its input.
    weights
        The network's state.
    summary
        How it was trained: plain values for JSON.
    """

    config: NetworkConfig
    plan: NetworkPlan
    channels: int
    position: bool
    table: ClassTable
    spacing: tuple[float, float, float]
    normalisation: Normalisation
    weights: Mapping[str, Tensor]
    summary: Mapping[str, Any]

    def build(self) -> nn.Module:
        """Return the network with its weights, in evaluation mode, on the CPU.

        Raises
        ------
        InputError
            If the weights do not fit the network described.
        """
        network = build_network(self.config, self.plan, self.channels + 3 * self.position, len(self.table))
        try:
            network.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise InputError(
                "the model's weights do not fit the network that model.json describes; "
                "the two files are of different trainings or damaged."
            ) from error
        return network.eval()


def save_model(folder: str | os.PathLike[str], model: Model) -> None:
    """Write `model` to `folder`, atomically."""
    description = {
        "format": "napari-sparseseg model",
        "format_version": FORMAT_VERSION,
        "network": model.config.to_json(),
        "plan": model.plan.to_json(),
        "channels": model.channels,
        "position": model.position,
        "classes": model.table.to_json(),
        "spacing_mm_zyx": model.spacing,
        "normalisation": model.normalisation.to_json(),
        "summary": dict(model.summary),
    }
    write_tensors(Path(folder) / "model", model.weights, description)


def load_model(folder: str | os.PathLike[str]) -> Model:
    """Read a model folder; nothing in it is ever executed.

    Raises
    ------
    InputError
        If the folder is no model, is of a newer version, or its parts are damaged or do not fit.
    """
    folder = Path(folder)
    tensors, description = read_tensors(folder / "model")
    if description.get("format") != "napari-sparseseg model":
        raise InputError(f"{folder} is not a napari-sparseseg model; give a folder that training wrote.")
    if description.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{folder} has model format {description.get('format_version')!r}, this version reads "
            f"{FORMAT_VERSION}; install the version of napari-sparseseg that wrote it."
        )
    try:
        spacing = tuple(float(value) for value in description["spacing_mm_zyx"])
        channels, position = description["channels"], description["position"]
        if len(spacing) != 3 or not all(0 < s < 1e4 for s in spacing):
            raise ValueError("the spacing is not three lengths")
        if not isinstance(channels, int) or not 1 <= channels <= 64 or not isinstance(position, bool):
            raise ValueError("the input channels are not a number")
        model = Model(
            config=NetworkConfig.from_json(description["network"]),
            plan=NetworkPlan.from_json(description["plan"]),
            channels=channels,
            position=position,
            table=ClassTable.from_json(description["classes"]),
            spacing=(spacing[0], spacing[1], spacing[2]),
            normalisation=Normalisation.from_json(description["normalisation"]),
            weights=tensors,
            summary=dict(description["summary"]),
        )
        if len(model.normalisation.windows) != channels:
            raise ValueError("normalisation and channels differ in number")
        model.build()
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder} is not a usable model: {error}") from error
    return model


def write_tensors(stem: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write `stem`.safetensors and `stem`.json, each atomically.

    The JSON, written last, names the tensors' checksum: a crash between the two is noticed on reading.
    """
    contents = safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    with atomic_path(stem.with_suffix(".safetensors")) as temporary:
        temporary.write_bytes(contents)
    write_text(
        stem.with_suffix(".json"), json.dumps({**description, "sha256": _checksum(contents)}, indent=1)
    )


def read_tensors(stem: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote; raise `InputError` where a file is missing or damaged."""
    tensor_file, json_file = stem.with_suffix(".safetensors"), stem.with_suffix(".json")
    try:
        size = json_file.stat().st_size
        if size > _MAXIMUM_JSON_BYTES:
            raise ValueError(f"{size} bytes are far too many for a description")
        description = json.loads(json_file.read_text(encoding="utf-8"))
        contents = tensor_file.read_bytes()
    except OSError as error:
        raise InputError(
            f"{stem.parent} holds no readable {Path(error.filename).name}; give a folder that training wrote."
        ) from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{json_file} is not valid JSON ({error}); the file is damaged.") from error
    if not isinstance(description, dict) or description.get("sha256") != _checksum(contents):
        raise InputError(
            f"{tensor_file} is not the file that {json_file.name} belongs to; one of them is damaged."
        )
    try:
        return safetensors.torch.load(contents), description
    except safetensors.SafetensorError as error:
        raise InputError(f"{tensor_file} is not a safetensors file ({error}).") from error


def delete_tensors(stem: Path) -> None:
    """Delete what `write_tensors` wrote, if it is there."""
    for suffix in (".json", ".safetensors"):
        stem.with_suffix(suffix).unlink(missing_ok=True)


def _checksum(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()
