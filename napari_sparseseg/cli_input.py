"""Reading what the command line names: volumes, label files, class names."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sparseseg.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sparseseg.annotation import ClassTable
    from napari_sparseseg.cli_progress import ProgressDisplay
    from napari_sparseseg.volume import Volume


def read_volume(
    text: str, frame: int | None, spacing: str | None, display: "ProgressDisplay | None"
) -> "Volume":
    """Read ``a.nii.gz`` or, as channels, ``a.nii.gz,b.nii.gz``; show what was noticed on `display`."""
    from napari_sparseseg.volume import load_volume

    parts = split_channels(text)
    volume = load_volume(parts[0] if len(parts) == 1 else parts, frame=frame, spacing=parse_spacing(spacing))
    if display is not None:
        for note in volume.notes:
            display.say(note)
    return volume


def split_channels(text: str) -> list[str]:
    """Split ``a.nii.gz,b.nii.gz``; a file whose own name holds a comma stays whole."""
    try:
        return [text] if Path(text).exists() else text.split(",")
    except OSError:  # several names in a row can be too long for one
        return text.split(",")


def name_volume(text: str) -> str:
    """Return the name that results of a volume are called by: its (first) file's or its folder's."""
    from napari_sparseseg.volume import short_name

    file = re.sub(r"(\.h5|\.hdf5):.*$", r"\1", split_channels(text)[0])  # without the data set inside it
    return short_name(Path(file).resolve())


def refuse_overwriting(target: Path, sources: Iterable[str | Path]) -> None:
    """Raise `InputError` where a result would replace a file that it is made from."""
    if target.resolve() in {Path(source).resolve() for source in sources}:
        raise InputError(f"{target} is an input and would be replaced by the result; choose another name.")


def parse_spacing(text: str | None) -> tuple[float, float, float] | None:
    """Read ``Z,Y,X`` in mm."""
    if text is None:
        return None
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"--spacing {text} is not three numbers; give mm as Z,Y,X, e.g. 2,0.5,0.5."
        ) from None
    return z, y, x


def split_case(text: str, option: str = "--case", form: str = "IMAGE=SPARSE") -> tuple[str, Path]:
    """Split ``IMAGE=SPARSE``, or what an option of another `form` was given."""
    image, equals, labels = text.rpartition("=")
    if not (image and equals and labels):
        raise InputError(f"{option} {text} is not {form}; give a volume, an equals sign and its label file.")
    return image, Path(labels)


def read_names(path: Path | None) -> dict[int, str]:
    """Read a JSON file of class values and names; no file gives no names."""
    if path is None:
        return {}
    try:
        return {int(value): str(name) for value, name in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f'{path} does not give names as {{"2": "liver"}} ({error}).') from error


def read_label_values(
    path: Path, volume: "Volume", unlabelled: int | None, names: Path | None
) -> "NDArray[np.int32]":
    """Read the values of a label file on the volume's grid; refuse what is of the other convention."""
    from napari_sparseseg.annotation import BACKGROUND, check_convention
    from napari_sparseseg.volume import load_labels

    values = load_labels(path, volume)
    told = read_names(names)
    if unlabelled is None:
        check_convention(values, str(path))
        if told.get(BACKGROUND, "background").casefold() != "background" and (values == BACKGROUND).any():
            raise InputError(
                f"{names} says that 1 is {told[BACKGROUND]}, but in {path} it means background unless "
                "--unlabelled says which value is unlabelled, e.g. --unlabelled 255."
            )
    return values


def read_annotations(
    paths: list[Path],
    volumes: "list[Volume]",
    unlabelled: int | None,
    names: Path | None,
    table: "ClassTable | None" = None,
) -> "tuple[list[NDArray[np.uint8]], ClassTable]":
    """Read label files, one per volume, with the classes of `table` or those that occur in any of them."""
    from napari_sparseseg.annotation import ClassTable, annotation_from_file, painted_values

    stored = [
        read_label_values(path, volume, unlabelled, names)
        for path, volume in zip(paths, volumes, strict=True)
    ]
    convention = unlabelled or 0
    painted = sorted({value for values in stored for value in painted_values(values, convention)})
    if not painted and table is None:
        raise InputError(
            f"{paths[0]} has no voxel of a class; label background and at least one class "
            "(see --unlabelled for what the values mean)."
        )
    table = table or ClassTable.from_values(painted, read_names(names))
    return [annotation_from_file(values, table, convention) for values in stored], table
