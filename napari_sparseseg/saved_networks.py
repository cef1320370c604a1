"""What a saved network says of itself, read without the libraries that it learnt with."""

import json
import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.errors import InputError

_MOST_BYTES = 10_000_000


@dataclass(frozen=True)
class SavedNetwork:
    """A network in a folder.

    Attributes
    ----------
    folder
        Where it is.
    made
        When it was written, in local time.
    table
        The classes that it tells apart.
    channels
        Of the images that it takes.
    dice
        Mean Dice on labels held out of its training, 0 to 1; None where none were.
    """

    folder: str
    made: datetime
    table: ClassTable
    channels: int
    dice: float | None = None


def read_network(folder: str | Path) -> SavedNetwork:
    """Return what is known of the network in a folder.

    Raises
    ------
    InputError
        If there is none that can be read.  Whether its weights fit shows only when it is used.
    """
    file = Path(folder) / "model.json"
    try:
        status = file.stat()
        if status.st_size > _MOST_BYTES:
            raise ValueError("it is too large")
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("format") != "napari-sparseseg model":
            raise ValueError("it describes something else")
        table, channels = ClassTable.from_json(values["classes"]), int(values["channels"])
    except (InputError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder} holds no network that can be read; choose the folder that Export model, or "
            "sparseseg train, has written."
        ) from error
    made = datetime.fromtimestamp(status.st_mtime).astimezone()
    return SavedNetwork(str(folder), made, table, channels, _find_dice(values.get("summary")))


def _find_dice(summary: object) -> float | None:
    scores: Any = summary.get("held_out_dice") if isinstance(summary, dict) else None
    dice = scores.get("network") if isinstance(scores, dict) else None
    if not isinstance(dice, int | float) or isinstance(dice, bool) or not math.isfinite(dice):
        return None
    return float(dice)
