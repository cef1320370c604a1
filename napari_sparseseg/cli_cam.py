"""The command ``sparseseg cam``: from image-level labels to maps of where the classes are, and to seeds."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from napari_sparseseg.atomic import check_folder, write_text
from napari_sparseseg.cli_cam_input import (
    check_options,
    choose_classes,
    find_voxel,
    name_targets,
    read_tags,
    write_names,
)
from napari_sparseseg.cli_input import read_volume, refuse_overwriting, split_channels
from napari_sparseseg.cli_options import (
    FrameOption,
    JsonOption,
    NamesOption,
    SpacingOption,
    settings_from,
    with_settings,
)
from napari_sparseseg.cli_report import print_report
from napari_sparseseg.cli_weak import EncoderOption, read_encoder
from napari_sparseseg.errors import InputError
from napari_sparseseg.settings import CamConfig, ClassifierConfig, CrfConfig, NetworkConfig, SeedConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sparseseg.annotation import ClassTable
    from napari_sparseseg.checkpoint import Model
    from napari_sparseseg.classifier import Classifier
    from napari_sparseseg.cli_progress import ProgressDisplay
    from napari_sparseseg.encoder_checkpoint import EncoderCheckpoint
    from napari_sparseseg.events import ClassifierScored, ClassMapChecked, Event
    from napari_sparseseg.image_labels import ImageLabel
    from napari_sparseseg.volume import Volume

CAUTION = (
    "A class map shows where the network looked; it is not a mask. It may mark a part of an object only, or "
    "what always lies beside it."
)

_UNLABELLED = 255  # in files of seeds, where a class has the value 1 that else means background


@with_settings(
    ClassifierConfig, CamConfig, SeedConfig, CrfConfig, NetworkConfig, without=("point_mm",)
)  # it makes no points
def cam(
    images: Annotated[list[str], typer.Argument(help="Volumes to learn from and to map.", metavar="IMAGE…")],
    out: Annotated[Path, typer.Option(help="Folder for the maps.")],
    image_labels: Annotated[
        Path | None,
        typer.Option(help="CSV: in which volumes, and in which slices of them, each class occurs."),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="Class to map, by name or value; repeat it (default: all)."),
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="Ask the classifier that --save-classifier wrote here; train none.")
    ] = None,
    save_classifier: Annotated[
        Path | None, typer.Option(help="Folder to keep the trained classifier in.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Ask this trained segmentation network instead of a classifier.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Ask about this place only, X,Y,Z: why does it say so here?")
    ] = None,
    units: Annotated[
        Literal["mm", "voxel"],
        typer.Option(help="Of --at: patient mm (LPS), or the file's own voxel index from 0."),
    ] = "mm",
    seeds: Annotated[
        bool, typer.Option("--seeds", help="Also write sparse labels made of the maps, to train on.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare each map with those of networks whose weights are random."),
    ] = False,
    encoder: EncoderOption = None,
    names: NamesOption = None,
    frame: FrameOption = None,
    spacing: SpacingOption = None,
    as_json: JsonOption = False,
    **settings: Any,
) -> None:
    """Learn from image-level labels what is where: maps of what a network looks at for each class."""
    from napari_sparseseg.cli_progress import ProgressDisplay

    display = ProgressDisplay("Mapping")
    check_options(
        learns=not (classifier or model),
        image_labels=image_labels,
        both=bool(classifier and model),
        keeps=save_classifier is not None,
        places=at is not None,
        volumes=len(images),
        partial_seeds=seeds and bool(classes) and image_labels is None,
        thresholds=(settings["background_threshold"], settings["object_threshold"]) if seeds else (0, 1),
    )
    if encoder and (classifier or model):
        raise InputError(
            "a classifier starts from --encoder, and --classifier and --model train none; leave it out."
        )
    start = read_encoder(encoder)
    for folder in filter(None, (out, save_classifier)):
        check_folder(folder)
    subject = _load(classifier, model)
    volumes = [read_volume(image, frame, spacing, display) for image in images]
    tags, table = read_tags(image_labels, images, volumes, names, subject.table if subject else None)
    chosen = choose_classes(classes or [], table)
    inputs: list[str | Path] = [
        *filter(None, [image_labels]),
        *(file for image in images for file in split_channels(image)),
    ]
    targets = name_targets(images, table, chosen, out, inputs, seeds=seeds)
    names_file = out / "classes.json"
    if seeds:
        refuse_overwriting(names_file, inputs)
    voxel = find_voxel(at, units, volumes[0]) if at is not None else None
    report: dict[str, Any] = {}
    lines: list[str] = []
    if subject is None:
        subject, measured = _train(volumes, tags, table, settings, start, display)
        report["classifier"] = {"training": dict(subject.summary), **measured.to_json()}
        lines += measured.sentences(table)
        if save_classifier:
            _keep(save_classifier, subject)
            report["classifier"]["folder"] = str(save_classifier)
            lines.append(f"Wrote the classifier to {save_classifier}.")
    asked = _Question(subject, settings, voxel, check, display)
    report["maps"] = []
    learnt = subject.summary.get("learnt", subject.table.names)
    for volume, labels, files in zip(volumes, tags, targets, strict=True):
        known = {label: path for label, path in files.maps.items() if classes or chosen[label] in learnt}
        made, maps = asked.map_all(volume, known, keep=files.seeds is not None)
        report["maps"] += [one.to_json() for one in made]
        lines += [one.sentence() for one in made]
        if files.seeds:
            row, line = _write_seeds(files.seeds, maps, volume, labels, table, settings)
            report.setdefault("seeds", []).append(row)
            lines.append(line)
    if seeds:
        write_text(names_file, write_names(table))
        report["names"] = str(names_file)
        lines.append(f"Wrote the names of the seeds' classes to {names_file}, for --names.")
    display.say(CAUTION)
    print_report(report | {"caution": CAUTION}, lines, as_json)
    if any("error" in row for row in report.get("seeds", [])):
        raise typer.Exit(2)


def _load(classifier: Path | None, model: Path | None) -> "Classifier | Model | None":
    """Read the network to ask, where there is one already."""
    if classifier and (classifier / "model.json").is_file():
        raise InputError(f"{classifier} holds a segmentation network; give it as --model.")
    if model and (model / "classifier.json").is_file():
        raise InputError(f"{model} holds a classifier; give it as --classifier.")
    if classifier:
        from napari_sparseseg.classifier import load_classifier

        return load_classifier(classifier)
    if model:
        from napari_sparseseg.checkpoint import load_model

        return load_model(model)
    return None


def _keep(folder: Path, classifier: "Classifier") -> None:
    from napari_sparseseg.classifier import save_classifier

    save_classifier(folder, classifier)


class _Measured:
    """Keeps the last figures of a classifier on what it did not learn from."""

    def __init__(self) -> None:
        self._last: ClassifierScored | None = None

    def watch(self, work: "Generator[Event, None, Classifier]") -> "Generator[Event, None, Classifier]":
        """Pass all events of `work` on, and its result."""
        from napari_sparseseg.events import ClassifierScored

        while True:
            try:
                event = next(work)
            except StopIteration as end:
                classifier: Classifier = end.value
                return classifier
            if isinstance(event, ClassifierScored):
                self._last = event
            yield event

    def to_json(self) -> dict[str, Any]:
        """Return the figures for the report."""
        return {
            "balanced_accuracy": self._last.balanced_accuracy if self._last else {},
            "auc": self._last.auc if self._last else {},
            "within_volume": self._last.within_volume if self._last else None,
        }

    def sentences(self, table: "ClassTable") -> list[str]:
        """Return the figures in words, a line for each class."""
        if self._last is None:
            return ["Nothing could be held out to measure the classifier by."]
        where = (
            "slices of the same volumes, which is optimistic" if self._last.within_volume else "other volumes"
        )
        lines = [f"The classifier, measured on {where}:"]
        for name in table.names[1:]:
            accuracy, auc = self._last.balanced_accuracy.get(name), self._last.auc.get(name)
            lines.append(
                f"{name}: not measured, for it is always or never in what was held out"
                if accuracy is None or auc is None
                else f"{name}: balanced accuracy {accuracy:.3f}, AUC {auc:.3f}"
            )
        return lines


def _train(
    volumes: "Sequence[Volume]",
    tags: "Sequence[tuple[ImageLabel, ...]]",
    table: "ClassTable",
    settings: Mapping[str, Any],
    initial: "EncoderCheckpoint | None",
    display: "ProgressDisplay",
) -> "tuple[Classifier, _Measured]":
    """Let a classifier learn from all volumes, from an encoder that has learnt elsewhere if there is one."""
    from napari_sparseseg.classifier_training import TaggedCase, train_classifier

    measured = _Measured()
    cases = []
    for volume, labels in zip(volumes, tags, strict=True):
        if labels:
            cases.append(TaggedCase(volume.data, volume.spacing, labels, volume.name))
        else:
            display.say(f"No image-level label is of {volume.name}, which is mapped but not learnt from.")
    work = train_classifier(
        cases,
        table,
        settings_from(ClassifierConfig, settings),
        settings_from(NetworkConfig, settings),
        initial=initial,
    )
    return display.run(measured.watch(work)), measured


@dataclass(frozen=True, eq=False)
class _Made:
    """A map that was written, and what is told of it."""

    volume: str
    name: str
    path: Path
    is_empty: bool
    score: float
    check: "ClassMapChecked | None"

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"volume": self.volume, "class": self.name, "map": str(self.path)}
        row |= {"score": self.score, "is_empty": self.is_empty}
        if self.check:
            row["check"] = asdict(self.check)
        return row

    def sentence(self) -> str:
        found = f"{100 * self.score:.0f} % sure that it is there"
        empty = "; the map is 0 everywhere, for nothing speaks for it" if self.is_empty else ""
        return f"Wrote {self.path}: {self.name}, {found}{empty}." + (
            f" {self.check.text}" if self.check else ""
        )


@dataclass(frozen=True, eq=False)
class _Question:
    """Asks a network where it looks, as the options say."""

    subject: "Classifier | Model"
    settings: Mapping[str, Any]
    voxel: tuple[int, int, int] | None
    checks: bool
    display: "ProgressDisplay"

    def map_all(
        self, volume: "Volume", files: Mapping[int, Path], *, keep: bool
    ) -> "tuple[list[_Made], dict[int, NDArray[np.float32]]]":
        """Make the maps of some classes; return what is told of each, and by label their values if `keep`."""
        told, maps = [], {}
        for label, path in files.items():
            made, maps[label] = self.map(volume, label, path)
            told.append(made)
            if not keep:
                maps.clear()  # each is as large as the volume
        return told, maps

    def map(self, volume: "Volume", label: int, path: Path) -> "tuple[_Made, NDArray[np.float32]]":
        """Make, write and check the map of one class; return what is told of it, and its values."""
        from napari_sparseseg.cam import map_class
        from napari_sparseseg.cam_check import check_map
        from napari_sparseseg.volume import save_map

        config, device = settings_from(CamConfig, self.settings), self.settings["device"]
        image, spacing, voxel = volume.data, volume.spacing, self.voxel
        crf = settings_from(CrfConfig, self.settings)
        made = self.display.run(
            map_class(self.subject, image, spacing, label, config, crf, voxel=voxel, device=device)
        )
        save_map(path, made.values, volume)
        checked = None
        if self.checks:
            seed = self.settings["seed"]
            work = check_map(
                self.subject, image, spacing, label, config, voxel=voxel, device=device, seed=seed
            )
            checked = self.display.run(work)
        name = self.subject.table.names[label - 1]
        return _Made(volume.name, name, path, not made.values.any(), made.score, checked), made.values


def _write_seeds(
    path: Path,
    maps: "Mapping[int, NDArray[np.float32]]",
    volume: "Volume",
    labels: "tuple[ImageLabel, ...]",
    table: "ClassTable",
    settings: Mapping[str, Any],
) -> tuple[dict[str, Any], str]:
    """Make seeds of the maps and write them as sparse labels; return them in numbers and in words."""
    import numpy as np

    from napari_sparseseg.image_labels import Presence
    from napari_sparseseg.seeds import make_seeds
    from napari_sparseseg.volume import save_labels

    outside_absent = settings["outside"] == "absent"
    presence = Presence(labels, volume.shape, len(table), outside_absent=outside_absent) if labels else None
    config = settings_from(SeedConfig, settings)
    row: dict[str, Any] = {"volume": volume.name, "seeds": str(path)}
    try:
        seeds = make_seeds(maps, presence, config)
    except InputError as error:  # the maps are there all the same, and so may be those of other volumes
        return row | {"error": str(error)}, f"{path} was not written: {error}"
    plain = 1 not in table.mask_values  # else 1 cannot mean background in the file
    unlabelled = 0 if plain else next(v for v in range(_UNLABELLED, 0, -1) if v not in table.mask_values)
    values = np.array([unlabelled, 1 if plain else 0, *table.mask_values[1:]], np.int32)
    save_labels(path, values[seeds], volume)
    counts = np.bincount(seeds.reshape(-1), minlength=len(table) + 1)[1:]
    voxels = dict(zip(table.names, counts.tolist(), strict=True))
    use = "" if plain else f"; use it with --unlabelled {unlabelled}"
    told = ", ".join(f"{name} {number}" for name, number in voxels.items())
    sentence = f"Wrote {path}: seeds, voxels of {told}{use}."
    if empty := [name for name, number in voxels.items() if not number]:
        sentence += f" None is of {', '.join(empty)}: train longer, or change --object-threshold."
    return row | {"unlabelled": unlabelled, "voxels": voxels}, sentence
