"""The pre-trained encoders that a project keeps, listed without the libraries that they learnt with.

Each has a folder ``<task>-<number>``: `encoder.json` and `encoder.safetensors` when it has learnt to the
end, `state.json` and `state.safetensors` before, and `probe.json` once it was compared with others.
What cannot be read is passed over: looking around never fails.
"""

import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from napari_sparseseg.atomic import write_text
from napari_sparseseg.errors import InputError
from napari_sparseseg.pretraining_settings import (
    ENCODER_FORMAT,
    ENCODER_VERSION,
    PRETEXT_TASKS,
    STATE_FORMAT,
)
from napari_sparseseg.settings import NetworkConfig

ENCODERS = "encoders"
"""Name of the folder in a project's that holds the encoders."""

_MOST_BYTES = 10_000_000
_MOST_CHANNELS = 64
_NAME = re.compile(r"([a-z_]+)-([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class EncoderSummary:
    """What a list says of an encoder.

    Attributes
    ----------
    folder
        Where it is.
    task
        What it learns from, a name in `pretraining_settings.PRETEXT_TASKS`.
    finished
        Whether it has learnt to the end; one that has not can be gone on with.
    steps
        Taken so far.
    volumes
        How many it learnt from; 0 while it is not finished.
    channels
        Of these volumes; 0 while it is not finished.
    network
        What it is the encoder of; None while it is not finished.
    figure, value
        "accuracy" or "error", and how well it solved its task; None where that is not known.
    """

    folder: Path
    task: str
    finished: bool
    steps: int
    volumes: int = 0
    channels: int = 0
    network: NetworkConfig | None = None
    figure: str = ""
    value: float | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return self.folder.name


@dataclass(frozen=True)
class ProbeRecord:
    """How well labels were told from an encoder's features.

    Attributes
    ----------
    run
        Which comparison it belongs to: its time, as text that grows; figures of two cannot be compared.
    dice
        Mean over the classes.
    per_class
        By class name; what could not be measured is missing.
    """

    run: str
    dice: float
    per_class: Mapping[str, float]


def list_encoders(folder: Path) -> tuple[EncoderSummary, ...]:
    """Return the encoders in a folder, by task and number."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return ()
    named = [(parts, entry) for entry in entries if (parts := _split_name(entry)) is not None]
    summaries = (_summarise(entry, task) for (task, _), entry in sorted(named, key=_order))
    return tuple(summary for summary in summaries if summary is not None)


def folder_to_learn_in(folder: Path, task: str) -> Path:
    """Return where the next encoder of a task is to be: that of an unfinished one, or a new one.

    Nothing is made.
    """
    try:
        names = [_split_name(entry) for entry in folder.iterdir()]
    except OSError:
        names = []
    last = max((parts[1] for parts in names if parts is not None and parts[0] == task), default=0)
    newest = folder / f"{task}-{last}"
    unfinished = last and (newest / "state.json").exists() and not (newest / "encoder.json").exists()
    return newest if unfinished else folder / f"{task}-{last + 1}"


def delete_encoder(folder: Path) -> None:
    """Delete an encoder and all that its folder holds.

    Raises
    ------
    InputError
        If it is no encoder's folder, or cannot be deleted.
    """
    if _split_name(folder) is None:
        raise InputError(f"{folder} is no encoder's folder; nothing was deleted.")
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{folder} cannot be deleted ({error.strerror}); check its permissions.") from error


def save_probe(folder: Path, probe: ProbeRecord) -> None:
    """Keep how well labels were told from an encoder's features; in the folder above, of random weights.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    finite = {name: dice for name, dice in probe.per_class.items() if math.isfinite(dice)}
    values = {"run": probe.run, "dice": probe.dice, "per_class": finite}
    write_text(folder / "probe.json", json.dumps(values, indent=1))


def read_probe(folder: Path) -> ProbeRecord | None:
    """Return what `save_probe` kept; None where there is nothing that can be read."""
    values = _read_json(folder / "probe.json")
    run, dice, per_class = values.get("run"), values.get("dice"), values.get("per_class")
    if not isinstance(run, str) or not _is_share(dice) or not isinstance(per_class, dict):
        return None
    return ProbeRecord(
        run, float(dice), {name: share for name, share in per_class.items() if _is_share(share)}
    )


def last_probes(folder: Path) -> tuple[tuple[str, ProbeRecord], ...]:
    """Return the figures of the last comparison by name of the encoder, random weights (no name) first."""
    found = [("", read_probe(folder))]
    found += [(each.name, read_probe(each.folder)) for each in list_encoders(folder) if each.finished]
    known = [(name, probe) for name, probe in found if probe is not None]
    last = max((probe.run for _, probe in known), default="")
    return tuple((name, probe) for name, probe in known if probe.run == last)


def _split_name(folder: Path) -> tuple[str, int] | None:
    """Return task and number of an encoder's folder."""
    match = _NAME.fullmatch(folder.name)
    if match is None or match[1] not in PRETEXT_TASKS or not folder.is_dir() or folder.is_symlink():
        return None
    return match[1], int(match[2])


def _order(named: tuple[tuple[str, int], Path]) -> tuple[int, int]:
    (task, number), _ = named
    return PRETEXT_TASKS.index(task), number


def _summarise(folder: Path, task: str) -> EncoderSummary | None:
    if not (folder / "encoder.json").exists():
        state = _read_json(folder / "state.json")
        steps, usable = state.get("steps"), state.get("format") == STATE_FORMAT
        return EncoderSummary(folder, task, False, steps) if usable and _is_count(steps) else None
    values = _read_json(folder / "encoder.json")
    try:
        channels, summary = values["channels"], values["summary"]
        steps, volumes, scores = summary["steps"], summary["volumes"], summary.get("scores", {})
        network = NetworkConfig.from_json(values["network"])
        figure, value = scores.get("figure"), scores.get("value")
        right = values["format"] == ENCODER_FORMAT and values["format_version"] == ENCODER_VERSION
        if not (right and values["task"] == task and _is_count(steps) and isinstance(volumes, list)):
            return None
        if not (_is_count(channels) and 1 <= channels <= _MOST_CHANNELS):
            return None
    except (AttributeError, InputError, KeyError, TypeError):
        return None
    if not (folder / "encoder.safetensors").is_file():
        return None
    known = figure in ("accuracy", "error") and _is_number(value)
    told = (str(figure), float(value)) if known else ("", None)
    return EncoderSummary(folder, task, True, steps, len(volumes), channels, network, *told)


def _read_json(file: Path) -> dict[str, Any]:
    """Return what a file describes; nothing where it cannot be read."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            return {}
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_share(value: object) -> TypeGuard[float]:
    return _is_number(value) and 0 <= value <= 1
