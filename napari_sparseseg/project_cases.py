"""The rows of a project file that hold cases and training rounds."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from napari_sparseseg.project_records import CaseRecord, RoundRecord
from napari_sparseseg.project_store import ProjectStore

_CASE = "name, shape, spacing, affine, source, fingerprint"
_ROUND = "number, case_number, time, figures"


def insert_case(store: ProjectStore, case: CaseRecord) -> int:
    """Add a case, within a transaction; return its number."""
    parts = (case.name, case.shape, case.spacing, case.affine, case.source, case.fingerprint)
    return store.execute(
        f"INSERT INTO cases ({_CASE}) VALUES (?, ?, ?, ?, ?, ?)", [json.dumps(part) for part in parts]
    )


def read_cases(store: ProjectStore) -> Iterator[CaseRecord]:
    """Yield all cases in the order in which they were added; raise `InputError` for a damaged one."""
    for row in store.rows(f"SELECT number, {_CASE} FROM cases ORDER BY number"):
        try:
            yield CaseRecord.from_row(row)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise store.damaged(f"case {row[0]}") from error


def insert_round(store: ProjectStore, case: int, figures: Mapping[str, Any]) -> int:
    """Add a training round that begins now, within a transaction; return its number."""
    statement = "INSERT INTO rounds (case_number, time, figures) VALUES (?, ?, ?)"
    return store.execute(statement, (case, time.time(), json.dumps(dict(figures))))


def update_round(store: ProjectStore, number: int, figures: Mapping[str, Any]) -> None:
    """Replace the figures of a training round, within a transaction."""
    store.execute("UPDATE rounds SET figures = ? WHERE number = ?", (json.dumps(dict(figures)), number))


def find_round(store: ProjectStore, number: int) -> RoundRecord | None:
    """Return a training round, None where there is none; raise `InputError` for a damaged one."""
    row = store.row(f"SELECT {_ROUND} FROM rounds WHERE number = ?", (number,))
    return None if row is None else _round(store, row)


def read_rounds(store: ProjectStore, case: int) -> tuple[RoundRecord, ...]:
    """Return the training rounds of a case, oldest first; raise `InputError` for a damaged one."""
    query = f"SELECT {_ROUND} FROM rounds WHERE case_number = ? ORDER BY number"
    return tuple(_round(store, row) for row in store.rows(query, (case,)))


def _round(store: ProjectStore, row: tuple[Any, ...]) -> RoundRecord:
    number, case, began, text = row
    figures = store.parse(text, f"training round {number}")
    if not isinstance(figures, dict) or not isinstance(began, float):
        raise store.damaged(f"training round {number}")
    return RoundRecord(number, case, began, figures)
