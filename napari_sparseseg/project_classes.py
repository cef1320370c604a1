"""The class table of a project, and the memory of every class and painted value it ever had.

A value stays taken after its class was deleted: undone strokes may still hold it, and would otherwise
come back as labels of another class.
"""

import json
from collections.abc import Iterable, Iterator

from napari_sparseseg.annotation import BACKGROUND, ClassTable, LabelClass
from napari_sparseseg.errors import InputError
from napari_sparseseg.label_change import LARGEST_VALUE
from napari_sparseseg.project_store import ProjectStore


class ProjectClasses:
    """The classes in a project file.

    Parameters
    ----------
    store
        The project file.

    Attributes
    ----------
    table
        The table as it is now.
    """

    def __init__(self, store: ProjectStore) -> None:
        self._store = store
        try:
            self.table = ClassTable.from_json(store.property("table"))
            check_table(self.table)
        except InputError as error:
            raise store.damaged("the class table") from error
        self._taken = {value for (value,) in store.rows("SELECT value FROM classes")}
        self._taken |= {entry.value for entry in self.table.classes[1:]}

    def free_value(self) -> int:
        """Return the least value that no class and no label ever had; `InputError` when there is none."""
        for value in range(BACKGROUND + 1, LARGEST_VALUE + 1):
            if value not in self._taken:
                return value
        raise InputError("this project has used up all its class values; begin another project.")

    def with_values(self, values: Iterable[int]) -> ClassTable:
        """Return the table and, after it, those former classes whose painted values are given."""
        missing = set(values) - {entry.value for entry in self.table.classes[1:]}
        if not missing:
            return self.table
        back = [entry for entry in self._former() if entry.value in missing]
        return ClassTable((*self.table.classes, *back)) if back else self.table

    def write(self, table: ClassTable, painted: Iterable[int] = ()) -> None:
        """Write the table if it is new, and the values painted, within a transaction."""
        for value in set(painted) - self._taken:
            self._store.execute("INSERT INTO classes VALUES (?, 'null')", (value,))
        if table == self.table:
            return
        self._store.set_property("table", table.to_json())
        for entry in (*self.table.classes[1:], *table.classes[1:]):
            values = (entry.value, json.dumps([entry.name, entry.color]))
            self._store.execute("INSERT OR REPLACE INTO classes VALUES (?, ?)", values)

    def adopt(self, table: ClassTable, painted: Iterable[int] = ()) -> bool:
        """Hold what was written; return whether the table is new."""
        changed = table != self.table
        self.table = table
        self._taken |= {*painted, *(entry.value for entry in table.classes[1:])}
        return changed

    def _former(self) -> Iterator[LabelClass]:
        """Yield the classes that there ever were."""
        for value, text in self._store.rows("SELECT value, entry FROM classes ORDER BY value"):
            entry = self._store.parse(text, f"class {value}")
            if isinstance(entry, list) and len(entry) == 2:
                yield LabelClass(value, str(entry[0]), str(entry[1]))


def check_table(table: ClassTable) -> None:
    """Raise `InputError` for a class whose value cannot be painted: 0, 1 or above 255."""
    wrong = [entry for entry in table.classes[1:] if not BACKGROUND < entry.value <= LARGEST_VALUE]
    if wrong:
        raise InputError(
            f"the class {wrong[0].name} has the value {wrong[0].value}, which cannot be painted; give it one "
            f"from {BACKGROUND + 1} to {LARGEST_VALUE}."
        )
