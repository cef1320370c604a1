"""Which class each box of a file belongs to."""

from collections.abc import Mapping, Sequence

from napari_sparseseg.box_files import NamedBox
from napari_sparseseg.errors import InputError


def match_classes(
    boxes: Sequence[NamedBox], known: Mapping[int, str], allowed: range
) -> tuple[list[int], dict[int, str]]:
    """Find the class of each box among those known, and make a class of what is not known.

    A name counts before a value: files of other programs number their classes as they like.

    Parameters
    ----------
    boxes
        As read.
    known
        Names of classes by value.
    allowed
        Values that a class may have.

    Returns
    -------
    values
        Of each box's class.
    names
        Of all classes by value, the known ones first.

    Raises
    ------
    InputError
        If there are more classes than values.
    """
    names = dict(known)
    values = []
    for box in boxes:
        value = _find(box, names)
        if value is None:
            wanted = box.value
            usable = wanted is not None and wanted in allowed and wanted not in names
            value = wanted if wanted is not None and usable else _free(names, allowed)
            names[value] = box.name or f"class {wanted}"
        values.append(value)
    return values, names


def _find(box: NamedBox, names: Mapping[int, str]) -> int | None:
    if box.name:
        wanted = box.name.casefold()
        return next((value for value, name in names.items() if name.casefold() == wanted), None)
    if box.value is not None and box.value in names:
        return box.value
    return _find(NamedBox(box.start, box.stop, f"class {box.value}"), names)


def _free(names: Mapping[int, str], allowed: range) -> int:
    free = next((value for value in allowed if value not in names), None)
    if free is None:
        raise InputError(f"the boxes are of more than {len(allowed)} classes; give fewer classes.")
    return free
