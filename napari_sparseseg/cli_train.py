"""The command ``sparseseg train``: one network on one volume or hundreds, by one process or several."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sparseseg.atomic import check_folder
from napari_sparseseg.cli_options import (
    FrameOption,
    JsonOption,
    NamesOption,
    SpacingOption,
    UnlabelledOption,
    settings_from,
    with_settings,
)
from napari_sparseseg.cli_points import POINT_MM, CasePointsOption, PointMmOption
from napari_sparseseg.cli_report import print_report
from napari_sparseseg.cli_train_cases import Cohort, Reading, list_cases, read_cohort
from napari_sparseseg.cli_weak import EncoderOption, ImageLabelsOption, OutsideOption, read_encoder
from napari_sparseseg.settings import NetworkConfig, TrainingConfig

if TYPE_CHECKING:
    from napari_sparseseg.training import TrainingResult

_SECONDS = 300.0


@with_settings(TrainingConfig, NetworkConfig)
def train(
    out: Annotated[Path, typer.Option(help="Folder for the trained network.")],
    case: Annotated[
        list[str] | None, typer.Option(help="IMAGE=SPARSE: a volume and its sparse labels; repeat it.")
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(
            help="CSV with a row for each volume: image, labels, seeds or points, and split (train or val); "
            "files are relative to it."
        ),
    ] = None,
    val: Annotated[
        list[str] | None,
        typer.Option(help="IMAGE=SPARSE: a volume to measure the network by, not to learn from; repeat it."),
    ] = None,
    seeds: Annotated[
        list[str] | None,
        typer.Option(
            help="IMAGE=SEEDS: a volume and weak labels, over which those of --case win; repeat it."
        ),
    ] = None,
    points: CasePointsOption = None,
    point_mm: PointMmOption = POINT_MM,
    image_labels: ImageLabelsOption = None,
    outside: OutsideOption = "absent",
    encoder: EncoderOption = None,
    init: Annotated[Path | None, typer.Option(help="Start from this model's weights.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped training in --out.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave volumes out that cannot be used, and say why.")
    ] = False,
    memory_mb: Annotated[
        int, typer.Option(min=1, help="Megabytes of volumes that may stay in memory; others wait on disk.")
    ] = 4000,
    cache: Annotated[
        Path | None, typer.Option(help="Folder where volumes wait that do not fit into memory (--out).")
    ] = None,
    unlabelled: UnlabelledOption = None,
    names: NamesOption = None,
    frame: FrameOption = None,
    spacing: SpacingOption = None,
    as_json: JsonOption = False,
    **settings: Any,
) -> None:
    """Train a network on sparsely labelled volumes; on several GPUs when it is started by torchrun."""
    from napari_sparseseg.checkpoint import delete_tensors, load_model, save_model
    from napari_sparseseg.cli_progress import ProgressDisplay
    from napari_sparseseg.ranks import join_ranks
    from napari_sparseseg.training import train_network

    config = settings_from(TrainingConfig, settings)
    config = config if config.seconds or config.steps else replace(config, seconds=_SECONDS)
    ranks = join_ranks(config.device)
    if not ranks.leads:
        _follow(ranks)
        return
    display = ProgressDisplay("Reading")
    check_folder(out)
    initial, start = load_model(init) if init else None, read_encoder(encoder)
    reading = Reading(point_mm, unlabelled, names, frame, spacing, image_labels, outside == "absent")
    files = list_cases(case or [], seeds or [], points or [], val or [], cases)
    table = initial.table if initial else None
    cohort = read_cohort(files, reading, display, table, memory_mb, skip_bad=skip_bad)
    work = train_network(
        cohort.cases, cohort.table, config, settings_from(NetworkConfig, settings),
        initial=initial, encoder=start, state_folder=out, resume=resume, val=cohort.val, memory_mb=memory_mb,
        cache_folder=cache, skip_bad=skip_bad, describe=True, ranks=ranks,
    )  # fmt: skip
    try:
        result = display.run(work)
    except KeyboardInterrupt:
        kept = (out / "state.json").exists()
        display.say(f"Stopped; go on with the same command and --resume ({out})." if kept else "Stopped.")
        raise
    save_model(out, result.model)
    delete_tensors(out / "state")
    ranks.leave()
    _report(out, result, cohort, as_json=as_json)


def _follow(ranks: Any) -> None:
    """Take part in the training that another process leads, which alone tells what happens."""
    from napari_sparseseg.ranks import ProcessLost
    from napari_sparseseg.training_loop import follow_training

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the leader ends all
    try:
        follow_training(ranks)
    except ProcessLost:
        os._exit(3)  # quietly, and without waiting for who is gone
    ranks.leave()


def _report(out: Path, result: "TrainingResult", cohort: Cohort, *, as_json: bool) -> None:
    summary = result.model.summary
    left_out = {**cohort.left_out, **result.left_out}
    report = {"model": str(out), "training": dict(summary), "left_out": left_out}
    lines = [f"Wrote the model to {out} after {summary['steps']} steps."]
    if result.held_out_dice:
        by = "seeds, not on labels of yours" if result.measured_by_derived else "labels"
        lines.append(f"The network's Dice on held-out {by}: {result.held_out_dice['network']:.3f}")
    if len(result.case_dice) > 1:
        lines += [f"  {name}: {dice:.3f}" for name, dice in result.case_dice.items()]
    if result.val_overall is not None:
        lines.append(f"Its Dice on volumes that it has not learnt from: {result.val_overall:.3f}")
        lines += [f"  {name}: {dice:.3f}" for name, dice in result.val_dice.items()]
    if left_out:
        lines.append(f"Left out: {', '.join(left_out)}")
    print_report(report, lines, as_json)
