"""The command `sparseseg predict`: one volume or a thousand, each on its own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.cli_input import parse_spacing
from napari_sparseseg.cli_options import FrameOption, JsonOption, SpacingOption, settings_from, with_settings
from napari_sparseseg.cli_report import print_report
from napari_sparseseg.errors import InputError
from napari_sparseseg.settings import InferenceConfig

if TYPE_CHECKING:
    from napari_sparseseg.batch import BatchSummary, Runner

_INTERRUPTED = 130  # what shells expect of a program that Ctrl-C ended


@with_settings(BatchConfig, InferenceConfig)
def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            help="Volumes, channels as a.nii.gz,b.nii.gz, folders, 'patterns/**', or a manifest (.csv).",
            metavar="IMAGE…",
        ),
    ],
    model: Annotated[Path, typer.Option(help="Folder of a trained network.")],
    out: Annotated[Path, typer.Option(help="Folder for the masks, the records and the report.")],
    frame: FrameOption = None,
    spacing: SpacingOption = None,
    dask: Annotated[
        str | None,
        typer.Option(
            help="Let a Dask cluster work: its scheduler's address or file, or local.", metavar="ADDRESS"
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="With --dask local: how many processes (0: as many as cores).")
    ] = 0,
    as_json: JsonOption = False,
    **settings: Any,
) -> None:
    """Segment volumes with a trained network; bad files are named at the end, and a new run goes on.

    A volume that is segmented already, by the same network with the same settings, is left as it is.
    """
    from napari_sparseseg.batch import run_batch
    from napari_sparseseg.cli_progress import ProgressDisplay

    display = ProgressDisplay("Volumes")
    work = run_batch(
        images,
        model,
        out,
        settings_from(BatchConfig, settings),
        settings_from(InferenceConfig, settings),
        frame=frame,
        spacing=parse_spacing(spacing),
        runner=_choose_runner(dask, workers),
    )
    try:
        summary = display.run(work)
    except KeyboardInterrupt:
        display.say(f"Stopped; the same command goes on where it was ({out}).")
        raise typer.Exit(_INTERRUPTED) from None
    for record in summary.records:
        if record.error:
            display.say(f"{record.name}: {record.error}")
    print_report(_report(summary), _describe(summary), as_json)
    if summary.failed:
        raise typer.Exit(2)


def _choose_runner(address: str | None, workers: int) -> "Runner | None":
    if address is None:
        if workers:
            raise InputError("--workers goes with --dask local; give both, or none of them.")
        return None
    from napari_sparseseg.batch_dask import dask_runner

    return dask_runner(address, workers)


def _report(summary: "BatchSummary") -> dict[str, Any]:
    from napari_sparseseg.batch_records import record_to_json

    return {
        "out": summary.out,
        "report": summary.report,
        "done": summary.done,
        "skipped": summary.skipped,
        "failed": summary.failed,
        "cases": [{**record_to_json(record), "mask": summary.mask_of(record)} for record in summary.records],
    }


def _describe(summary: "BatchSummary") -> list[str]:
    lines = [f"Wrote {summary.done} of {len(summary.records)} masks to {summary.out}."]
    if summary.skipped:
        lines.append(f"{summary.skipped} were there already and up to date (--overwrite makes them anew).")
    if summary.failed:
        lines.append(f"{summary.failed} failed; the same command tries them again.")
    if odd := sum(bool(record.warnings) for record in summary.records):
        lines.append(f"{odd} should be looked at; the report says why.")
    return [*lines, f"Report: {summary.report}"]
