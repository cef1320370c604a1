"""What is asked of class maps: which requests go out, what the project and the layers hold afterwards."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_sparseseg.annotation import source_code
from napari_sparseseg.events import (
    ClassifierScored,
    ClassifierTrained,
    ClassMapChecked,
    ClassMapMade,
    Failed,
    ModelSaved,
    Noted,
    PictureChanged,
    WorkDone,
)
from napari_sparseseg.image_labels import ImageLabel
from napari_sparseseg.requests import (
    LabelBoxes,
    LabelImage,
    MapClass,
    OpenImage,
    SaveModel,
    TrainClassifier,
)
from napari_sparseseg.widgets.states import describe_learning, train_state
from tests.widgets.cam_window import SHAPE, Window, ball_map
from tests.widgets.conftest import settle, wait_for


@pytest.fixture
def window(viewer, make_coordinator, image, workers, told):
    viewer.add_image(image, name="scan", scale=(3, 1, 1))
    coordinator = make_coordinator(viewer)
    wait_for(lambda: coordinator.session.image == "scan" and coordinator.session.worker == "ready")
    settle()
    return Window(viewer, coordinator, workers[0], told)


def words(window):
    return [row.words for row in window.state.rows]


# -- what is where, in words --


def test_words_are_kept_told_to_the_worker_and_taken_back(window):
    assert window.place.desk.project is None
    window.cam.add_volume_label(True)
    assert words(window) == ["in the volume"]
    window.cam.add_volume_label(False)
    assert words(window) == ["not in the volume"]
    window.say_range(3, 9)
    window.say_range(30, 10, axis=1)  # its end was clicked first
    assert words(window) == ["not in the volume", "axial slices 3 to 9", "coronal slices 10 to 30"]
    assert window.worker.asked(LabelImage)[-1] == LabelImage(
        (ImageLabel(2, False), ImageLabel(2, True, 0, 3, 9), ImageLabel(2, True, 1, 10, 30)), "absent"
    )
    kept = [(r.present, r.axis, r.first, r.last) for r in window.hints.image_labels(1)]
    assert kept == [(False, None, None, None), (True, 0, 3, 9), (True, 1, 10, 30)]
    for row in window.state.rows:
        window.cam.delete_label(row.number)
    assert not window.state.rows
    assert window.worker.asked(LabelImage)[-1].labels == ()
    assert not window.told


def test_a_range_begun_is_of_its_class_and_orientation(window):
    window.annotate.add_class()
    window.annotate.select(2)
    assert window.state.why_no_end == "Say first where it begins."
    window.go(4)
    window.cam.begin_range()
    assert (window.state.begun, window.state.why_no_end) == (4, "")
    window.annotate.select(3)
    assert window.state.begun is None
    window.annotate.select(2)
    window.go(20, axis=2)
    assert window.state.begun is None
    assert window.state.why_no_end.startswith("It begins in axial slice 4")
    window.cam.end_range()
    assert window.told == ["Say first on a slice of this orientation where it begins."]
    assert not window.state.rows
    window.go(4)
    window.cam.end_range()
    assert words(window) == ["axial slice 4"]
    assert window.state.begun is None


def test_no_range_in_3d_or_without_an_image(window):
    window.viewer.dims.ndisplay = 3
    settle()
    assert window.state.why_no_label == "Show a slice first; the view is in 3D."
    window.cam.begin_range()
    window.cam.end_range()
    assert window.told == ["Show a slice first; the view is in 3D."] * 2
    window.viewer.layers.remove("scan")
    wait_for(lambda: window.session.image is None)
    window.cam.add_volume_label(True)
    assert window.told[-1].startswith("No image is open")
    assert window.state.why_no_train


def test_words_survive_their_project(window, workers):
    window.say_range(3, 9)
    folder = window.place.desk.project.folder
    window.coordinator.projects.begin()
    wait_for(lambda: window.session.image == "scan")
    assert not window.state.rows
    window.coordinator.projects.open(folder)
    wait_for(lambda: window.state.rows)
    assert words(window) == ["axial slices 3 to 9"]
    asked = [r for r in window.worker.requests if isinstance(r, OpenImage | LabelImage)]
    assert [type(r) for r in asked[-2:]] == [OpenImage, LabelImage]


def test_words_go_out_and_in_again(window, tmp_path):
    path = tmp_path / "labels.csv"
    window.cam.save_labels(str(path))
    assert window.told.pop().startswith("There is nothing to save")
    window.annotate.add_class()
    window.annotate.rename_class(3, "liver")
    window.say_range(3, 9)
    window.annotate.select(2)
    window.cam.add_volume_label(False)
    window.cam.save_labels(str(path))
    before = words(window)
    window.annotate.delete_class(3)
    assert words(window) == ["not in the volume"]
    window.told.clear()
    window.cam.load_labels(str(path))
    assert sorted(words(window)) == sorted(before)
    names = {entry.value: entry.name for entry in window.session.table.classes}
    assert names[window.state.rows[0].value] == "liver"
    assert window.told == ["2 labels were read from labels.csv; 1 of them is new."]
    window.cam.load_labels(str(tmp_path / "nowhere.csv"))
    assert "nowhere.csv" in window.told[-1]


def test_a_class_takes_its_words_and_points_with_it(window):
    window.annotate.add_class()
    window.say_range(3, 9)
    window.points.edit(((6, 20, 24), (6, 1, 1)), (), ())
    window.annotate.select(2)
    window.cam.add_volume_label(True)
    window.told.clear()
    window.annotate.delete_class(3)
    assert window.told == [
        "class 3 was deleted, and 2 points and 1 image-level label of it were deleted too."
    ]
    assert words(window) == ["in the volume"]
    assert not window.state.points
    assert "point" not in window.session.apart


def test_the_worker_is_told_anew_when_the_rows_of_classes_move(window):
    window.annotate.add_class()
    window.cam.add_volume_label(True)
    assert window.worker.asked(LabelImage)[-1].labels == (ImageLabel(3, True),)
    window.annotate.delete_class(2)
    assert window.worker.asked(LabelImage)[-1].labels == (ImageLabel(2, True),)
    window.annotate.add_class()
    window.annotate.delete_class(3)
    assert window.worker.asked(LabelImage)[-1].labels == ()


# -- the classifier --


def test_a_classifier_learns_while_learning_from_strokes_rests(window):
    window.cam.train()
    assert window.told == ["Say first where a class is, and where it is not."]
    window.say_range(3, 9)
    assert not window.state.why_no_train
    window.cam.train()
    window.cam.train()  # a second click
    (request,) = window.worker.asked(TrainClassifier)
    assert request.labels == (ImageLabel(2, True, 0, 3, 9),)
    assert Path(request.folder).is_relative_to(window.place.desk.state_folder)
    assert (window.state.running, window.state.subjects) == ("classifier", ())
    assert (
        describe_learning(window.session) == "learning from image-level labels; learning from strokes rests"
    )
    assert train_state(window.session).why_not_start.startswith("A classifier is learning")
    opened = len(window.worker.asked(OpenImage))
    window.answer(
        WorkDone(0.25, "Learning what the slices show"),
        Noted("A part of it is held out."),
        ClassifierScored(10, {"class 2": 0.75}, {"class 2": 0.875}, True),
    )
    assert (window.state.progress, window.state.sentence) == (0.25, "Learning what the slices show…")
    assert window.state.notes == ("A part of it is held out.",)
    (score,) = window.state.scores
    assert (score.name, score.accuracy, score.auc) == ("class 2", 0.75, 0.875)
    assert window.state.within_volume
    window.answer(ClassifierTrained(request.folder))
    assert window.state.running == ""
    assert (window.state.subjects, window.state.subject) == (("classifier",), "classifier")
    assert len(window.worker.asked(OpenImage)) == opened + 1
    assert window.worker.asked(LabelImage)[-1].labels == request.labels


@pytest.mark.parametrize("end", ["cancel", "failure", "error", "death"])
def test_whatever_ends_it_learning_goes_on(window, end):
    window.say_range(3, 9)
    window.cam.train()
    opened = len(window.worker.asked(OpenImage))
    if end == "cancel":
        window.cam.cancel()
    elif end == "death":
        window.worker.on_exit("The background worker ended unexpectedly (killed).")
        settle()
    else:
        window.answer(Failed("There is no negative example.", ended=end == "error"))
    assert window.state.running == ""
    assert window.state.sentence
    assert len(window.worker.asked(OpenImage)) == opened + 1
    assert not window.state.subjects
    expected = {"cancel": 0, "failure": 1, "error": 1, "death": 1}
    assert len(window.told) == expected[end]
    wait_for(lambda: window.session.worker == "ready")
    window.cam.train()
    assert window.state.running == "classifier"


def test_one_job_at_a_time(window):
    window.learn()
    window.coordinator.box_drawing.add(0, (6, 10, 12), (7, 26, 34))
    window.coordinator.boxes.run()
    assert window.state.why_no_map.startswith("Masks are being made")
    window.cam.make_map()
    window.cam.train()
    assert len(window.told) == 2
    assert not window.worker.asked(MapClass)
    assert len(window.worker.asked(TrainClassifier)) == 1
    window.coordinator.boxes.cancel()
    window.cam.make_map()
    window.coordinator.boxes.run()
    assert len(window.worker.asked(LabelBoxes)) == 1
    assert window.state.running == "map"


def test_the_classifier_of_a_project_is_found_again(window):
    window.learn()
    folder = Path(window.worker.asked(TrainClassifier)[-1].folder)
    folder.mkdir(parents=True)
    (folder / "classifier.json").write_text("{}")
    project = window.place.desk.project.folder
    window.coordinator.projects.begin()
    wait_for(lambda: window.session.image == "scan")
    assert not window.state.subjects
    window.coordinator.projects.open(project)
    wait_for(lambda: window.state.subjects == ("classifier",))
    assert not window.state.why_no_map


# -- maps --


def test_a_map_is_shown_checked_and_forgotten(window):
    assert window.state.why_no_map.startswith("There is no network")
    window.cam.make_map()
    assert window.told.pop().startswith("There is no network")
    window.learn()
    window.make_map(score=0.75)
    (layer,) = window.layers("map")
    assert layer.name == "class map of scan (class 2)"
    assert (layer.blending, layer.colormap.name, layer.contrast_limits) == ("additive", "magma", [0, 255])
    assert np.array_equal(layer.data, ball_map())
    assert np.allclose(layer.scale, (3, 1, 1))
    assert (window.state.mapped, window.state.score) == (2, 0.75)
    assert window.session.images == ("scan",)
    first = window.worker.asked(MapClass)[-1]
    assert (first.value, first.voxel, first.check) == (2, None, False)
    window.cam.check()
    request = window.worker.asked(MapClass)[-1]
    assert replace(request, check=False) == first
    assert (window.state.running, request.check) == ("check", True)
    window.answer(ClassMapChecked(0.1, True, "The map depends on what was learnt."))
    assert (window.state.check, window.state.check_passed) == ("The map depends on what was learnt.", True)
    assert window.state.mapped == 2
    window.make_map(ball_map((2, 5, 5)))
    assert (window.state.check, window.state.check_passed) == ("", None)
    assert window.layers("map") == [layer]
    assert np.array_equal(layer.data, ball_map((2, 5, 5)))
    window.viewer.layers.remove(layer)
    wait_for(lambda: not window.layers("seeds"))
    assert window.state.mapped is None
    assert window.state.why_no_seeds
    assert window.state.why_no_check
    window.told.clear()
    window.cam.check()
    window.cam.make_seeds()
    assert len(window.told) == 2


def test_an_empty_map_is_a_sentence(window):
    window.learn()
    window.make_map()
    window.make_map(np.zeros(SHAPE, np.uint8))
    assert "is empty" in window.state.sentence
    assert not window.layers("map")
    assert window.state.mapped is None


def test_each_class_has_its_map_and_the_newest_is_seen(window):
    window.annotate.add_class()
    window.learn()
    window.make_map(ball_map((6, 10, 10)), 0.25)
    window.annotate.select(2)
    window.make_map(ball_map((6, 30, 30)), 0.75)
    first, second = window.layers("map")
    assert {first.name, second.name} == {"class map of scan (class 2)", "class map of scan (class 3)"}
    assert [layer.name for layer in (first, second) if layer.visible] == ["class map of scan (class 2)"]
    window.annotate.rename_class(2, "liver")
    assert "class map of scan (liver)" in window.viewer.layers
    window.annotate.delete_class(2)
    (left,) = window.layers("map")
    assert left.visible
    assert (window.state.mapped, window.state.score) == (3, 0.25)
    assert not window.state.why_no_check


def test_a_classifier_that_lies_where_napari_was_started_is_not_taken_for_the_images(
    viewer, make_coordinator, image, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("classifier").mkdir()
    Path("classifier", "classifier.json").write_text("{}")
    viewer.add_image(image, name="scan")
    session = make_coordinator(viewer).session
    wait_for(lambda: session.image == "scan")
    assert not session.cam.has_classifier


def test_the_segmentation_network_is_copied_before_it_is_asked(window):
    assert window.state.why_no_map_here
    window.learn_network()
    assert (window.state.subjects, window.state.subject) == (("network",), "network")
    window.viewer.cursor.position = (4 * 3 + 1, 11.4, 12.6)
    window.cam.map_under_mouse()
    (saved,) = window.worker.asked(SaveModel)
    assert not window.worker.asked(MapClass)
    Path(saved.folder).mkdir()
    settle()
    (request,) = window.worker.asked(MapClass)
    assert (request.folder, request.voxel) == (saved.folder, (4, 11, 13))
    window.answer_map(ball_map())
    assert window.state.mapped == 2
    assert not Path(saved.folder).exists()
    assert not any("saved" in sentence for sentence in window.told)
    root = Path(saved.folder).parent
    assert root.exists()
    window.coordinator.close()
    assert not root.exists()


def test_a_network_that_cannot_be_copied_is_told_of_once(window):
    window.learn_network()
    window.worker.on_event = lambda event, send=window.worker.on_event: (
        None if isinstance(event, ModelSaved) else send(event)
    )
    window.cam.make_map()
    settle()
    assert window.state.running == "map"
    window.answer(PictureChanged(((0, 1),) * 3, "preview"), Noted("The network begins anew."))
    assert not window.state.notes  # the live session says so
    assert window.told == ["The network begins anew."]
    window.answer(Failed("There is no room."))
    assert window.told[1:] == ["There is no room."]
    assert window.state.running == ""
    assert not window.worker.asked(MapClass)


def test_a_copy_that_nobody_waits_for_any_more_is_deleted(window):
    window.learn_network()
    window.cam.make_map()
    window.cam.cancel()
    (saved,) = window.worker.asked(SaveModel)
    Path(saved.folder).mkdir()
    settle()
    assert not window.worker.asked(MapClass)
    assert not Path(saved.folder).exists()
    assert not window.told


def test_only_the_network_is_asked_about_a_place(window):
    window.learn()
    assert window.state.why_no_map_here.startswith("There is no segmentation network")
    window.learn_network()
    assert window.state.why_no_map_here.startswith("Only the segmentation network")
    window.cam.choose_subject("network")
    assert not window.state.why_no_map_here
    window.cam.choose_subject("oracle")
    assert len(window.told) == 1
    assert window.state.subject == "network"


def test_a_map_of_a_class_that_was_deleted_meanwhile_is_not_shown(window):
    window.annotate.add_class()
    window.learn()
    window.cam.make_map()
    window.annotate.delete_class(3)
    window.answer_map(ball_map())
    assert not window.layers("map")
    assert window.state.running == ""


@pytest.mark.parametrize("end", ["image", "window"])
def test_closing_leaves_nothing_behind(window, viewer, image, end):
    window.learn()
    window.make_map()
    window.learn_network()
    window.cam.choose_subject("network")
    window.cam.make_map()
    settle()
    request = window.worker.asked(MapClass)[-1]
    assert Path(request.target.path).exists()
    if end == "image":
        viewer.add_image(image + 1, name="other")
        window.coordinator.images.choose("other")
        wait_for(lambda: window.session.image == "other")
        assert window.state.running == ""
        assert window.state.mapped is None
    else:
        window.coordinator.close()
    settle()
    assert not Path(request.target.path).exists()
    assert not window.layers("map")
    assert not window.layers("seeds")
    window.answer(ClassMapMade(2, 0.5, False))  # too late
    assert not window.layers("map")


# -- labels from maps --


def test_what_would_be_labelled_follows_thresholds_and_words(window):
    window.learn()
    window.make_map()
    wait_for(lambda: window.layers("seeds"))
    (preview,) = window.layers("seeds")
    share = ball_map() / 255

    def expect(seen, objects, background):
        settle(0.1)
        assert np.array_equal(preview.data == 2, seen & (share >= objects))
        written = preview.data == 1  # evenly spread where there is much of it
        assert written.any()
        assert not written[seen & (share >= background)].any()

    everywhere = np.ones(SHAPE, bool)
    expect(everywhere, 0.6, 0.1)
    session = window.session
    window.cam.change_settings(
        session.classifier_config, session.cam_config,
        replace(session.seed_config, object_threshold=0.8, background_threshold=0.3), session.crf,
    )  # fmt: skip
    expect(everywhere, 0.8, 0.3)
    window.say_range(3, 6)
    seen = everywhere.copy()
    seen[:3] = seen[7:] = False
    expect(seen, 0.8, 0.3)
    window.cam.change_settings(
        session.classifier_config, session.cam_config,
        replace(session.seed_config, object_threshold=0.2, background_threshold=0.3), session.crf,
    )  # fmt: skip
    settle(0.1)
    assert not window.layers("seeds")
    window.cam.make_seeds()
    assert len(window.told) == 1


def test_labels_from_maps_are_weak_and_strokes_win(window):
    window.learn()
    layer = window.viewer.layers["labels of scan"]
    with layer.block_history():
        layer.paint((6, 20, 24), 1)
    stroke = window.place.desk.voxels_of("stroke")
    assert len(stroke)
    window.make_map()
    window.cam.make_seeds()
    labels, sources = window.place.desk.labels, window.place.desk.sources
    cam = sources == source_code("cam")
    assert (labels.reshape(-1)[stroke] == 1).all()
    share = ball_map() / 255
    assert np.array_equal(cam & (labels == 2), (share >= 0.6) & (sources != source_code("stroke")))
    (apart,) = window.layers("cam")
    assert apart.name == "labels from class maps of scan"
    assert not window.state.why_no_clear_seeds
    window.make_map(ball_map((2, 5, 5)))
    window.cam.make_seeds()  # those before are gone
    assert np.array_equal(
        window.place.desk.labels[sources == source_code("cam")] == 2,
        (ball_map((2, 5, 5)) / 255 >= 0.6)[sources == source_code("cam")],
    )
    window.told.clear()
    window.cam.make_seeds()
    assert window.told[0].startswith("Nothing was changed")
    layer.undo()
    assert window.place.desk.labels[6, 20, 30] == 2
    layer.undo()
    assert not window.place.desk.voxels_of("cam").size
    window.cam.make_seeds()
    window.cam.clear_seeds()
    assert not window.place.desk.voxels_of("cam").size
    assert window.state.why_no_clear_seeds
    assert not window.layers("cam")
    assert (window.place.desk.labels.reshape(-1)[stroke] == 1).all()


def test_settings_are_kept_in_the_project(window):
    window.cam.add_volume_label(True)
    session = window.session
    window.cam.change_settings(
        replace(session.classifier_config, outside="unknown"),
        replace(session.cam_config, method="occlusion"),
        replace(session.seed_config, point_mm=7.0),
        replace(session.crf, smoothness_mm=3.0),
    )
    assert window.worker.asked(LabelImage)[-1].outside == "unknown"
    folder = window.place.desk.project.folder
    window.coordinator.projects.begin()
    session.classifier_config = type(session.classifier_config)()
    session.cam_config, session.seed_config = type(session.cam_config)(), type(session.seed_config)()
    window.coordinator.projects.open(folder)
    assert session.classifier_config.outside == "unknown"
    assert session.cam_config.method == "occlusion"
    assert session.seed_config.point_mm == 7.0


def test_maps_lie_where_the_image_is_moved(window):
    window.learn()
    window.make_map()
    settle(0.1)
    window.viewer.layers["scan"].scale = (5, 2, 2)
    settle()
    for role in ("map", "seeds"):
        (layer,) = window.layers(role)
        assert np.allclose(layer.scale, (5, 2, 2))


def test_a_preview_comes_in_time(window):
    import time

    window.learn()
    window.make_map()
    window.cam.maps.preview()
    begin = time.perf_counter()
    for _ in range(5):
        window.cam.maps.preview()
    assert (time.perf_counter() - begin) / 5 < 0.5  # a small volume on a busy machine
