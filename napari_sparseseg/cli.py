"""The command line `sparseseg`: parses, shows progress, prints; it computes nothing itself.

torch and monai take seconds to import, so each command imports what it needs inside its body, and
``sparseseg --help`` answers at once.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from napari_sparseseg.atomic import check_folder
from napari_sparseseg.cli_boxes import boxes
from napari_sparseseg.cli_cam import cam
from napari_sparseseg.cli_input import (
    read_names,
    read_volume,
    refuse_overwriting,
    split_channels,
)
from napari_sparseseg.cli_options import (
    FrameOption,
    ImageArgument,
    JsonOption,
    NamesOption,
    SpacingOption,
    UnlabelledOption,
    settings_from,
    with_settings,
)
from napari_sparseseg.cli_points import POINT_MM, PointMmOption, PointsOption
from napari_sparseseg.cli_predict import predict
from napari_sparseseg.cli_pretrain import pretrain
from napari_sparseseg.cli_report import print_evaluation, print_report, volumes_ml
from napari_sparseseg.cli_train import train
from napari_sparseseg.cli_weak import (
    EncoderOption,
    ImageLabelsOption,
    OutsideOption,
    read_cases,
    read_encoder,
    read_image_labels,
)
from napari_sparseseg.errors import InputError
from napari_sparseseg.settings import InferenceConfig, NetworkConfig, TrainingConfig

SEGMENT_SECONDS = 60.0

app = typer.Typer(
    help="Label a few slices of a CT or MR volume; a 3D U-Net learns from them and fills in the rest.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
@with_settings(TrainingConfig, NetworkConfig, InferenceConfig)
def segment(
    image: ImageArgument,
    out: Annotated[Path, typer.Option(help="Mask to write: .nii.gz, .nii, .nrrd or .mha.")],
    labels: Annotated[Path | None, typer.Option(help="Sparse labels on the volume's grid.")] = None,
    seeds: Annotated[
        Path | None,
        typer.Option(help="Weak labels on the volume's grid, e.g. of sparseseg cam; --labels win over them."),
    ] = None,
    points: PointsOption = None,
    point_mm: PointMmOption = POINT_MM,
    image_labels: ImageLabelsOption = None,
    outside: OutsideOption = "absent",
    encoder: EncoderOption = None,
    save_model: Annotated[Path | None, typer.Option(help="Folder to keep the trained network in.")] = None,
    uncertainty: Annotated[
        Path | None, typer.Option(help="Also write the uncertainty, 0 to 1, to this file.")
    ] = None,
    unlabelled: UnlabelledOption = None,
    names: NamesOption = None,
    frame: FrameOption = None,
    spacing: SpacingOption = None,
    as_json: JsonOption = False,
    **settings: Any,
) -> None:
    """Complete the sparse labels of one volume to a dense mask."""
    from napari_sparseseg.annotation import mask_from_channels
    from napari_sparseseg.checkpoint import save_model as write_model
    from napari_sparseseg.cli_progress import ProgressDisplay
    from napari_sparseseg.segmentation import segment_volume
    from napari_sparseseg.volume import check_writable, save_labels, save_map

    display = ProgressDisplay()
    start = read_encoder(encoder)
    files = list(filter(None, (labels, seeds, points)))
    if not files:
        raise InputError("there is nothing to learn from; give --labels, --points or --seeds.")
    for target in filter(None, (out, uncertainty)):
        check_writable(target)
        refuse_overwriting(target, [*files, *filter(None, [image_labels]), *split_channels(image)])
    if save_model:
        check_folder(save_model)
    strokes, seeded, pointed = ([(image, path)] if path else [] for path in (labels, seeds, points))
    _, [volume], [case], table = read_cases(
        strokes, seeded, pointed, display,
        point_mm=point_mm, unlabelled=unlabelled, names=names, frame=frame, spacing=spacing,
    )  # fmt: skip
    said = read_image_labels(image_labels, [image], [volume], table, display) if image_labels else [()]
    result = display.run(
        segment_volume(
            volume.data,
            volume.spacing,
            case.annotation,
            table,
            _with_length(settings_from(TrainingConfig, settings), SEGMENT_SECONDS),
            settings_from(NetworkConfig, settings),
            settings_from(InferenceConfig, settings),
            sources=case.sources,
            image_labels=said[0],
            outside_absent=outside == "absent",
            encoder=start,
        )
    )
    save_labels(out, mask_from_channels(result.channels, table), volume)
    if uncertainty:
        save_map(uncertainty, result.uncertainty, volume)
    if save_model:
        write_model(save_model, result.model)
    shown = {
        "both": "the network's and the preview's mean",
        "network": "the network",
        "preview": "the preview",
    }
    volumes = volumes_ml(result.channels, volume.spacing, table)
    report = {
        "mask": str(out),
        "shown": result.shown,
        "held_out_dice": result.held_out_dice,
        "measured_by_derived": result.measured_by_derived,
        "volumes_ml": volumes,
        "training": dict(result.model.summary),
    }
    lines = [f"Wrote {out}: {shown[result.shown]}, after {result.model.summary['steps']} steps."]
    if result.held_out_dice:
        by = "seeds, not on labels of yours" if result.measured_by_derived else "labels"
        lines.append(f"Dice on held-out {by}: {result.held_out_dice[result.shown]:.3f}")
    lines += [f"{name}: {amount:.1f} ml" for name, amount in volumes.items()]
    print_report(report, lines, as_json)


@app.command()
def evaluate(
    prediction: Annotated[Path, typer.Argument(help="Dense mask to judge.")],
    truth: Annotated[Path, typer.Argument(help="True mask on the same grid.")],
    only_where: Annotated[
        Path | None, typer.Option(help="Count overlap only where this file is not 0 (or is --only-value).")
    ] = None,
    only_value: Annotated[
        int | None, typer.Option(help="With --only-where: where it has this value, e.g. 255 for unlabelled.")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="Tolerance of the surface Dice in mm.")
    ] = None,
    names: NamesOption = None,
    spacing: SpacingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a mask with the truth: Dice, IoU, HD95, surface Dice and volume error per class."""
    import numpy as np

    from napari_sparseseg.annotation import ClassTable
    from napari_sparseseg.cli_progress import ProgressDisplay
    from napari_sparseseg.evaluation import evaluate_prediction
    from napari_sparseseg.volume import load_labels

    reference = read_volume(str(truth), None, spacing, ProgressDisplay())
    true_labels = load_labels(truth, reference)
    predicted = load_labels(prediction, reference)
    where = None
    if only_where:
        values = load_labels(only_where, reference)
        where = values != 0 if only_value is None else values == only_value
    present = sorted({int(v) for v in np.union1d(np.unique(true_labels), np.unique(predicted))} - {0})
    table = ClassTable.from_values(present, read_names(names)) if present else None
    result = evaluate_prediction(predicted, true_labels, reference.spacing, table, where, tolerance)
    print_evaluation(result, as_json)


@app.command()
def sparsify(
    truth: Annotated[Path, typer.Argument(help="Dense mask; 0 is background.")],
    out: Annotated[Path, typer.Option(help="Sparse label file to write.")],
    slices: Annotated[
        int, typer.Option(min=1, help="How many slices in all, over the orientations in turn.")
    ],
    orientations: Annotated[str, typer.Option(help="Of z (axial), y (coronal) and x (sagittal).")] = "zyx",
    style: Annotated[
        Literal["slices", "scribbles"], typer.Option(help="Whole slices, or strokes on them.")
    ] = "slices",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Start of all random numbers.")] = 0,
    unlabelled: Annotated[
        int, typer.Option(min=1, max=2**31 - 1, help="Value to write where nothing is labelled.")
    ] = 255,
    as_json: JsonOption = False,
) -> None:
    """Simulate an annotator: keep only a few slices or strokes of a dense mask."""
    import numpy as np

    from napari_sparseseg.sparsification import sparsify_labels
    from napari_sparseseg.volume import load_labels, load_volume, save_labels

    refuse_overwriting(out, [truth])
    volume = load_volume(truth)
    sparse = sparsify_labels(
        load_labels(truth, volume),
        slices,
        orientations=orientations,
        style=style,
        seed=seed,
        unlabelled=unlabelled,
        spacing=volume.spacing,
    )
    save_labels(out, sparse, volume)
    share = float(np.mean(sparse != unlabelled))
    report = {"labels": str(out), "labelled_share": share, "unlabelled": unlabelled}
    line = (
        f"Wrote {out} with {100 * share:.2f} % of the voxels labelled; use it with --unlabelled {unlabelled}."
    )
    print_report(report, [line], as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo_output"),
    seconds: Annotated[float, typer.Option(min=1, help="Train for this long.")] = SEGMENT_SECONDS,
    steps: Annotated[int, typer.Option(min=0, help="Train for this many steps (0: use seconds).")] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Start of all random numbers.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Segment the sample brain from three labelled slices, and compare with the truth."""
    from napari_sparseseg.cli_progress import ProgressDisplay
    from napari_sparseseg.demo import run_demo

    display = ProgressDisplay()
    display.say("The sample: an MR brain template, of which 3 slices are labelled.")
    config = TrainingConfig(seconds=0 if steps else seconds, steps=steps, seed=seed)
    result = display.run(run_demo(out, config))
    print_evaluation(result.evaluation, as_json)
    if not as_json:
        typer.echo(f"Mean Dice on the voxels that were not labelled: {result.evaluation.mean_dice:.3f}")
        typer.echo(f"Mask, uncertainty, picture and report are in {out}.")


def _with_length(config: TrainingConfig, seconds: float) -> TrainingConfig:
    """Train for `seconds` where the user gave neither seconds nor steps."""
    return config if config.seconds or config.steps else replace(config, seconds=seconds)


app.command()(boxes)
app.command()(cam)
app.command()(predict)
app.command()(pretrain)
app.command()(train)


def main() -> None:
    """Run the command line; the user's mistakes end with one sentence and exit code 2."""
    # Two OpenMP pools (torch's, scikit-learn's) that spin while they wait slow each other tenfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except InputError as error:
        typer.echo(f"sparseseg: {error}", err=True)
        raise SystemExit(2) from None
