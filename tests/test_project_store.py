import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg.errors import InputError
from napari_sparseseg.project import Project, ProjectInUse
from napari_sparseseg.project_list import summarise
from napari_sparseseg.project_store import DATABASE_NAME, SCHEMA_VERSION, ProjectStore, is_in_use

SHAPE = (4, 5, 6)


def make_project(folder):
    """Make a project with some of everything in it, closed."""
    with Project.create(folder) as project:
        case = project.add_case("head", SHAPE, (1, 1, 1), np.eye(4), image=np.zeros(SHAPE), fingerprint="f")
        for voxel in range(30):
            project.add_change(case, [voxel, voxel + 40], 2 + voxel % 2)
        project.undo(case)
        project.add_round(case, {"dice": 0.5})
        project.save_view(case, {"position": [1, 2, 3]})
        project.save_setting("running", True)
        project.hints.add_box(case, 2, (0, 0, 0), (2, 2, 2))
        project.hints.set_image_label(case, 2, True, 0, 1, 2)
        project.hints.add_point(case, 2, (1, 1, 1))
    return folder


def read_everything(folder):
    with Project.open(folder) as project:
        project.setting("running")
        for case in project.cases():
            project.load_image(case.number)
            project.labels(case.number)
            list(project.changes(case.number))
            project.rounds(case.number)
            project.view(case.number)
            project.hints.boxes(case.number)
            project.hints.image_labels(case.number)
            project.hints.points(case.number)
            project.redo(case.number)
            project.undo(case.number)
            project.add_change(case.number, [1], 3)


@contextmanager
def limited_file_size(size):
    """Let no file grow beyond `size`, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def read_only_folder():
    """Yield a function that takes the right to write in a folder; root steps down for it."""
    folder = Path(tempfile.mkdtemp())
    user = os.geteuid()

    def take_rights():
        for path in (*folder.rglob("*"), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        if user == 0:
            os.seteuid(65534)

    try:
        yield folder, take_rights
    finally:
        os.seteuid(user)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        shutil.rmtree(folder)


def test_commits_wait_for_the_disk(tmp_path):
    store = ProjectStore.create(tmp_path, {})
    assert store.row("PRAGMA synchronous") == (2,)  # FULL
    assert store.row("PRAGMA journal_mode") == ("wal",)
    assert store.row("PRAGMA foreign_keys") == (1,)
    store.close()


def test_a_failed_transaction_leaves_nothing(tmp_path):
    def fail(store):
        with store.transaction():
            store.set_property("a", 2)
            raise KeyError

    store = ProjectStore.create(tmp_path, {"a": 1})
    with pytest.raises(KeyError):
        fail(store)
    assert store.property("a") == 1
    assert store.property("b") is None
    store.close()
    store.close()


def test_a_project_is_open_once(tmp_path):
    folder = tmp_path / "straße %20 #1?"
    first = Project.create(folder)
    (tmp_path / "link").symlink_to(folder)
    for place in (folder, tmp_path / "link"):
        with pytest.raises(ProjectInUse, match="open elsewhere"):
            Project.open(place)
        assert is_in_use(place)
    with pytest.raises(ProjectInUse):
        Project.create(folder)
    first.close()
    assert not is_in_use(folder)
    with Project.open(folder), pytest.raises(ProjectInUse):
        Project.open(folder)
    Project.open(folder).close()


def test_another_process_has_the_project_until_it_is_killed(tmp_path):
    make_project(tmp_path)
    code = (
        "import sys; from napari_sparseseg.project import Project; "
        "project = Project.open(sys.argv[1]); sys.stdout.write('open\\n'); sys.stdout.flush(); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(ProjectInUse):
            Project.open(tmp_path)
        assert summarise(tmp_path).in_use
        holder.kill()
    assert not summarise(tmp_path).clean
    read_everything(tmp_path)


def test_a_full_disk_is_told_and_nothing_is_half_done(tmp_path):
    project = Project.create(tmp_path)
    case = project.add_case("head", (10, 50, 50), (1, 1, 1), np.eye(4))
    project.add_change(case, range(100), 2)
    random = np.random.default_rng(0)
    written = sum(path.stat().st_size for path in tmp_path.glob("project.sqlite*"))

    def paint_until_full():
        while True:
            project.add_change(case, random.permutation(25000)[:8000], random.integers(1, 9, 8000))

    with limited_file_size(written + 100_000), pytest.raises(InputError, match="disk"):
        paint_until_full()
    labels, count = project.labels(case).copy(), project.label_count()
    assert count > 1
    assert project.add_change(case, [0], 77) is not None  # there is room again
    project.undo(case)
    project.close()
    with Project.open(tmp_path) as project:
        assert (project.labels(case) == labels).all()
        assert project.label_count() == count


def test_no_room_for_an_image_means_no_case(tmp_path):
    with Project.create(tmp_path) as project:
        image = np.zeros((100, 100, 100), np.float32)
        with limited_file_size(1_000_000), pytest.raises(InputError, match="space"):
            project.add_case("head", image.shape, (1, 1, 1), np.eye(4), image=image)
        assert project.cases() == ()
        assert project.add_case("head", image.shape, (1, 1, 1), np.eye(4), image=image) == 1
    with Project.open(tmp_path) as project:
        assert [case.number for case in project.cases()] == [1]


def test_a_read_only_project_is_told():
    with read_only_folder() as (folder, take_rights):
        make_project(folder / "project")
        take_rights()
        with pytest.raises(InputError, match="rights"):
            Project.open(folder / "project")
        with pytest.raises(InputError, match="cannot be made"):
            Project.create(folder / "new")


def test_a_folder_that_is_no_project_is_told_and_left_alone(tmp_path):
    (tmp_path / "file").write_text("text")
    for place in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(InputError, match="is not a project"):
            Project.open(place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(InputError, match="cannot be made"):
        Project.create(tmp_path / "file")


def test_another_programs_database_is_left_alone(tmp_path):
    database = sqlite3.connect(tmp_path / DATABASE_NAME)
    database.execute("CREATE TABLE recipes (name TEXT)")
    database.commit()
    database.close()
    before = (tmp_path / DATABASE_NAME).read_bytes()
    with pytest.raises(InputError, match="not written by napari-sparseseg"):
        Project.open(tmp_path)
    with pytest.raises(InputError, match="already"):
        Project.create(tmp_path)
    assert (tmp_path / DATABASE_NAME).read_bytes() == before


def test_a_project_is_never_made_over_another(tmp_path):
    make_project(tmp_path)
    with pytest.raises(InputError, match="already"):
        Project.create(tmp_path)
    read_everything(tmp_path)


def test_a_newer_project_is_told(tmp_path):
    make_project(tmp_path)
    database = sqlite3.connect(tmp_path / DATABASE_NAME)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(InputError, match="newer"):
        Project.open(tmp_path)
    assert summarise(tmp_path) is None


def test_a_project_of_the_first_version_opens_and_gains_its_points(tmp_path):
    make_project(tmp_path)
    database = sqlite3.connect(tmp_path / DATABASE_NAME)
    database.execute("DROP TABLE points")  # as version 1 had it
    database.execute("PRAGMA user_version = 1")
    database.close()
    with Project.open(tmp_path) as project:
        assert project.hints.points(1) == ()
        number = project.hints.add_point(1, 2, (1, 2, 3))
        assert len(project.hints.boxes(1)) == len(project.hints.image_labels(1)) == 1
    with Project.open(tmp_path) as project:
        assert [point.number for point in project.hints.points(1)] == [number]
    database = sqlite3.connect(tmp_path / DATABASE_NAME)
    assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    database.close()
    read_everything(tmp_path)


@pytest.mark.parametrize("version", [-1, 0, 1])
def test_an_upgrade_that_fails_changes_nothing(tmp_path, version):
    make_project(tmp_path)
    database = sqlite3.connect(tmp_path / DATABASE_NAME)
    database.execute(f"PRAGMA user_version = {version}")  # but the table of points is there
    database.close()
    with pytest.raises(InputError, match="damaged"):
        Project.open(tmp_path)
    assert not is_in_use(tmp_path)
    database = sqlite3.connect(tmp_path / DATABASE_NAME)
    assert database.execute("PRAGMA user_version").fetchone() == (version,)
    database.close()


def test_sources_appended_by_a_later_version_are_noticed(tmp_path):
    store = ProjectStore.create(tmp_path, {})
    with store.transaction():
        store.set_property("sources", ["stroke", "import"])  # of an earlier version
    store.close()
    ProjectStore.open(tmp_path).close()
    store = ProjectStore.open(tmp_path)
    with store.transaction():
        store.set_property("sources", [*store.property("sources"), "dream"])
    store.close()
    with pytest.raises(InputError, match="label sources"):
        ProjectStore.open(tmp_path)
    assert not is_in_use(tmp_path)


def test_a_project_may_move_while_closed_and_nothing_is_lost_when_it_moves_while_open(tmp_path):
    make_project(tmp_path / "old")
    shutil.move(tmp_path / "old", tmp_path / "new")
    project = Project.open(tmp_path / "new")
    project.load_image(1)
    (tmp_path / "new").rename(tmp_path / "away")
    with pytest.raises(InputError, match="moved or deleted"):
        project.add_change(1, [100], 2)
    assert project.labels(1).reshape(-1)[100] == 0
    (tmp_path / "away").rename(tmp_path / "new")
    assert project.add_change(1, [100], 2) is not None
    project.close()


def test_it_is_used_from_one_thread(tmp_path):
    errors = []

    def paint_elsewhere():
        try:
            project.add_change(1, [0], 2)
        except sqlite3.ProgrammingError as error:
            errors.append(error)

    with Project.create(tmp_path) as project:
        project.add_case("head", SHAPE, (1, 1, 1), np.eye(4))
        thread = threading.Thread(target=paint_elsewhere)
        thread.start()
        thread.join()
        assert len(errors) == 1
        assert project.add_change(1, [0], 2) is not None


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_damaged_is_told_in_a_sentence(tmp_path, seed):
    original = (make_project(tmp_path / "good") / DATABASE_NAME).read_bytes()
    random, told = np.random.default_rng(seed), []
    for number in range(40):
        damaged = bytearray(original)
        if number % 8 == 0:
            damaged = damaged[: random.integers(len(damaged))]
        else:
            start, length = random.integers(len(damaged)), random.integers(1, 64)
            damaged[start : start + length] = random.bytes(len(damaged[start : start + length]))
        folder = tmp_path / f"damaged {number}"
        folder.mkdir()
        (folder / DATABASE_NAME).write_bytes(damaged)
        shutil.copytree(tmp_path / "good" / "images", folder / "images")
        summarise(folder)
        try:
            read_everything(folder)
        except InputError as error:
            told.append(str(error))
        assert not is_in_use(folder)
    assert len(told) >= 5  # some are cut off, and so cannot be read
    assert all("damaged" in sentence for sentence in told)


def test_a_damaged_row_is_told(tmp_path):
    make_project(tmp_path)
    database = sqlite3.connect(tmp_path / DATABASE_NAME)
    database.execute("UPDATE changes SET after = x'00' WHERE number = 12")
    database.commit()
    database.close()
    with Project.open(tmp_path) as project, pytest.raises(InputError, match="label change 12 of case 1"):
        project.labels(1)
