import csv
import io
import json
import re
import shutil
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_sparseseg import batch_report
from napari_sparseseg.annotation import ClassTable, LabelClass
from napari_sparseseg.batch_inputs import find_inputs
from napari_sparseseg.batch_records import BatchRecord, record_from_json
from napari_sparseseg.batch_report import draw_page, write_report
from napari_sparseseg.batch_tables import (
    guard_cell,
    manifest_csv,
    manifest_json,
    measurements_csv,
    unguard_cell,
)
from napari_sparseseg.batch_thumbnails import HEIGHT, draw_thumbnail, shrink_thumbnail
from napari_sparseseg.batch_triage import choose_first

TABLE = ClassTable.from_values([1, 2], {1: "liver", 2: "spleen"})
TYPICAL = {"cases": 8, "classes": {"liver": {"cases": 8, "ml": [1000.0, 1700.0]}}}
HOSTILE = (
    "</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a' onmouseover='x", "&lt;b&gt;",
    "<!--", "]]>", "=HYPERLINK(1)", "-1", "'quoted'", 'com,ma "and" quote;semi', "two\nlines\r\tand tab", "",
    "\udcffbytes", "rtl\u202etxt.exe", "nul\0", "javascript:alert(1)", "100% #1?", "Müller 患者 😀",
)  # fmt: skip
names = st.sampled_from(HOSTILE) | st.text(st.characters(), max_size=20)


def record_of(name, ml=1200.0, uncertainty=0.1, warnings=(), error=""):
    if error:
        return BatchRecord(name, (f"{name}.nii.gz",), error=error)
    return BatchRecord(
        name, (f"{name}.nii.gz",), "ab" * 32, "cd" * 32, "ef" * 32, {"nii.gz": f"{name}.nii.gz"},
        ("01" * 32,), 1.5, (10, 20, 30), (2.0, 1.0, 1.0), {"liver": ml, "spleen": 200.0}, uncertainty,
        tuple(warnings),
    )  # fmt: skip


def noise_picture(seed=0):
    """Return a thumbnail that compresses as badly as any."""
    random = np.random.default_rng(seed)
    channels = np.zeros((20, 20, 20), np.uint8)
    channels[5:15, 5:15, 5:15] = 1
    return draw_thumbnail(random.random((1, 20, 20, 20), np.float32), channels, (1.0, 1.0, 1.0), TABLE)


PICTURE = noise_picture()


class Page(HTMLParser):
    """What a browser would make of a page: tags with the names of their attributes, and texts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.values = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.values += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.texts.append(data)

    def handle_comment(self, data):
        raise AssertionError(f"there is a comment: {data!r}")


def page_of(folder, records, table=TABLE, **options):
    return write_report(folder, records, table, **options).read_text(encoding="utf-8")


@pytest.fixture
def batch():
    """Return nine good cases and one of each kind of trouble."""
    good = [record_of(f"good {k}", 1100.0 + 20 * k, 0.10 + 0.001 * k) for k in range(9)]
    return [
        *good,
        record_of("broken", error="broken.nii.gz cannot be read (it ends too early); copy it again."),
        record_of("small", 300.0, warnings=["liver is unusually small: 300 ml; the 8 training cases had …"]),
        record_of("large", 4000.0),
        record_of("unsure", uncertainty=0.6),
    ]


def test_what_needs_a_human_comes_first(batch):
    first = choose_first(batch, ["liver", "spleen"])
    assert [a.record.name for a in first] == ["broken", "small", "unsure", "large"]
    assert [a.kind for a in first] == ["failed", "needs a look", *["unusual in this batch"] * 2]
    assert first[1].reasons == batch[10].warnings, "not told twice"
    assert first[2].reasons[0].startswith("the network is less sure here: its mean uncertainty is 0.6;")
    assert first[3].reasons[0].startswith("liver is unusually large in this batch: 4e+03 ml; half of")
    backwards = choose_first(batch[::-1], ["liver", "spleen"])
    assert backwards == first


def test_an_empty_mask_comes_before_other_warnings():
    empty = replace(record_of("empty", warnings=["the mask is empty"]), volumes_ml={"liver": 0.0})
    odd = record_of("odd", warnings=["one.", "two."])
    assert [a.record for a in choose_first([odd, empty], ["liver"])] == [empty, odd]


def test_the_least_sure_cases_are_looked_at_even_where_nothing_is_wrong():
    records = [record_of(f"{k:02}", uncertainty=0.1 + 0.01 * k) for k in range(20)]
    assert [a.record.name for a in choose_first(records, [])] == ["19", "18", "17"]
    assert not choose_first(records[:5], []), "too few to compare"
    assert not choose_first([replace(r, uncertainty=0.1) for r in records], []), "all alike"


def test_the_page_names_every_case_and_every_sentence(batch, tmp_path):
    page = Page(page_of(tmp_path, batch, model="my model", typical=TYPICAL))
    text = " ".join(page.texts)
    for record in batch:
        assert record.name in page.texts
        assert {*record.warnings, record.error} - {""} <= set(page.texts)
    assert page.tags.count(("tr", "class")) == len(batch)
    assert "my model" in text
    assert "training cases: 1e+03–1.7e+03 ml" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "manifest.csv", "manifest.json", "measurements.csv", "report.html",
    ]  # fmt: skip


def test_the_page_needs_nothing_but_its_folder(batch, tmp_path):
    for record in batch[:3]:
        for path in (tmp_path / f"{record.name}.nii.gz", tmp_path / "records" / f"{record.name}.png"):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(PICTURE)
    page = page_of(tmp_path, batch[:3])
    links = [value for _, name, value in Page(page).values if name in ("src", "href")]
    assert len([link for link in links if link.startswith("data:image/jpeg;base64,")]) == 3
    moved = shutil.copytree(tmp_path, tmp_path / "moved")
    relative = {link for link in links if not link.startswith("data:")}
    assert all((moved / unquote(link)).is_file() for link in relative)
    assert len(relative) == 6
    assert not re.search(r"https?:|//[a-z]|url\(|@import", page.split("<body>")[1].split("<script>")[0])
    assert page_of(tmp_path, batch[:3]) == page, "the same records give the same page"


def test_a_failed_case_shows_no_picture_of_an_earlier_run(batch, tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "broken.png").write_bytes(PICTURE)
    assert "<img" not in page_of(tmp_path, batch)


@pytest.mark.parametrize(
    "damage",
    [
        PICTURE[:200],
        PICTURE[:20] + b"\xff\xff" + PICTURE[22:],
        b"",
        b"\xff\xd8\xff",
        PICTURE[:60] + PICTURE[80:],
    ],
)
def test_a_damaged_picture_is_left_out(damage, tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "good.png").write_bytes(damage)
    assert "<img" not in page_of(tmp_path, [record_of("good")])


def test_no_picture_is_taken_from_elsewhere(tmp_path):
    (tmp_path / "secret.png").write_bytes(PICTURE)
    out = tmp_path / "out"
    assert "<img" not in page_of(out, [record_of("../../secret"), record_of(str(tmp_path / "secret"))])


def test_pictures_beyond_the_limit_are_linked(tmp_path, monkeypatch):
    (tmp_path / "records" / "a").mkdir(parents=True)
    records = [record_of(f"a/#{k}") for k in range(6)]
    for record in records:
        (tmp_path / "records" / f"{record.name}.png").write_bytes(PICTURE)
    monkeypatch.setattr(batch_report, "_EMBEDDED", 3 * 4 / 3 * len(shrink_thumbnail(PICTURE)) + 200)
    values = Page(page_of(tmp_path, records)).values
    sources = [value for tag, name, value in values if (tag, name) == ("img", "src")]
    assert [source.startswith("data:") for source in sources] == [True] * 3 + [False] * 3
    assert all((tmp_path / unquote(source)).is_file() for source in sources[3:])


def test_a_thousand_cases_stay_light(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_report, "shrink_thumbnail", cache(shrink_thumbnail))  # it is one picture
    (tmp_path / "records").mkdir()
    random = np.random.default_rng(0)
    records = [record_of(f"case {k}", *random.normal((1200, 0.1), (100, 0.01))) for k in range(1000)]
    records[::3] = [replace(record, warnings=("Look at it, please: " * 5,)) for record in records[::3]]
    for record in records:
        (tmp_path / "records" / f"{record.name}.png").write_bytes(PICTURE)
    page = page_of(tmp_path, records, typical=TYPICAL)
    assert len(page.encode()) < 15_000_000
    assert Page(page).tags.count(("tr", "class")) == 1000
    assert "The first 60 of " in page


HARMLESS = "harmless"


def page_with(name, sentence, title):
    """Return a page that has these texts wherever texts can stand."""
    sentence, title = f"{sentence}.", f"{title} (2)"  # none is empty, or one of the others
    table = ClassTable((*TABLE.classes[:2], LabelClass(2, title, f'#123456"{title}')))
    records = [
        record_of("a", warnings=[sentence]), replace(record_of("b", error=sentence), name=name),
        replace(record_of("c"), volumes_ml={"liver": 1.0, title: 2.0}, results={"nii.gz": f"x{name}"},
                notes=(sentence,)),
    ]  # fmt: skip
    typical = {"classes": {title: {"ml": [1, 2]}}}
    return Page(draw_page("", records, table, model=title, typical=typical))


@settings(max_examples=60, deadline=None)
@given(name=names, sentence=names, title=names)
def test_no_text_becomes_markup(name, sentence, title):
    odd, plain = page_with(name, sentence, title), page_with(HARMLESS, HARMLESS, HARMLESS)
    assert odd.tags == plain.tags
    for _, attribute, value in odd.values:
        assert not attribute.startswith("on")
        if attribute in ("href", "src"):
            assert value.startswith(("./", "data:image/jpeg;base64,"))


def read_csv(text):
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(names, min_size=4, max_size=4), label=names)
def test_tables_keep_every_text(texts, label):
    name, file, sentence, error = texts
    table = ClassTable((*TABLE.classes[:2], LabelClass(9, f"_{label}", "#ffffff")))
    done = replace(
        record_of(name, warnings=[sentence]),
        files=(file,),
        results={"nrrd": file},
        volumes_ml={f"_{label}": 0.5},
    )
    records = [done, replace(record_of("x"), name=name, error=error or "bad")]
    shown = [text.encode("utf-8", "backslashreplace").decode() for text in (*texts, f"_{label}")]
    first, second = read_csv(manifest_csv(records, table))
    for column, text in (("name", shown[0]), ("image", shown[1]), ("mask", shown[1]), ("warnings", shown[2])):
        assert unguard_cell(first[column]) == text
        assert not first[column].startswith(tuple("=+-@\t\r"))
    assert first[f"{shown[4]} ml"] == "0.5"
    assert unguard_cell(second["error"]) == (shown[3] or "bad")
    assert (first["status"], second["status"]) == ("check", "failed")
    (row,) = read_csv(measurements_csv(records, table))
    assert (unguard_cell(row["name"]), row["value"], row["voxels"]) == (shown[0], "9", "250")
    assert unguard_cell(row["class"]) == shown[4]


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_guarded_cell_comes_back(text):
    assert unguard_cell(guard_cell(text)) == text


def reject(constant):
    raise AssertionError(f"{constant} is no JSON")


@settings(max_examples=60, deadline=None)
@given(name=names, ml=st.floats(), uncertainty=st.floats(), seconds=st.floats())
def test_json_holds_all_and_only_numbers_it_knows(name, ml, uncertainty, seconds):
    record = replace(record_of(name, ml, uncertainty), seconds=seconds)
    plain = json.loads(manifest_json([record], TABLE, "model"), parse_constant=reject)
    (case,) = plain["cases"]
    assert case["name"] == name
    if all(np.isfinite([ml, uncertainty, seconds])):
        assert record_from_json({key: case[key] for key in case if key != "status"}) == record
    page = draw_page("", [record] * 9, TABLE)
    assert not re.search(r"[\"\s:](nan|inf)", page)


def test_the_manifest_can_be_given_to_another_batch(tmp_path):
    files = [tmp_path / "out" / "scans" / f"{k}, Müller.nii.gz" for k in range(4)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    records = [replace(record_of(f"p{k}/scan"), files=(str(files[k]), str(files[k + 1]))) for k in range(3)]
    write_report(tmp_path / "out", records, TABLE)
    found = find_inputs([str(tmp_path / "out" / "manifest.csv")])
    assert [(one.name, one.files) for one in found] == [(r.name, r.files) for r in records]


def test_the_tables_count_and_sum_up(batch, tmp_path):
    write_report(tmp_path, batch, TABLE, model="m")
    plain = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert plain["summary"] == {"cases": 13, "done": 11, "check": 1, "failed": 1}
    rows = read_csv((tmp_path / "measurements.csv").read_text(encoding="utf-8"))
    assert len(rows) == 12 * 2
    assert {row["voxels"] for row in rows if row["class"] == "spleen"} == {"100000"}
    assert [row["liver ml"] for row in read_csv(manifest_csv(batch, TABLE))][8:11] == ["1260", "", "300"]


def test_many_classes_share_a_column(tmp_path):
    table = ClassTable.from_values(range(1, 60))
    record = replace(record_of("a"), volumes_ml={f"class {k}": float(k) for k in range(1, 60)})
    page = Page(page_of(tmp_path, [record, record], table))
    assert ("details",) in page.tags
    assert [tag[0] for tag in page.tags].count("th") < 10


def test_no_cases_make_a_report(tmp_path):
    assert "cases" in page_of(tmp_path, [])


def picture_of(image, channels, spacing, table=TABLE):
    return np.asarray(Image.open(io.BytesIO(draw_thumbnail(image, channels, spacing, table))))


def panels_of(picture):
    """Cut a thumbnail at the black columns between its panels; the image must be bright everywhere."""
    bright = np.flatnonzero(picture.any(axis=(0, 2)))
    return [picture[:, run] for run in np.split(bright, np.flatnonzero(np.diff(bright) > 1) + 1)]


def colored(panel, entry):
    """Return where a class's outline is."""
    return (panel == np.array(list(bytes.fromhex(entry.color[1:])))).all(axis=-1)


def extent(where):
    return tuple(np.ptp(np.flatnonzero(where.any(axis=axis))) + 1 for axis in (1, 0))


def test_a_cube_is_a_square_whatever_its_voxels():
    shape, spacing = (20, 60, 40), (4.0, 1.0, 1.5)
    channels = np.zeros(shape, np.uint8)
    channels[6:12, 18:42, 12:28] = 1
    panels = panels_of(picture_of(np.ones((1, *shape), np.float32), channels, spacing))
    assert len(panels) == 3
    sides = [side for panel in panels for side in extent(colored(panel, TABLE.classes[1]))]
    assert max(sides) - min(sides) <= 2
    assert min(sides) > 30


def test_the_display_is_radiological():
    shape = (30, 30, 30)
    channels = np.zeros(shape, np.uint8)
    channels[12:18, 12:18, 12:18] = 1
    channels[13:17, 14:16, 24:28] = 2  # to the patient's left
    channels[24:28, 14:16, 14:16] = 2  # above
    channels[14:16, 2:6, 14:16] = 2  # in front
    axial, coronal, sagittal = panels_of(picture_of(np.ones((1, *shape), np.float32), channels, (1.0,) * 3))

    def places(panel):
        rows, columns = np.nonzero(colored(panel, TABLE.classes[2]))
        there = np.zeros((3, 3), bool)
        there[np.minimum(2, 3 * rows // panel.shape[0]), np.minimum(2, 3 * columns // panel.shape[1])] = True
        return [tuple(map(int, place)) for place in np.argwhere(there)]

    assert places(axial) == [(0, 1), (1, 2)]
    assert places(coronal) == [(0, 1), (1, 2)]
    assert places(sagittal) == [(0, 1), (1, 0)]


def test_the_slice_with_most_foreground_is_shown_and_the_middle_without():
    image = np.zeros((1, 9, 20, 20), np.float32) + np.arange(9, dtype=np.float32)[:, None, None]
    channels = np.zeros(image.shape[1:], np.uint8)
    levels = [0]
    for z in (2, 7, None):
        channels[:] = 0
        if z is not None:
            channels[z, 5:15, 5:15], channels[4, 5:14, 5:15] = 1, 1
        levels.append(int(picture_of(image, channels, (1.0,) * 3)[5, 5, 0]))
    assert levels[1] < levels[3] < levels[2]


def test_not_even_a_voxel_is_lost():
    channels = np.zeros((8, 600, 600), np.uint8)
    channels[3, 311, 417] = 2
    picture = picture_of(np.ones((1, *channels.shape), np.float32), channels, (5.0, 0.7, 0.7))
    assert colored(picture, TABLE.classes[2]).sum() >= 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [((-1000.0, 40.0), 127), ((0.0, 40.0), 255), ((40.0, 40.0), None), ((np.nan, 40.0), None),
     ((-np.inf, np.inf), None)],
)  # fmt: skip
def test_contrast_suits_ct_and_all_else(values, expected):
    image = np.full((1, 10, 12, 12), values[0], np.float32)
    image[:, :, 4:8, 4:8] = values[1]
    picture = picture_of(image, np.zeros(image.shape[1:], np.uint8), (1.0,) * 3)
    if expected:
        middle = picture[picture.shape[0] // 2, round(6 / 36 * picture.shape[1])]
        assert middle == pytest.approx(expected, abs=2)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 64, 64), (900, 20, 20), (2, 3, 700), (40, 1, 40)])
def test_any_shape_makes_a_small_picture(shape):
    random = np.random.default_rng(0)
    channels = (random.random(shape) > 0.7).astype(np.uint8) * 77
    picture = picture_of(random.random((2, *shape), np.float32), channels, (2.0, 1.0, 1.0))
    assert 1 <= picture.shape[0] <= HEIGHT
    assert picture.shape[1] <= 3 * HEIGHT + 8


def test_the_same_arrays_give_the_same_bytes():
    assert noise_picture(1) == noise_picture(1) != noise_picture(2)
    assert len(shrink_thumbnail(noise_picture(1))) < 15_000
