"""Classes that were read from a file and are not known yet."""

from collections.abc import Mapping

from napari_sparseseg.annotation import ClassTable


def with_classes(table: ClassTable, names: Mapping[int, str]) -> ClassTable:
    """Return the table with a row more for each painted value of `names` that it lacks."""
    known = table.mask_values[1:]
    made = ClassTable.from_values(list(names), names).classes[1:]
    return ClassTable((*table.classes, *(entry for entry in made if entry.value not in known)))
