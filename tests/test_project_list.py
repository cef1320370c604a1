import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg.errors import InputError
from napari_sparseseg.project import (
    Project,
    ProjectInUse,
    default_root,
    dismiss,
    find_unfinished,
    recent_projects,
)
from napari_sparseseg.project_list import summarise

ABANDON = """
import os, sys, numpy as np
from napari_sparseseg.project import Project
for folder in sys.argv[1:]:
    project = Project.create(folder)
    case = project.add_case("head", (4, 5, 6), (1, 1, 1), np.eye(4))
    if "empty" not in folder:
        project.add_change(case, [1, 2, 3], 2)
        project.add_change(case, [4], 2)
os._exit(9)
"""


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    folder = tmp_path / "projects"
    monkeypatch.setenv("SPARSESEG_PROJECTS", str(folder))
    return folder


def abandon(*folders):
    """Make projects with two labels each in a process that ends without closing them."""
    ended = subprocess.run([sys.executable, "-c", ABANDON, *map(str, folders)], check=False)
    assert ended.returncode == 9
    for seconds_ago, folder in enumerate(
        reversed(folders)
    ):  # a clock that is set back meanwhile changes nothing
        for file in filter(Path.is_file, folder.iterdir()):
            then = file.stat().st_mtime - seconds_ago
            os.utime(file, (then, then))


def make_project(folder=None):
    with Project.create(folder) as project:
        case = project.add_case("head", (4, 5, 6), (1, 1, 1), np.eye(4))
        project.add_change(case, [1], 2)
    return project.folder


def test_projects_go_where_the_environment_says_else_to_the_users_data(root, monkeypatch):
    assert default_root() == root
    monkeypatch.delenv("SPARSESEG_PROJECTS")
    assert default_root().name == "projects"
    assert "napari-sparseseg" in str(default_root())


def test_whoever_just_starts_gets_a_project_named_by_the_time(root):
    folders = [make_project() for _ in range(3)]
    assert len(set(folders)) == 3
    for folder in folders:
        assert folder.parent == root
        moment = datetime.strptime(folder.name[:19], "%Y-%m-%d %H.%M.%S")
        assert abs(datetime.now() - moment) < timedelta(minutes=5)


def test_a_root_that_is_no_folder_is_told(root):
    root.write_text("a file")
    with pytest.raises(InputError, match="another place"):
        Project.create()
    assert recent_projects() == []


def test_nothing_is_found_where_nothing_is(root, tmp_path):
    assert recent_projects() == []
    assert find_unfinished() is None
    assert find_unfinished(tmp_path / "missing") is None
    root.mkdir()
    assert find_unfinished() is None


def test_recent_projects_are_listed_latest_first(root):
    before = datetime.now(UTC)
    make_project(root / "b")
    make_project(root / "a")
    abandon(root / "c")
    Project.open(root / "b").close()  # looking is no change
    found = recent_projects()
    assert [summary.name for summary in found] == ["c", "a", "b"]
    assert [summary.labels for summary in found] == [2, 1, 1]
    assert [summary.clean for summary in found] == [False, True, True]
    assert all(summary.cases == ("head",) and summary.folder == root / summary.name for summary in found)
    assert all(before <= summary.changed <= datetime.now(UTC) for summary in found)
    assert not any(summary.in_use for summary in found)


def test_the_last_project_with_labels_that_was_not_closed_is_offered(root):
    make_project(root / "closed")
    abandon(root / "first", root / "second", root / "empty")
    assert find_unfinished().name == "second"
    with Project.open(root / "second") as project:
        assert find_unfinished().name == "first"  # the other is in use
        assert project.label_count() == 2
    assert find_unfinished().name == "first"


def test_what_was_dismissed_is_offered_again_only_after_it_was_opened_again(root):
    abandon(root / "one")
    dismiss(root / "one")
    assert find_unfinished() is None
    assert recent_projects()[0].labels == 2
    code = (
        "import os, sys; from napari_sparseseg.project import Project; Project.open(sys.argv[1]); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(root / "one")], check=False)
    assert find_unfinished().name == "one"


def test_dismissing_what_is_in_use_or_gone(root):
    with Project.create(root / "open") as project:
        dismiss(project.folder)
        with pytest.raises(ProjectInUse):
            Project.open(project.folder)
    with pytest.raises(InputError, match="not a project"):
        dismiss(root / "missing")


def test_broken_projects_are_passed_over(root):
    abandon(root / "good")
    data = (make_project(root / "cut") / "project.sqlite").read_bytes()
    (root / "cut" / "project.sqlite").write_bytes(data[:5000])
    for name, content in [("noise", b"\xff\x00" * 3000), ("nothing", b"")]:
        (root / name).mkdir()
        (root / name / "project.sqlite").write_bytes(content)
    (root / "nested" / "project.sqlite").mkdir(parents=True)
    (root / "file").write_text("text")
    (root / "loop").symlink_to(root / "loop")
    (root / "lock is a folder" / "lock.sqlite").mkdir(parents=True)
    (root / "lock is a folder" / "project.sqlite").write_bytes(data)
    (root / "lock is noise").mkdir()
    (root / "lock is noise" / "lock.sqlite").write_bytes(b"noise" * 1000)
    (root / "lock is noise" / "project.sqlite").write_bytes(data)
    assert [summary.name for summary in recent_projects()] == ["good"]
    assert find_unfinished().name == "good"
    assert summarise(root / "missing") is None
