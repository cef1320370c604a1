"""Which class each box of a file belongs to."""

from collections.abc import Mapping, Sequence

from napari_sparseseg.box_files import NamedBox
from napari_sparseseg.errors import InputError


def match_classes(
    boxes: Sequence[NamedBox], known: Mapping[int, str], allowed: range
) -> tuple[list[int], dict[int, str]]:
    """Find the class of each box among those known, and make a class of what is not known.

    A name counts before a value: files of other programs number their classes as they like.  A box that has
    only a value is of the class that other boxes of the file name with it, or else of the known one.

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
    value_of = {name.casefold(): value for value, name in reversed(names.items())}
    told: dict[int | None, str] = {
        box.value: box.name for box in reversed(boxes) if box.name and box.value is not None
    }
    values = []
    for box in boxes:
        name = box.name or told.get(box.value, "")
        if not name and box.value is not None and box.value in known:
            values.append(box.value)
            continue
        name = name or f"class {box.value}"
        value = value_of.get(name.casefold())
        if value is None:
            wanted = box.value
            usable = wanted is not None and wanted in allowed and wanted not in names
            value = wanted if wanted is not None and usable else _free(names, allowed)
            names[value] = name
            value_of[name.casefold()] = value
        values.append(value)
    return values, names


def _free(names: Mapping[int, str], allowed: range) -> int:
    free = next((value for value in allowed if value not in names), None)
    if free is None:
        raise InputError(f"the boxes are of more than {len(allowed)} classes; give fewer classes.")
    return free
