"""Reading CSV tables as people and other programs write them: any of the usual delimiters, Excel's too."""

import csv
import io
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from napari_sparseseg.errors import InputError

_MOST_ROWS = 100_000
_LARGEST_FILE = 100_000_000  # bytes


def read_table(
    path: str | os.PathLike[str],
    columns: Sequence[str],
    what: str,
    required: Sequence[Sequence[str]] = (),
    numbers: Collection[str] = (),
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of a CSV file that are not empty.

    Parameters
    ----------
    path
        The file.  Its first line names its columns, after Excel's ``sep=`` if that is there.
    columns
        Names of the columns that are read; others may be there.
    what
        What the rows are, plural, to tell people.
    required
        Of each of these groups of columns one must be there.
    numbers
        Columns of numbers: a decimal comma becomes a point there, unless commas part the cells, where
        ``"1,000"`` may as well be a thousand.

    Yields
    ------
    place
        Where the row stands, as ``line 3 of labels.csv``.
    cells
        Of each column, stripped; empty where the file does not have it.

    Raises
    ------
    InputError
        If the file is missing, damaged or empty, a column is missing or twice there, a row has more
        cells than the first line, or there are more than 100,000 rows.
    """
    path = Path(path).expanduser()
    text = read_text(path, what)
    lines = io.StringIO(text, newline="")
    header = text.split("\n", 1)[0].strip()
    skipped = int(header[:4].lower() == "sep=")
    if skipped:
        lines.readline()
    delimiter = (header[4:5] or ",") if skipped else max(",;\t", key=header.count)
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    count = 0
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        _check_columns(path, names, columns, required)
        with_comma = () if delimiter == "," else numbers
        reader.fieldnames = names
        for row in reader:
            place = f"line {reader.line_num + skipped} of {path}"
            surplus = row.pop(None, [])  # where the csv module puts what has no column
            if not any(cell and cell.strip() for cell in (*row.values(), *surplus)):
                continue
            if surplus:
                raise InputError(
                    f"{place} has more cells than the first line; quote text that holds a {delimiter!r}"
                    f"{', and write decimals with a point' if delimiter == ',' else ''}."
                )
            count += 1
            if count > _MOST_ROWS:
                raise InputError(
                    f"{path} holds more than {_MOST_ROWS:,} {what}; split it into several files."
                )
            cells = {name: (row.get(name) or "").strip() for name in columns}
            yield place, cells | {name: cells[name].replace(",", ".") for name in with_comma}
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV table ({error}); export it again.") from error
    if not count:
        raise InputError(f"{path} holds no {what}; add at least one row.")


def as_number(
    place: str, cell: str, column: str, largest: float = 1e9, wanted: str = "a finite number"
) -> float:
    """Return the number in a cell; raise `InputError` where that is none, or one farther from 0."""
    try:
        number = float(cell)
    except ValueError:
        number = float("nan")
    if not abs(number) <= largest:  # also where it is not a number (NaN)
        comma = ", and write decimals with a point" if "," in cell else ""
        raise InputError(f"{place} has {shown(cell)} as {column}; give {wanted}{comma}.")
    return number


def shown(content: object) -> str:
    """Return what a file holds as a message quotes it."""
    return "nothing" if content is None or content == "" else f"{content!r:.60}"


def read_text(path: Path, what: str) -> str:
    """Return what a file of `what` says; raise `InputError` if it is missing, empty, huge or no text."""
    if not path.is_file():
        raise InputError(f"{path} {'is not a file' if path.exists() else 'does not exist'}; choose another.")
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise InputError(f"{path} is too large for a file of {what}; choose another.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); choose another.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; save it as UTF-8.") from error
    if not text.strip():
        raise InputError(f"{path} is empty; export it again.")
    return text


def _check_columns(
    path: Path, names: Sequence[str], columns: Sequence[str], required: Sequence[Sequence[str]]
) -> None:
    missing = [" or ".join(group) for group in required if not set(group) & set(names)]
    if missing:
        needed = ", ".join(" or ".join(group) for group in required)
        raise InputError(f"{path} has no column {', '.join(missing)}; its first line must name {needed}.")
    if twice := [name for name in columns if names.count(name) > 1]:
        raise InputError(f"{path} has the column {twice[0]} twice; remove one.")
