"""The command ``sparseseg pretrain``: an encoder that learns from volumes without labels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sparseseg.atomic import check_folder
from napari_sparseseg.cli_input import (
    name_volume,
    parse_spacing,
    read_annotations,
    read_volume,
    split_case,
    split_channels,
)
from napari_sparseseg.cli_options import (
    FrameOption,
    JsonOption,
    NamesOption,
    SpacingOption,
    UnlabelledOption,
    settings_from,
    with_settings,
)
from napari_sparseseg.cli_report import print_report
from napari_sparseseg.errors import InputError
from napari_sparseseg.pretraining_settings import PretextConfig, PretrainingConfig
from napari_sparseseg.settings import NetworkConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sparseseg.annotation import ClassTable
    from napari_sparseseg.cli_progress import ProgressDisplay
    from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
    from napari_sparseseg.volume import Volume
    from napari_sparseseg.volume_pool import ReadVolume, VolumeSource

PRETRAIN_SECONDS = 300.0


@with_settings(PretrainingConfig, PretextConfig, NetworkConfig)
def pretrain(
    out: Annotated[Path, typer.Option(help="Folder for the encoder.")],
    images: Annotated[
        list[str] | None,
        typer.Argument(help="Volumes, or folders of volumes, to learn from.", metavar="[IMAGE|FOLDER]…"),
    ] = None,
    case: Annotated[
        list[str] | None,
        typer.Option(
            help="IMAGE=SPARSE: a volume to learn from with labels, which the task supcon and --probe use; "
            "repeat it."
        ),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Measure on each --case how well a linear classifier tells labels by features."
        ),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run in --out.")] = False,
    unlabelled: UnlabelledOption = None,
    names: NamesOption = None,
    frame: FrameOption = None,
    spacing: SpacingOption = None,
    as_json: JsonOption = False,
    **settings: Any,
) -> None:
    """Let an encoder learn from volumes without labels; training starts from it with --encoder."""
    from napari_sparseseg.checkpoint import delete_tensors
    from napari_sparseseg.cli_progress import ProgressDisplay
    from napari_sparseseg.encoder_checkpoint import save_encoder
    from napari_sparseseg.pretraining import pretrain as pretrain_encoder

    display = ProgressDisplay("Reading")
    check_folder(out)
    parse_spacing(spacing)
    if resume and not (out / "state.json").exists():
        raise InputError(f"{out} holds no stopped pre-training; begin one without --resume.")
    labelled = [split_case(text) for text in case or []]
    if probe and not labelled:
        raise InputError("--probe measures on labels; give some by --case IMAGE=SPARSE.")
    volumes, annotations, table = _read_labelled(labelled, unlabelled, names, frame, spacing, display)
    reader = _Reader(frame, spacing, display)
    sources = [
        reader.source(image, annotation) for (image, _), annotation in zip(labelled, annotations, strict=True)
    ]
    sources += [reader.source(image) for image in _expand(images or [], [image for image, _ in labelled])]
    if not sources:
        raise InputError("there is nothing to learn from; give volumes, or a folder of volumes.")
    config = settings_from(PretrainingConfig, settings)
    if not (config.seconds or config.steps):
        config = replace(config, seconds=PRETRAIN_SECONDS)
    network = settings_from(NetworkConfig, settings)
    work = pretrain_encoder(
        sources, config, settings_from(PretextConfig, settings), network, state_folder=out, resume=resume
    )
    try:
        encoder = display.run(work)
    except KeyboardInterrupt:
        kept = (out / "state.json").exists()
        display.say(f"Stopped; go on with the same command and --resume ({out})." if kept else "Stopped.")
        raise
    save_encoder(out, encoder)
    delete_tensors(out / "state")
    report: dict[str, Any] = {"encoder": str(out), "task": encoder.task, "training": dict(encoder.summary)}
    lines = [f"Wrote the encoder to {out} after {encoder.summary['steps']} steps.", *_describe(encoder)]
    if probe:
        report["probe"], told = _probe(encoder, network, volumes, annotations, table, display)
        lines += told
    lines.append(f"Use it with sparseseg segment, train, boxes or cam: --encoder {out}")
    print_report(report, lines, as_json)


def _read_labelled(
    cases: Sequence[tuple[str, Path]],
    unlabelled: int | None,
    names: Path | None,
    frame: int | None,
    spacing: str | None,
    display: "ProgressDisplay",
) -> "tuple[list[Volume], list[NDArray[np.uint8]], ClassTable | None]":
    """Read the volumes with labels; these are few."""
    if not cases:
        return [], [], None
    volumes = [read_volume(image, frame, spacing, display) for image, _ in cases]
    annotations, table = read_annotations([path for _, path in cases], volumes, unlabelled, names)
    return volumes, annotations, table


def _expand(images: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the volumes that are named, or lie in folders that are: none twice, none of those `known`."""
    from napari_sparseseg.volume_files import find_volumes

    found: dict[tuple[Path, ...], str] = {}
    for image in images:
        parts = split_channels(image)
        if len(parts) == 1 and Path(image).is_dir():
            inside = find_volumes(Path(image))
            if not inside:
                raise InputError(f"{image} holds no volume that can be read; give another folder.")
            found |= {(path.resolve(),): str(path) for path in inside}
        else:
            found[tuple(Path(part).resolve() for part in parts)] = image
    for image in known:
        found.pop(tuple(Path(part).resolve() for part in split_channels(image)), None)
    return list(found.values())


class _Reader:
    """Reads volumes, some of them again and again; what is noticed in reading one is told once."""

    def __init__(self, frame: int | None, spacing: str | None, display: "ProgressDisplay") -> None:
        self._frame, self._spacing, self._display = frame, spacing, display
        self._told: set[str] = set()

    def source(self, image: str, annotation: "NDArray[np.uint8] | None" = None) -> "VolumeSource":
        """Return where to read a volume from, and what is labelled in it."""
        from napari_sparseseg.volume_pool import VolumeSource

        return VolumeSource(name_volume(image), lambda: self._read(image, annotation))

    def _read(self, image: str, annotation: "NDArray[np.uint8] | None") -> "ReadVolume":
        from napari_sparseseg.volume_pool import ReadVolume

        display = None if image in self._told else self._display
        volume = read_volume(image, self._frame, self._spacing, display)
        self._told.add(image)
        return ReadVolume(volume.data, volume.spacing, annotation)


def _describe(encoder: "EncoderCheckpoint") -> list[str]:
    """Return in words how well the task is solved."""
    scores = encoder.summary["scores"]
    value, trivial = scores["value"], scores["trivial"]
    where = (
        "the volumes learnt from, which is optimistic" if scores["within_volume"] else "volumes kept aside"
    )
    if scores["figure"] == "accuracy":
        line = f"Accuracy on {where}: {value:.3f} (by chance {trivial:.3f})."
    else:
        line = f"Error on {where}: {value:.3f} (trivial answer {trivial:.3f})."
    features = (
        f"Features: alignment {scores['alignment']:.3f}, uniformity {scores['uniformity']:.3f}, "
        f"spread {scores['spread']:.3f}."
    )
    return [line, features]


def _probe(
    encoder: "EncoderCheckpoint",
    network: NetworkConfig,
    volumes: "Sequence[Volume]",
    annotations: "Sequence[NDArray[np.uint8]]",
    table: "ClassTable | None",
    display: "ProgressDisplay",
) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure the encoder, and one with random weights, on each labelled volume; in numbers and in words."""
    from napari_sparseseg.linear_probe import probe_encoder, random_encoder

    assert table is not None  # there are labels
    rows, lines = [], []
    untrained = random_encoder(network, encoder)
    for volume, annotation in zip(volumes, annotations, strict=True):
        dice = {}
        for name, subject in (("encoder", encoder), ("random weights", untrained)):
            try:
                work = probe_encoder(subject, volume.data, volume.spacing, annotation, table)
                dice[name] = display.run(work).dice
            except InputError as error:
                display.say(f"{volume.name} cannot be measured on: {error}")
                break
        else:
            rows.append({"volume": volume.name, "dice": dice})
            lines.append(
                f"Linear probe on {volume.name}: Dice {dice['encoder']:.3f} with the encoder's features, "
                f"{dice['random weights']:.3f} with random weights'."
            )
    return rows, lines
