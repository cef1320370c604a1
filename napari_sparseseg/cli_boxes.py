"""The command ``sparseseg boxes``: from bounding boxes to a mask."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sparseseg.atomic import check_folder
from napari_sparseseg.cli_input import (
    read_annotations,
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
from napari_sparseseg.cli_report import print_report, volumes_ml
from napari_sparseseg.cli_weak import EncoderOption, read_encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.settings import BoxConfig, CrfConfig, NetworkConfig, RecursionConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sparseseg.annotation import ClassTable
    from napari_sparseseg.box_cases import BoxedCase
    from napari_sparseseg.box_files import NamedBox
    from napari_sparseseg.events import BoxRoundMade, Event
    from napari_sparseseg.volume import Volume

_UNLABELLED = 255  # in files of labels: what a round would not learn from
_NO_VALUE = -1  # a dense mask has no voxel that is unlabelled
_LARGEST_CLASS = 2**31 - 1


@with_settings(BoxConfig, RecursionConfig, CrfConfig, NetworkConfig)
def boxes(
    image: ImageArgument,
    boxes: Annotated[Path, typer.Option(help="Bounding boxes: .csv, .json, or .mrk.json of 3D Slicer.")],
    out: Annotated[Path, typer.Option(help="Mask to write: .nii.gz, .nii, .nrrd or .mha.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Sparse labels that win over the boxes; some are kept to measure the rounds by."),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Dense mask to measure each round by; it is never learnt from.")
    ] = None,
    keep: Annotated[
        str, typer.Option(help="Round to write: last, best, or its number (0: before training).")
    ] = "last",
    save_labels: Annotated[
        Path | None,
        typer.Option(help="Also write the round's labels, unsure voxels as 255, to train on elsewhere."),
    ] = None,
    save_model: Annotated[
        Path | None, typer.Option(help="Folder to keep the last round's network in.")
    ] = None,
    encoder: EncoderOption = None,
    unlabelled: UnlabelledOption = None,
    names: NamesOption = None,
    frame: FrameOption = None,
    spacing: SpacingOption = None,
    as_json: JsonOption = False,
    **settings: Any,
) -> None:
    """Turn bounding boxes into a mask, by image analysis alone or by a network that learns from them."""
    from napari_sparseseg.annotation import mask_from_channels
    from napari_sparseseg.box_training import train_from_boxes
    from napari_sparseseg.checkpoint import save_model as write_model
    from napari_sparseseg.cli_progress import ProgressDisplay
    from napari_sparseseg.settings import TrainingConfig
    from napari_sparseseg.volume import check_writable
    from napari_sparseseg.volume import save_labels as write_labels

    config, recursion = settings_from(BoxConfig, settings), settings_from(RecursionConfig, settings)
    check_keep(keep, recursion.rounds, measured=bool(labels or truth))
    if save_model and not recursion.rounds:
        raise InputError(
            "without rounds there is no network to save; give --rounds, or leave --save-model out."
        )
    if encoder and not recursion.rounds:
        raise InputError(
            "without rounds there is no network to start from --encoder; give --rounds, or leave it out."
        )
    display = ProgressDisplay()
    start = read_encoder(encoder)
    inputs: list[str | Path] = [boxes, *filter(None, (labels, truth)), *split_channels(image)]
    if save_labels and save_labels.resolve() == out.resolve():
        raise InputError(f"--out and --save-labels are both {out}; give two files.")
    for target in filter(None, (out, save_labels)):
        check_writable(target)
        refuse_overwriting(target, inputs)
    if save_model:
        check_folder(save_model)
    volume = read_volume(image, frame, spacing, display)
    case, table = read_case(volume, boxes, labels, truth, unlabelled, names, display.say)
    if save_labels and _UNLABELLED in table.mask_values:
        raise InputError(
            f"a class has the value {_UNLABELLED}, which --save-labels writes for unsure voxels; give it "
            "another value."
        )
    rounds = _Rounds(keep)
    result = display.run(
        rounds.collect(
            train_from_boxes(
                [case],
                table,
                config,
                recursion,
                settings_from(CrfConfig, settings),
                TrainingConfig(seed=config.seed, device=recursion.device),
                settings_from(NetworkConfig, settings),
                encoder=start,
            )
        )
    )
    chosen = rounds.chosen
    for sentence in rounds.explain(save_model if result.model else None):
        display.say(sentence)
    channels, made = rounds.whole(chosen, case)
    write_labels(out, mask_from_channels(channels, table), volume)
    if save_labels:
        write_labels(save_labels, _labels_to_keep(made, table), volume)
    if save_model and result.model:
        write_model(save_model, result.model)
    _report(
        out,
        config,
        rounds,
        chosen,
        volumes_ml(channels, volume.spacing, table),
        result.fallen_back[0],
        as_json,
    )


def check_keep(keep: str, rounds: int, *, measured: bool) -> None:
    """Raise `InputError` where `keep` names no round that there will be."""
    if keep == "best" and not measured:
        raise InputError("--keep best needs --truth or --labels to measure the rounds by; give one of them.")
    if keep not in ("last", "best") and not (keep.isdecimal() and int(keep) <= rounds):
        raise InputError(f"--keep {keep} is no round; give last, best, or a number from 0 to {rounds}.")


def read_case(
    volume: "Volume",
    boxes: Path,
    labels: Path | None,
    truth: Path | None,
    unlabelled: int | None,
    names: Path | None,
    say: Callable[[str], None],
) -> "tuple[BoxedCase, ClassTable]":
    """Read boxes, and what else is known, with one class table for all; what must be known is said."""
    import numpy as np

    from napari_sparseseg.annotation import ClassTable, annotation_from_file
    from napari_sparseseg.box_cases import BoxedCase
    from napari_sparseseg.box_classes import list_renumbered, match_classes
    from napari_sparseseg.box_files import load_boxes
    from napari_sparseseg.box_geometry import Box
    from napari_sparseseg.volume import load_labels

    read = load_boxes(boxes, volume)
    known = read_names(names)
    painted: tuple[int, ...] = ()
    if labels:
        _check_values(read, boxes, labels, unlabelled or 0)
        painted = read_annotations([labels], [volume], unlabelled, names)[1].mask_values[1:]
    first = 2 if labels and not unlabelled else 1  # there 1 is background
    taken = (*painted, unlabelled or 0)
    values, all_names = match_classes(read, known, range(first, _LARGEST_CLASS + 1), taken)
    for asked, given in list_renumbered(read, values):
        say(f"Boxes of the value {asked} are {all_names[given]}, which has the value {given} in the mask.")
    table = ClassTable.from_values(sorted({*values, *painted}), all_names)
    strokes = None
    if labels:
        [strokes], _ = read_annotations([labels], [volume], unlabelled, names, table)
    answer = None
    if truth:
        stored = load_labels(truth, volume)
        if not np.isin(stored, table.mask_values[1:]).any():
            raise InputError(
                f"{truth} holds none of the boxes' classes {table.mask_values[1:]}; give the boxes its "
                "values, or say with --names which class has which."
            )
        wanted = np.where(np.isin(stored, table.mask_values), stored, 0)
        answer = annotation_from_file(wanted, table, _NO_VALUE)
    row = {value: channel + 1 for channel, value in enumerate(table.mask_values)}
    cased = [Box(box.start, box.stop, row[value]) for box, value in zip(read, values, strict=True)]
    return BoxedCase(volume.data, volume.spacing, cased, strokes, answer, volume.name), table


def _check_values(read: "Sequence[NamedBox]", boxes: Path, labels: Path, unlabelled: int) -> None:
    """Raise `InputError` where a box has a value that is no class in the sparse labels."""
    meaning = {1: "background"} if unlabelled == 0 else {unlabelled: "unlabelled"}
    for number, box in enumerate(read, start=1):
        if box.value in meaning:
            raise InputError(
                f"box {number} of {boxes} has the value {box.value}, which means {meaning[box.value]} in "
                f"{labels}; give its class another value, or say --unlabelled if those labels mean another "
                "thing by it."
            )


@dataclass
class _Rounds:
    """The rounds as they come: the figures of all, and of labels only what may be kept.

    Attributes
    ----------
    keep
        Round that is asked for: last, best, or a number.
    figures
        Of each round, as the report has them.
    last, best, asked
        The newest round; the one with the highest Dice so far; the one with the number that is asked for.
    """

    keep: str
    figures: list[dict[str, Any]] = field(default_factory=list)
    last: "BoxRoundMade | None" = None
    best: "BoxRoundMade | None" = None
    asked: "BoxRoundMade | None" = None

    def collect(self, work: Any) -> Any:
        """Pass all events of `work` on, and hold its rounds."""
        from napari_sparseseg.events import BoxRoundMade, Noted

        try:
            while True:
                event: Event = next(work)
                if isinstance(event, BoxRoundMade):
                    self.add(event)
                    yield Noted(self.describe(event))
                yield event
        except StopIteration as end:
            return end.value

    def describe(self, made: "BoxRoundMade") -> str:
        """Return a round in words."""
        words = f"Round {made.number}" if made.number else "Before training"
        dice = mean_dice(made)
        known = f"Dice {dice:.3f}, " if dice is not None else ""
        return f"{words}: {known}agreement with the boxes {made.agreement:.2f}."

    def add(self, made: "BoxRoundMade") -> None:
        """Note the figures of a round, and let go of one that can no longer be kept."""
        self.figures.append(
            {"round": made.number, "dice": made.quality, "agreement_with_boxes": made.agreement}
        )
        self.last = made
        if self.keep.isdecimal() and int(self.keep) == made.number:
            self.asked = made
        dice, highest = mean_dice(made), mean_dice(self.best) if self.best else None
        if self.keep == "best" and dice is not None and (highest is None or dice > highest):
            self.best = made

    @property
    def chosen(self) -> "BoxRoundMade":
        """The round to keep; the last one where there is no such round."""
        chosen = self.best or self.asked or self.last
        assert chosen is not None
        return chosen

    def explain(self, model: Path | None) -> Iterator[str]:
        """Yield sentences on what is not quite as it was asked for."""
        assert self.last is not None
        if self.keep == "best" and self.best is None:
            yield "No label could be held out to measure the rounds by, so the last one is kept."
        if self.keep.isdecimal() and self.asked is None:
            yield f"The rounds ended with round {self.last.number}, which is kept instead of {self.keep}."
        if model and self.chosen is not self.last:
            yield (
                f"The network in {model} is that of the last round, {self.last.number}; the mask is that of "
                f"round {self.chosen.number}."
            )

    def whole(self, made: "BoxRoundMade", case: "BoxedCase") -> "tuple[NDArray[np.uint8], NDArray[np.uint8]]":
        """Return channels and labels of a round on the whole volume, strokes far from the boxes too."""
        import numpy as np

        channels, labels = np.zeros(case.shape, np.uint8), np.ones(case.shape, np.uint8)
        region = tuple(slice(first, last) for first, last in made.region)
        channels[region], labels[region] = made.channels, made.labels
        if case.strokes is not None:
            where = case.strokes > 0
            channels[where], labels[where] = case.strokes[where] - np.uint8(1), case.strokes[where]
        return channels, labels


def mean_dice(made: "BoxRoundMade") -> float | None:
    """Return the mean Dice over the classes that are known; None where none is."""
    return sum(made.quality.values()) / len(made.quality) if made.quality else None


def _labels_to_keep(labels: "NDArray[np.uint8]", table: "ClassTable") -> "NDArray[np.integer[Any]]":
    import numpy as np

    return np.asarray([_UNLABELLED, *table.mask_values], np.int32)[labels]


def _report(
    out: Path,
    config: BoxConfig,
    rounds: _Rounds,
    chosen: "BoxRoundMade",
    volumes: dict[str, float],
    fallen_back: tuple[int, ...],
    as_json: bool,
) -> None:
    report = {
        "mask": str(out),
        "method": config.method,
        "kept_round": chosen.number,
        "rounds": rounds.figures,
        "fallen_back": [number + 1 for number in fallen_back],
        "volumes_ml": volumes,
    }
    which = f"round {chosen.number}" if chosen.number else f"the labels of {config.method}, without a network"
    lines = [f"Wrote {out}: {which}.", *(f"{name}: {amount:.1f} ml" for name, amount in volumes.items())]
    print_report(report, lines, as_json)
