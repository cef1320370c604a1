"""The rules of the architecture, checked on the source itself."""

import ast
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import napari_sparseseg
from napari_sparseseg.batch_settings import BatchConfig
from napari_sparseseg.cli import app
from napari_sparseseg.pretraining_settings import PretextConfig, PretrainingConfig
from napari_sparseseg.settings import (
    BoxConfig,
    CamConfig,
    ClassifierConfig,
    CrfConfig,
    InferenceConfig,
    NetworkConfig,
    RecursionConfig,
    SeedConfig,
    TrainingConfig,
)

PACKAGE = Path(napari_sparseseg.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [path.relative_to(PACKAGE).as_posix() for path in FILES]
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in zip(NAMES, FILES, strict=True)}
READERS = {"nibabel", "SimpleITK", "pydicom", "highdicom", "tifffile", "h5py"}
GRAPHICS = {"napari", "qtpy", "magicgui", "PySide6", "PySide2", "PyQt5", "PyQt6", "vispy"}
ORCHESTRATION = {
    "training", "training_data", "training_loop", "training_start", "training_measures", "segmentation",
    "box_training", "pretraining", "batch", "batch_dask", "batch_job", "cohort_job", "cli", "cli_progress",
    "demo", "live", "worker", "widgets",
}  # fmt: skip


def imported(name, top_level_only=False):
    """Return the full names of all modules that a file imports, also inside functions."""
    tree = TREES[name]
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def roots(name):
    return {module.split(".")[0] for module in imported(name)}


def own(name):
    """Return the parts of the package that a file imports."""
    return {m.split(".")[1] for m in imported(name) if m.startswith("napari_sparseseg.")}


@pytest.mark.parametrize("name", NAMES)
def test_files_are_read_in_one_place(name):
    if not (name == "volume.py" or name.startswith("formats/")):
        assert not roots(name) & READERS
        assert name == "volume.py" or "formats" not in own(name)


@pytest.mark.parametrize("name", NAMES)
def test_only_widgets_know_napari_and_qt(name):
    if not name.startswith("widgets/"):
        assert not roots(name) & GRAPHICS
        assert "widgets" not in own(name)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_unpickled(name):
    assert not roots(name) & {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            assert call not in ("torch.load", "eval", "exec", "joblib.load", "torch.jit.load")
            arguments = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert arguments.get("weights_only") != "False"
            assert arguments.get("allow_pickle", "False") == "False"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_read_in_one_sitting(name):
    assert len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) <= 420


@pytest.mark.parametrize("name", NAMES)
def test_modules_are_named_for_what_they_hold(name):
    assert Path(name).stem not in {"utils", "util", "helpers", "misc", "common", "tools"}


@pytest.mark.parametrize(
    "name",
    ["errors.py", "atomic.py", "setting.py", "settings.py", "pretraining_settings.py", "batch_settings.py",
     "cohort_events.py", "events.py", "annotation.py", "volume.py"],
)  # fmt: skip
def test_the_data_layer_imports_nothing_above_it(name):
    if name in TREES:
        allowed = {
            "errors",
            "atomic",
            "setting",
            "settings",
            "formats",
            "annotation",
            "cohort_events",
            "events",
        }
        assert own(name) - allowed <= ({"volume"} if name == "volume.py" else set())


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("formats/")] or [None])
def test_formats_know_nothing_of_networks(name):
    if name:
        assert own(name) <= {"errors", "atomic", "formats", "volume"}


PARTS = {
    "losses.py": set(),
    "networks.py": {"atomic", "errors", "settings"},
    "normalisation.py": {"errors"},
    "random_walker.py": set(),
    "sampling.py": {"image_labels", "networks"},
    "resampling.py": {"networks"},
    "postprocessing.py": {"settings"},
    "learner.py": {"losses", "networks"},
    "live_labels.py": {"annotation", "errors", "image_labels"},
    "live_picture.py": {"annotation", "cases", "events", "inference", "live_labels", "postprocessing",
                        "regions", "settings"},
    "live_preview.py": {"cases", "events", "features", "networks", "preview", "regions", "resampling"},
    "features.py": {"networks"},
    "regions.py": {"annotation", "cases"},
    "patch_step.py": {"learner", "networks", "sampling", "sec", "settings"},
    "preview.py": {"annotation", "features", "networks", "random_walker", "resampling"},
    "box_geometry.py": set(),
    "box_files.py": {"atomic", "box_geometry", "csv_tables", "errors", "volume"},
    "box_classes.py": {"box_files", "errors"},
    "graph_cut.py": set(),
    "edges.py": set(),
    "image_labels.py": {"errors"},
    "csv_tables.py": {"errors"},
    "image_label_files.py": {"annotation", "atomic", "box_classes", "box_files", "csv_tables", "errors",
                             "image_labels", "volume"},
    "seeds.py": {"annotation", "errors", "image_labels", "settings"},
    "encoders.py": {"errors", "networks"},
    "encoder_checkpoint.py": {"checkpoint", "classifier", "encoders", "errors", "networks", "normalisation",
                              "pretraining_settings", "settings"},
    "encoder_start.py": {"encoder_checkpoint", "encoders", "errors", "networks", "settings"},
    "job_labels.py": {"annotation", "errors"},
    "live_start.py": {"annotation", "cases", "checkpoint", "encoder_checkpoint", "encoder_start", "errors",
                      "live_image", "live_labels", "live_round", "normalisation", "settings"},
    "live_image.py": {"annotation", "networks", "normalisation"},
    "volume_files.py": {"errors", "volume"},
    "volume_pool.py": {"errors", "networks", "normalisation", "resampling"},
    "views.py": {"networks", "volume_pool"},
    "representation.py": set(),
    "pretext.py": {"encoders", "networks", "pretraining_settings", "settings", "volume_pool"},
    "pretraining_survey.py": {"errors", "events", "networks", "normalisation", "resampling", "volume_pool"},
    "adversary.py": set(),
    "hidden_blocks.py": {"networks"},
    "trivial_answers.py": set(),
    "pretext_generative.py": {"adversary", "errors", "hidden_blocks", "pretext", "trivial_answers",
                              "volume_pool"},
    "permutations.py": {"errors"},
    "turns.py": {"networks"},
    "tiling.py": {"networks", "pretext", "views", "volume_pool"},
    "pretext_spatial.py": {"errors", "networks", "permutations", "pretext", "tiling", "turns", "volume_pool"},
    "clustering.py": set(),
    "pretext_grouping.py": {"clustering", "errors", "networks", "pretext", "views", "volume_pool"},
    "pretext_similarity.py": {"clustering", "networks", "pretext", "pretext_grouping", "views",
                              "volume_pool"},
    "gradient_reversal.py": set(),
    "phantoms.py": {"networks"},
    "pretext_synthetic.py": {"gradient_reversal", "phantoms", "pretext", "volume_pool"},
    "labelled_views.py": {"networks", "views", "volume_pool"},
    "pretext_contrastive.py": {"encoders", "errors", "labelled_views", "pretext", "views", "volume_pool"},
    "linear_probe.py": {"annotation", "cam_windows", "encoder_checkpoint", "encoders", "errors", "events",
                        "networks", "normalisation", "resampling", "settings"},
    "classifier.py": {"annotation", "checkpoint", "encoders", "errors", "networks", "normalisation",
                      "settings"},
    "classifier_bags.py": {"errors", "image_labels", "networks"},
    "classifier_pooling.py": {"classifier_bags", "image_labels", "networks"},
    "classifier_held_out.py": {"classifier_bags", "image_labels"},
    "classifier_cases.py": {"annotation", "errors", "image_labels", "networks", "normalisation", "resampling",
                            "settings"},
    "case_arrays.py": {"annotation", "cases", "inference", "preview", "sampling"},
    "round_state.py": {"annotation", "networks", "normalisation", "settings"},
    "cam_methods.py": {"errors", "networks", "settings"},
    "cam_windows.py": {"networks", "sampling"},
    "cam_subjects.py": {"cam_methods", "cam_windows", "checkpoint", "classifier", "encoders", "errors",
                        "events", "inference", "networks", "resampling"},
    "cam.py": {"cam_methods", "cam_subjects", "cam_windows", "dense_crf", "events", "networks", "resampling",
               "settings"},
    "cam_check.py": {"cam", "cam_subjects", "checkpoint", "events", "networks", "settings"},
    "point_files.py": {"box_files", "csv_tables", "errors", "image_label_files", "volume"},
    "sec.py": {"dense_crf", "image_labels", "settings"},
    "work_grid.py": {"box_geometry"},
    "grabcut.py": {"box_geometry", "edges", "graph_cut", "settings", "work_grid"},
    "proposals.py": {"box_geometry", "edges", "work_grid"},
    "dense_crf.py": {"box_geometry", "errors", "settings", "work_grid"},
    "boxes.py": {"annotation", "box_geometry", "errors", "events", "grabcut", "proposals", "settings",
                 "work_grid"},
    "box_cases.py": {"annotation", "box_geometry", "cases", "errors"},
    "batch_inputs.py": {"batch_ledger", "batch_records", "csv_tables", "errors", "volume", "volume_files"},
    "batch_ledger.py": {"atomic", "batch_records", "errors", "volume"},
    "batch_case.py": {"annotation", "atomic", "batch_inputs", "batch_ledger", "batch_records", "batch_report",
                      "batch_settings", "case_checks", "checkpoint", "errors", "events", "inference",
                      "networks", "placed_network", "setting", "settings", "volume"},
    "batch_pipeline.py": {"batch_case", "batch_records", "checkpoint", "events", "inference"},
    "checkpoint.py": {"annotation", "atomic", "errors", "networks", "normalisation", "settings"},
    "cases.py": {"annotation", "checkpoint", "errors", "image_labels", "networks", "normalisation",
                 "resampling"},
    "batch_records.py": {"message_fields"},
    "batch_charts.py": {"batch_page", "batch_triage"},
    "batch_page.py": set(),
    "batch_tables.py": {"annotation", "batch_records", "batch_settings", "case_checks"},
    "batch_thumbnails.py": {"annotation"},
    "batch_triage.py": {"batch_records"},
    "batch_report.py": {"annotation", "atomic", "batch_charts", "batch_ledger", "batch_page", "batch_records",
                        "batch_settings", "batch_tables", "batch_thumbnails", "batch_triage", "case_checks"},
    "batch_command.py": {"batch_settings", "settings"},
    "case_checks.py": {"annotation"},
    "case_store.py": {"cases", "errors", "image_labels", "networks", "sampling"},
    "case_survey.py": {"annotation", "cases", "checkpoint", "errors", "events", "networks", "normalisation",
                       "resampling", "sampling"},
    "cohort_records.py": set(),
    "cohort_advice.py": {"cohort_records"},
    "cohort_pictures.py": {"atomic", "errors", "volume"},
    "cohort_reading.py": {"annotation", "cases", "cohort_records", "cohort_requests", "errors", "fingerprint",
                          "job_labels", "volume"},
    "fingerprint.py": {"volume"},
    "project_cohort.py": {"annotation", "batch_records", "cohort_records", "cohort_requests", "project",
                          "suggestion"},
    "ranks.py": {"errors", "events"},
    "training_state.py": {"checkpoint", "errors", "learner"},
    "placed_network.py": {"narrow_layers", "networks", "window_grid"},
    "narrow_layers.py": set(),
    "window_grid.py": {"networks"},
    "live_arrays.py": {"annotation", "cases", "image_labels", "networks", "preview", "regions", "sampling"},
    "live_network.py": {"checkpoint", "encoder_checkpoint", "encoder_start", "learner", "networks",
                        "settings"},
    "live_cohort.py": {"annotation", "case_arrays", "cases", "cohort_reading", "cohort_requests", "errors",
                       "events", "live_round", "normalisation", "sampling"},
    "live_forecast.py": {"annotation", "cases", "checkpoint", "errors", "events", "inference", "live_image",
                         "live_picture", "live_round", "regions", "settings"},
    "saved_networks.py": {"annotation", "errors"},
    "inference.py": {"checkpoint", "errors", "events", "networks", "placed_network", "postprocessing",
                     "resampling", "sampling", "settings", "window_grid"},
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_parts_know_only_the_parts_below_them(name):
    assert {part for part in own(name) if f"{part}.py" in TREES} <= PARTS[name]
    assert not own(name) & ORCHESTRATION


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"cli.py", "demo.py", "__init__.py", "__main__.py"}))
def test_nothing_but_the_entry_points_imports_the_command_line(name):
    if not name.startswith("cli"):
        assert not own(name) & {
            "cli",
            "cli_boxes",
            "cli_cam",
            "cli_options",
            "cli_predict",
            "cli_pretrain",
            "cli_progress",
            "cli_report",
            "cli_train",
            "cli_train_cases",
            "cli_weak",
        }


def test_no_module_imports_itself_in_a_circle():
    graph = {Path(name).stem: own(name) - {Path(name).stem} for name in NAMES if "/" not in name}
    done, open_ = set(), []

    def visit(name):
        assert name not in open_, f"circle: {' → '.join([*open_, name])}"
        if name in done:
            return
        open_.append(name)
        for other in graph.get(name, ()):
            visit(other)
        done.add(open_.pop())

    top_level = {
        name: {m.split(".")[1] for m in imported(f"{name}.py", True) if m.startswith("napari_sparseseg.")}
        for name in graph
    }
    graph = {name: others - {name} for name, others in top_level.items()}
    for name in graph:
        visit(name)


@pytest.mark.parametrize(
    "module",
    ["napari_sparseseg", "napari_sparseseg.settings", "napari_sparseseg.cli_options", "napari_sparseseg.cli"],
)
def test_starting_loads_nothing_slow(module):
    slow = {"torch", "monai", "sklearn", "qtpy", "vispy"} | GRAPHICS | READERS
    code = f"import sys, {module}; print(sorted({slow!r} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_what_is_public_is_there():
    assert set(napari_sparseseg.__all__) == set(dir(napari_sparseseg))
    for name in napari_sparseseg.__all__:
        assert getattr(napari_sparseseg, name) is not None
    with pytest.raises(AttributeError):
        napari_sparseseg.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("command", "classes"),
    [
        ("segment", (TrainingConfig, NetworkConfig, InferenceConfig)),
        ("train", (TrainingConfig, NetworkConfig)),
        ("predict", (BatchConfig, InferenceConfig)),
        ("boxes", (BoxConfig, RecursionConfig, CrfConfig, NetworkConfig)),
        ("cam", (ClassifierConfig, CamConfig, SeedConfig, CrfConfig, NetworkConfig)),
        ("pretrain", (PretrainingConfig, PretextConfig, NetworkConfig)),
    ],
)
def test_every_setting_is_a_flag(command, classes):
    import typer

    flags = {flag for p in typer.main.get_command(app).commands[command].params for flag in p.opts}
    for settings_class in classes:
        for entry in fields(settings_class):
            # Only those that take points make balls of them.
            there = (command, entry.name) != ("cam", "point_mm")
            assert (f"--{entry.name.replace('_', '-')}" in flags) is there
    assert ("--point-mm" in flags) is ("--points" in flags)
