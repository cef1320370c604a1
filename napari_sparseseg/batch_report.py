"""The report of a batch: tables for programs, and a page for people with what they should look at first."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_sparseseg.annotation import ClassTable
from napari_sparseseg.atomic import write_text
from napari_sparseseg.batch_charts import MarkedVolume, draw_volumes
from napari_sparseseg.batch_ledger import RECORDS, thumbnail_path
from napari_sparseseg.batch_page import embed_jpeg, make_link, show_text, wrap_page
from napari_sparseseg.batch_records import BatchRecord
from napari_sparseseg.batch_settings import RESULT_FORMATS
from napari_sparseseg.batch_tables import (
    case_status,
    listed_classes,
    manifest_csv,
    manifest_json,
    measurements_csv,
)
from napari_sparseseg.batch_thumbnails import draw_thumbnail as draw_thumbnail
from napari_sparseseg.batch_thumbnails import shrink_thumbnail
from napari_sparseseg.batch_triage import Attention, choose_first, find_spread, find_spreads, told_ml
from napari_sparseseg.case_checks import class_names, typical_volumes

_STATES = {"failed": "failed", "check": "needs a look", "done": "done"}
_TILES = {"failed": "failed", "check": "to be checked", "done": "nothing stands out"}
_MOST_CARDS = 60
_MOST_COLUMNS = 8  # classes with a column of their own
_EMBEDDED = 11_000_000  # characters of pictures; further ones are linked
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_LARGEST = 1e9  # figure that a damaged record may be shown with
_OTHER_COLOR = "#999999"


def write_report(
    out: str | os.PathLike[str],
    records: Sequence[BatchRecord],
    table: ClassTable,
    *,
    model: str = "",
    typical: Any = None,
) -> Path:
    """Write ``manifest.csv``, ``manifest.json``, ``measurements.csv`` and ``report.html``, each atomically.

    The page holds its pictures, style and script, and needs nothing from the net; of a very large batch the
    last pictures stay in ``records/``.  All paths in it are relative, so that the folder can be moved.

    Parameters
    ----------
    out
        The batch's folder; thumbnails are taken from ``records/<name>.png`` in it where they are there.
    records
        Of all cases, in the order in which they are listed.
    table
        The model's classes.
    model
        What to call the model.
    typical
        The training range, `Model.summary`'s "typical", whatever it is.

    Returns
    -------
    The page.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    out = Path(out)
    write_text(out / "manifest.json", manifest_json(records, table, model))
    write_text(out / "manifest.csv", manifest_csv(records, table))
    write_text(out / "measurements.csv", measurements_csv(records, table))
    page = out / "report.html"
    write_text(page, draw_page(out, records, table, model=model, typical=typical))
    return page


def draw_page(
    out: str | os.PathLike[str],
    records: Sequence[BatchRecord],
    table: ClassTable,
    *,
    model: str = "",
    typical: Any = None,
) -> str:
    """Return the page that `write_report`, which has the same parameters, writes."""
    return _Report(Path(out), records, table, model, typical).draw()


@dataclass(frozen=True)
class _ListedClass:
    """A class as the page shows it."""

    name: str
    color: str

    def draw(self) -> str:
        """Return its name behind a patch of its color."""
        return f'<i class="class" style="background:{self.color}"></i>{show_text(self.name)}'


class _Pictures:
    """Finds the thumbnails of cases; embeds them up to a limit."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._left = _EMBEDDED

    def draw(self, record: BatchRecord) -> str:
        """Return a case's thumbnail as ``<img>``; nothing where there is none, or none of this run."""
        path = thumbnail_path(self._out, record.name)
        try:
            if record.error or not path.resolve().is_relative_to((self._out / RECORDS).resolve()):
                return ""
            source = embed_jpeg(shrink_thumbnail(path.read_bytes()))
        except (OSError, ValueError):
            return ""
        if self._left < len(source):
            source = make_link(path.relative_to(self._out).as_posix())
        else:
            self._left -= len(source)
        return (
            f'<img src="{source}" alt="slices of {show_text(record.name)}" loading="lazy" decoding="async">'
        )


class _Report:
    """The page, part by part."""

    def __init__(
        self, out: Path, records: Sequence[BatchRecord], table: ClassTable, model: str, typical: Any
    ) -> None:
        self._records, self._model = records, model
        self._training = typical_volumes(typical)
        colors = dict(zip(class_names(table), (entry.color for entry in table.classes[1:]), strict=True))
        self._classes = [
            _ListedClass(name, color if _COLOR.fullmatch(color := colors.get(name, "")) else _OTHER_COLOR)
            for name in listed_classes(records, table)
        ]
        self._own_columns = len(self._classes) <= _MOST_COLUMNS
        self._pictures = _Pictures(out)

    def draw(self) -> str:
        """Return the HTML file."""
        first = choose_first(self._records, [entry.name for entry in self._classes])
        parts = [*self._draw_head(), *self._draw_first(first), *self._draw_charts(), *self._draw_cases()]
        parts.append(
            "<footer>The masks were made by a network, and nobody has checked them yet. Pictures: axial, "
            "coronal and sagittal slice through most of the mask; the patient’s right is on the left. "
            '<a href="./manifest.csv">manifest.csv</a>, <a href="./manifest.json">manifest.json</a>, '
            '<a href="./measurements.csv">measurements.csv</a></footer>'
        )
        return wrap_page("Segmentation report", "\n".join(parts))

    def _draw_head(self) -> Iterator[str]:
        states = [case_status(record) for record in self._records]
        yield "<h1>Segmentation report</h1>"
        seconds = find_spread([record.seconds for record in self._records if not record.error])
        hashes = sorted({record.model_hash[:12] for record in self._records if record.model_hash})
        model = f"Model <bdi>{show_text(self._model)}</bdi>" if self._model else "Model"
        pace = f" · {seconds.middle:.3g} seconds per case" if seconds else ""
        yield f'<p class="soft">{model} {show_text(", ".join(hashes))}{pace}</p>'
        tiles = "".join(
            f'<li class="{state}"><b>{states.count(state)}</b>{words}</li>'
            for state, words in _TILES.items()
            if state == "done" or state in states
        )
        cases = "case" if len(states) == 1 else "cases"
        yield f'<ul class="tiles"><li><b>{len(states)}</b>{cases}</li>{tiles}</ul>'

    def _draw_first(self, first: Sequence[Attention]) -> Iterator[str]:
        if not first:
            return
        yield "<h2>Look at these first</h2>"
        if len(first) > _MOST_CARDS:
            yield f'<p class="soft">The first {_MOST_CARDS} of {len(first)}; the others are in the table.</p>'
        yield '<ul class="cards">'
        for attention in first[:_MOST_CARDS]:
            record, state = attention.record, case_status(attention.record)
            look = "other" if state == "done" else state
            reasons = "".join(f"<li>{show_text(reason)}</li>" for reason in attention.reasons)
            name = f'{self._draw_name(record)}<span class="state">{attention.kind}</span>'
            picture = self._pictures.draw(record)
            yield f'<li class="{look}"><h3>{name}</h3>{picture}<ul>{reasons}</ul></li>'
        yield "</ul>"

    def _draw_charts(self) -> Iterator[str]:
        known = [record for record in self._records if not record.error]
        spreads = find_spreads(known, [entry.name for entry in self._classes])
        if len(known) < 2 or not spreads:
            return
        yield "<h2>Volumes</h2>"
        band = " The pale band is the range of the training cases." if self._training else ""
        yield f'<p class="soft">How many cases have which volume; red marks stand out.{band}</p>'
        yield '<div class="charts">'
        for entry in self._classes:
            spread = spreads.get(entry.name)
            if spread is None:
                continue
            there = [(record, ml) for record in known if (ml := told_ml(record, entry.name))]
            marked = [
                MarkedVolume(record.name, ml)
                for record, ml in there
                if not spread.holds(ml) or any(w.startswith(f"{entry.name} is unu") for w in record.warnings)
            ]
            missing = len(known) - len(there)
            without = f", missing in {missing}" if missing else ""
            chart = draw_volumes(
                f"volumes of {entry.name}", entry.color, [ml for _, ml in there], spread,
                self._training.get(entry.name), marked,
            )  # fmt: skip
            yield (
                f"<figure><figcaption>{entry.draw()} <span>median {spread.middle:.3g} ml{without}</span>"
                f"</figcaption>{chart}</figure>"
            )
        yield "</div>"

    def _draw_cases(self) -> Iterator[str]:
        yield "<h2>All cases</h2>"
        choices = "".join(f'<option value="{state}">{words}</option>' for state, words in _STATES.items())
        yield (
            '<div class="tools" hidden><input id="words" type="search" placeholder="name, warning …" '
            'aria-label="find cases"><select id="state" aria-label="state">'
            f'<option value="">all states</option>{choices}</select>'
            '<span class="soft" id="shown" role="status"></span></div>'
        )
        volumes = [f"{show_text(entry.name)} (ml)" for entry in self._classes] if self._own_columns else []
        heads = [
            '<th scope="col">picture</th>', '<th scope="col" data-sort="up">case</th>',
            '<th scope="col" data-sort="down">state</th>',
            *(f'<th scope="col" class="n" data-sort="down">{name}</th>' for name in volumes),
            *(() if self._own_columns else ['<th scope="col">volumes</th>']),
            '<th scope="col" class="n" data-sort="down">uncertainty</th>', '<th scope="col">remarks</th>',
            '<th scope="col" class="n" data-sort="down">seconds</th>',
        ]  # fmt: skip
        yield f'<div class="scroll"><table><thead><tr>{"".join(heads)}</tr></thead><tbody>'
        for record in self._records:
            yield self._draw_row(record)
        yield "</tbody></table></div>"

    def _draw_row(self, record: BatchRecord) -> str:
        state = case_status(record)
        remarks = [text for text in (record.error, *record.warnings, *record.notes) if text]
        listed = "".join(f"<li>{show_text(text)}</li>" for text in remarks)
        return (
            f'<tr class="{state}"><td class="picture">{self._pictures.draw(record)}</td>'
            f'<td class="case">{self._draw_name(record)}</td>'
            f'<td><span class="state">{_STATES[state]}</span></td>'
            f"{self._draw_volumes(record)}"
            f"{_draw_number('uncertainty', None if record.error else record.uncertainty, 2)}"
            f'<td class="remarks">{f"<ul>{listed}</ul>" if listed else ""}</td>'
            f"{_draw_number('seconds', record.seconds or None, 1)}</tr>"
        )

    def _draw_volumes(self, record: BatchRecord) -> str:
        volumes = {} if record.error else record.volumes_ml
        if self._own_columns:
            return "".join(
                _draw_number(f"{entry.name} (ml)", volumes.get(entry.name)) for entry in self._classes
            )
        listed = "<br>".join(
            f"{entry.draw()} {_tell_number(volumes[entry.name])} ml"
            for entry in self._classes
            if volumes.get(entry.name)
        )
        summary = f"<summary>{sum(ml > 0 for ml in volumes.values())} classes</summary>"
        return f"<td>{f'<details>{summary}{listed}</details>' if listed else ''}</td>"

    def _draw_name(self, record: BatchRecord) -> str:
        """Return a case's name, with a link to its mask where there is one."""
        name = f"<bdi>{show_text(record.name)}</bdi>"
        mask = next((file for kind, file in record.results.items() if kind in RESULT_FORMATS), "")
        return f'<a href="{make_link(mask)}">{name}</a>' if mask and not record.error else name


def _draw_number(label: str, number: float | None, digits: int | None = None) -> str:
    """Return a cell with a number, or an empty one."""
    if number is None or not abs(number) < _LARGEST:
        return '<td class="n" data-v=""></td>'
    shown = _tell_number(number) if digits is None else f"{number:.{digits}f}"
    return f'<td class="n" data-label="{show_text(label)}" data-v="{number:.7g}">{shown}</td>'


def _tell_number(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
