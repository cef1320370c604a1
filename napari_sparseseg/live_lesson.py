"""What the instant preview tells the network of a live session, and how the two are measured."""

import math
from collections.abc import Generator
from dataclasses import replace

from napari_sparseseg.cases import Region
from napari_sparseseg.events import Event, HeldOutScored, WindowDone
from napari_sparseseg.live_answer import SLAB_VOXELS, score_held_out, slabs
from napari_sparseseg.live_classifier import LiveClassifier
from napari_sparseseg.live_forecast import LiveForecast
from napari_sparseseg.live_image import MORE_LABELS
from napari_sparseseg.live_labels import LiveLabels
from napari_sparseseg.live_preview import FittedPreview
from napari_sparseseg.live_round import LiveRound


def give_lesson(
    learner: LiveRound,
    classifier: LiveClassifier,
    fitted: FittedPreview,
    labels: LiveLabels,
    forecast: LiveForecast,
    region: Region,
    view: tuple[int, int],
) -> Generator[Event, None, None]:
    """Show the network what is confidently known beside labels, by whoever has not seen what is held out.

    That is the preview; but a network that knew the classes when it began is reminded of what it said then,
    away from where labels contradict it, until the preview is measured to be better.

    Parameters
    ----------
    learner
        The network.
    classifier, fitted
        The preview; another one is fitted where it has seen labels that the network must not know.
    labels
        All labels.
    forecast
        What the network said.
    region
        The box looked at.
    view
        Axis and index of the slice that the user looks at: the preview answers from there on.
    """
    scores = learner.scores
    if learner.is_taught and forecast.is_made and scores.get("preview", 0) <= scores.get("network", 1):
        learner.remind(forecast.recall(labels.annotation, region))
        return
    if learner.measuring:
        partial = classifier.fit_without(learner.held_out, region)
        if partial is None:
            return
        fitted = partial
    answer = classifier.answer(fitted, region, None, "preview")
    answer = replace(answer, annotation=learner.without_held_out(labels.annotation))
    boxes = slabs(region, view[1] if view[0] == 0 else 0, SLAB_VOXELS)
    for done, box in enumerate(boxes, start=1):
        learner.teach(box, answer.walked(box, 0) if classifier.walked else answer.plain(box))
        yield WindowDone(done, len(boxes))


def is_outgrown(learner: LiveRound, classifier: LiveClassifier, labels: LiveLabels) -> bool:
    """Tell whether the labels have doubled since some were held out: only a new network is unbiased."""
    if learner.measuring or learner.config.held_out_share == 0 or classifier.slices < 2:
        return False
    return int((labels.annotation > 0).sum()) >= MORE_LABELS * learner.labelled_at_start


def check_round(
    learner: LiveRound, classifier: LiveClassifier, labels: LiveLabels, region: Region
) -> Generator[Event, None, bool | None]:
    """Measure network and preview on the labels held out, and decide by that whether random walks help.

    Returns
    -------
    Whether they help now but did not before, or the other way round; None where too few other labels are
    left to measure anything: then those held out are learnt.
    """
    partial = classifier.fit_without(learner.held_out, region)
    if partial is None:
        learner.release_held_out(labels.annotation, labels.sources)
        return None
    answer = classifier.answer(partial, region, learner, "both")
    measured = yield from score_held_out(answer, learner.held_out)
    changed = measured.walker_helps != classifier.walked
    classifier.walked = measured.walker_helps
    learner.finish_check(measured.scores, labels.annotation, labels.sources)
    names = labels.table.names[1:]
    per_class = {n: d for n, d in zip(names, measured.per_class, strict=True) if not math.isnan(d)}
    yield HeldOutScored(learner.steps, measured.scores["network"], per_class)
    return changed
