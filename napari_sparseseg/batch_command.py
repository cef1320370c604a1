"""A batch as the command line that does the same."""

import shlex
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.settings import InferenceConfig


def write_command(
    sources: Sequence[str], model: str, out: str, config: BatchConfig, inference: InferenceConfig
) -> str:
    """Return the ``sparseseg predict`` that does what a `cohort_requests.PredictBatch` of these asks for.

    It is one line, quoted for a POSIX shell; settings that have their default values are left out.
    """
    words = ["sparseseg", "predict", *sources, "--model", model, "--out", out]
    for settings in (config, inference):
        for entry in fields(settings):
            value = getattr(settings, entry.name)
            if value != entry.default:
                words += _flags(entry.name, value)
    return shlex.join(words)


def _flags(name: str, value: Any) -> list[str]:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", str(value)]
