"""Projects: making, opening, offering the unfinished one, and bringing everything back."""

from datetime import date
from pathlib import Path

from qtpy.QtCore import QObject

from napari_sparseseg.errors import InputError
from napari_sparseseg.project import CaseRecord, ProjectSummary, dismiss, find_unfinished, recent_projects
from napari_sparseseg.project_cohort import kept_image, key_of_record
from napari_sparseseg.volume import Volume
from napari_sparseseg.widgets.annotate_actions import AnnotateActions
from napari_sparseseg.widgets.case_reading import CaseReader, find_layer, show_volume
from napari_sparseseg.widgets.image_actions import ImageActions
from napari_sparseseg.widgets.placement import find_camera
from napari_sparseseg.widgets.snapshots import TOOLS
from napari_sparseseg.widgets.workplace import Workplace, tells

_MOST_RECENT = 10


class ProjectActions(QObject):
    """Carries out what the project menu and the offer to restore ask for."""

    def __init__(self, place: Workplace, images: ImageActions, annotate: AnnotateActions) -> None:
        super().__init__(place)
        self.place = place
        self._images = images
        self._annotate = annotate
        self._offered: ProjectSummary | None = None

    @tells
    def look_for_unfinished(self) -> None:
        """Offer to go on with a project that was not closed, if there is one."""
        if self.place.desk.project is None:
            self._offered = find_unfinished()
            self.place.session.offer = "" if self._offered is None else describe_offer(self._offered)

    @tells
    def restore_offered(self) -> None:
        """Open the project that was offered."""
        offered, self._offered = self._offered, None
        self.place.session.offer = ""
        if offered is not None:
            self.open(offered.folder)

    @tells
    def dismiss_offered(self) -> None:
        """Do not offer that project again."""
        offered, self._offered = self._offered, None
        self.place.session.offer = ""
        if offered is not None:
            dismiss(offered.folder)

    def recent(self) -> list[ProjectSummary]:
        """Return the projects used last."""
        return [summary for summary in recent_projects() if summary.labels][:_MOST_RECENT]

    @tells
    def open(self, folder: str | Path) -> None:
        """Open a project, and bring back the image it was left with."""
        place = self.place
        current = place.desk.project
        if current is not None and current.folder == Path(folder).absolute():
            raise InputError(f"The project {current.name} is open already.")
        self._images.leave()
        place.session.offer = ""
        project = place.desk.open(Path(folder))
        place.desk.restore_settings(place.session)
        place.describe()
        cases = place.desk.records()
        if not cases:
            return
        number = project.setting("last_case", cases[-1].number)
        self._bring_back(next((case for case in cases if case.number == number), cases[-1]))

    @tells
    def begin(self, folder: str | Path | None = None) -> None:
        """Begin another project, in `folder` or where projects are kept; the image stays, unlabelled."""
        place = self.place
        layer = self._images.layer
        self._images.leave()
        place.desk.close()
        fresh = type(place.session)()
        place.session.table, place.session.selected = fresh.table, fresh.selected
        place.session.encoders = fresh.encoders
        place.session.running, place.session.offer = False, ""
        if folder is not None:
            place.desk.create(Path(folder), place.session)
        place.describe()
        if layer is not None:
            self._images.choose(layer.name)

    def show_view(self) -> None:
        """Show the image as it was left, when it has just been opened."""
        place, view = self.place, self.place.desk.view()
        case = place.case
        if case is None:
            return
        if place.desk.project is not None and place.desk.case is not None:
            place.desk.project.save_setting("last_case", place.desk.case)
        slices, orientation = _numbers(view.get("slices"), 3), view.get("orientation")
        if slices and orientation in (0, 1, 2):
            for axis in (*(other for other in range(3) if other != orientation), orientation):
                case.go_to(axis, min(max(0, int(slices[axis])), case.source.shape[axis] - 1))
        center, zoom = _numbers(view.get("center"), 3), _numbers([view.get("zoom")], 1)
        if center and zoom and zoom[0] > 0:
            camera = find_camera(place.viewer)
            camera.center, camera.zoom = tuple(center), zoom[0]
        selected, brush, tool = view.get("selected"), _numbers([view.get("brush_size")], 1), view.get("tool")
        if selected == 1 or selected in place.session.table.mask_values[1:]:
            self._annotate.select(selected)
        if brush:
            self._annotate.set_brush_size(int(brush[0]))
        if tool in TOOLS:
            self._annotate.use_tool(tool)

    def _bring_back(self, record: CaseRecord) -> None:
        """Show the image of a case: the layer that has it, else its file, else the project's copy."""
        place = self.place
        files = tuple(filter(None, [record.source]))
        layer = find_layer(place.viewer, files, record)
        if layer is not None:
            self._images.choose(layer.name)
        elif place.desk.project is not None:
            read = CaseReader(files, record, kept_image(place.desk.project, record.number))
            place.background.run(f"Opening {record.name}…", read, lambda volume: self._show(volume, record))

    def _show(self, volume: Volume, record: CaseRecord) -> None:
        layers = show_volume(self.place.viewer, volume, record.name, key_of_record(record), record.source)
        self._images.choose(layers[0].name)
        self.place.session.folder = str(Path(record.source).parent) if record.source else ""


def describe_offer(summary: ProjectSummary) -> str:
    """Return the question whether to go on with a project."""
    when = summary.changed
    day = "today" if when.date() == date.today() else f"{when:%d %B %Y}"
    image = summary.cases[-1] if summary.cases else "an image"
    strokes = "1 stroke" if summary.labels == 1 else f"{summary.labels} strokes"
    return f"A session of {day} {when:%H:%M} on {image} with {strokes} was not closed."


def _numbers(values: object, count: int) -> list[float]:
    """Return what was kept in a project if it is a list of `count` numbers, else an empty list."""
    if not isinstance(values, list) or len(values) != count:
        return []
    usable = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return values if usable else []
