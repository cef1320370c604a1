"""Which class each box of a file belongs to."""

from collections.abc import Collection, Mapping, Sequence

from napari_sparseseg.box_files import NamedBox
from napari_sparseseg.errors import InputError


def match_classes(
    boxes: Sequence[NamedBox], known: Mapping[int, str], allowed: range, taken: Collection[int] = ()
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
    taken
        Values of classes that have no name yet: a box of such a value is of this class and may name it.  A
        box that tells no value is of none of them.

    Returns
    -------
    values
        Of each box's class; not always the one that the box asks for (see `list_renumbered`).
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
    asked = {box.value for box in boxes if box.value is not None}
    asked_by = {box.name.casefold(): box.value for box in reversed(boxes) if box.value is not None}
    values = []
    for box in boxes:
        name = box.name or told.get(box.value, "")
        if not name and box.value is not None and box.value in known:
            values.append(box.value)
            continue
        name = name or f"class {box.value}"
        value = value_of.get(name.casefold())
        if value is None:
            wanted = asked_by.get(name.casefold()) if box.value is None else box.value
            usable = wanted is not None and wanted in allowed and wanted not in names
            value = wanted if wanted is not None and usable else _free(allowed, {*names, *taken}, asked)
            names[value] = name
            value_of[name.casefold()] = value
        values.append(value)
    return values, names


def list_renumbered(boxes: Sequence[NamedBox], values: Sequence[int]) -> list[tuple[int, int]]:
    """Return each value that boxes ask for together with the other one that `match_classes` gave them."""
    pairs = zip((box.value for box in boxes), values, strict=True)
    return sorted({(asked, given) for asked, given in pairs if asked is not None and asked != given})


def _free(allowed: range, used: Collection[int], asked: Collection[int]) -> int:
    """Return the lowest value that is not used, if there is one none that a box asks for."""
    for avoided in ({*used, *asked}, used):
        free = next((value for value in allowed if value not in avoided), None)
        if free is not None:
            return free
    raise InputError(f"the boxes are of more than {len(allowed)} classes; give fewer classes.")
