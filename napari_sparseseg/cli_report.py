"""What the commands print at their end: lines for people, or one JSON object for programs."""

import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sparseseg.annotation import ClassTable
    from napari_sparseseg.evaluation import Evaluation


def volumes_ml(
    channels: "NDArray[np.uint8]", spacing: tuple[float, float, float], table: "ClassTable"
) -> dict[str, float]:
    """Return millilitres by class name of ``(Z, Y, X)`` class channels, background left out."""
    import numpy as np

    counts = [np.count_nonzero(channels == channel) for channel in range(len(table))]
    voxel_ml = spacing[0] * spacing[1] * spacing[2] / 1000
    return {name: float(count * voxel_ml) for name, count in zip(table.names[1:], counts[1:], strict=True)}


def print_report(report: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """Print a report as JSON, or else its lines."""
    typer.echo(json.dumps(report) if as_json else "\n".join(lines))


def print_evaluation(result: "Evaluation", as_json: bool) -> None:
    """Print an evaluation as JSON, or else as a table."""
    if as_json:
        typer.echo(json.dumps(result.to_json()))
        return
    from rich.console import Console

    Console().print(result.to_table())
