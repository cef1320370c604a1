"""Learning without labels in plain words: what each task is, how well it is solved, and how features are."""

import re
from collections.abc import Mapping

from napari_sparseseg.pretraining_settings import PRETEXT_TASKS

TASK_WORDS: Mapping[str, tuple[str, str]] = {
    "masked_autoencoder": (
        "Fill in hidden blocks",
        "Parts of the image are hidden; the network learns to restore them. A good first choice.",
    ),
    "inpainting": (
        "Fill in cut-out blocks",
        "Blocks are cut out of the image; the network fills them in, and a second one judges whether the "
        "filling looks real.",
    ),
    "super_resolution": (
        "Sharpen",
        "The image is made coarser; the network learns to bring the fine detail back.",
    ),
    "denoising": ("Remove noise", "Noise is added to the image; the network learns to take it out again."),
    "colorization": (
        "Guess the other contrasts",
        "From the mean of several MR sequences the network guesses each of them; from a CT, how it looks in "
        "other windows.",
    ),
    "relative_position": (
        "Which neighbour?",
        "The network sees two pieces of the image, and says on which side of the first the second lies.",
    ),
    "jigsaw": (
        "Jigsaw puzzle",
        "A piece of the image is cut into tiles, which are shuffled; the network says how.",
    ),
    "rotation": ("Which way is up?", "A piece of the image is turned; the network says how."),
    "exemplar": (
        "Know a piece again",
        "Distorted copies are made of some pieces; the network says which piece a copy was made of.",
    ),
    "clustering": (
        "Sort into groups",
        "Pieces that look alike are put into groups; the network learns to say which group a piece is in.",
    ),
    "deep_cluster": (
        "Sort into groups, again and again",
        "Pieces are grouped by what the network sees in them; it learns the groups, and they are made anew.",
    ),
    "self_labelling": (
        "Sort into groups of one size",
        "Like sorting again and again, but all groups are equally large, so that not everything can end up "
        "in one.",
    ),
    "synthetic": (
        "Made-up shapes",
        "The computer makes volumes whose shapes it knows; the network learns to find their surfaces, and to "
        "see real images in the same way.",
    ),
    "simclr": (
        "Tell pieces apart",
        "Two distorted copies of a piece should look alike to the network, and unlike all other pieces.",
    ),
    "moco": (
        "Tell pieces apart, with a memory",
        "Like telling pieces apart, but each is compared with a long list of earlier ones: good where only "
        "few pieces fit into memory at once.",
    ),
    "supcon": (
        "Tell classes apart",
        "Like telling pieces apart, but pieces of one class count as alike. It uses the labels that there "
        "are.",
    ),
    "byol": (
        "Agree with a twin",
        "The network foretells what a twin, which follows it slowly, says of another copy of the piece.",
    ),
}
"""By entry of `PRETEXT_TASKS`: how to call it, and what it is, in a sentence or two."""

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "Restore the image": (
        "masked_autoencoder", "inpainting", "super_resolution", "denoising", "colorization",
    ),
    "See how things lie": ("relative_position", "jigsaw", "rotation"),
    "Find what is alike": ("exemplar", "clustering", "deep_cluster", "self_labelling"),
    "Learn from made-up volumes": ("synthetic",),
    "Compare pieces": ("simclr", "moco", "supcon", "byol"),
}  # fmt: skip
"""What the tasks have in common, in words: their names, in the order in which they are offered."""

WITHIN = "Measured on the volumes it learns from, so it looks better than it is."

_RANDOM = "random weights"
_NAMES = re.compile(rf"\b({'|'.join(TASK_WORDS)})\b")
_NOT_YET = "That is no better yet."
_LOWER = "Both curves: the lower, the better."


def describe_encoder(name: str) -> str:
    """Return how to call an encoder: "Jigsaw puzzle 2" for "jigsaw-2"; other names stay as they are."""
    task, _, number = name.rpartition("-")
    return f"{TASK_WORDS[task][0]} {number}" if task in PRETEXT_TASKS and number.isdigit() else name


def name_tasks(text: str) -> str:
    """Return a sentence in which tasks are called as in the panel: “Tell classes apart” for "supcon"."""
    return _NAMES.sub(lambda match: f"“{TASK_WORDS[match[0]][0]}”", text)


def describe_probe(name: str) -> str:
    """Return how to call a bar of the comparison: as the encoder; random weights if it has no name."""
    words = describe_encoder(name) or _RANDOM
    return words[:1].upper() + words[1:]


def describe_figure(figure: str, value: float, trivial: float | None) -> str:
    """Return how well a task is solved, in a sentence or two.

    Parameters
    ----------
    figure
        "accuracy" (larger is better) or "error" (smaller is better).
    value, trivial
        The figure, and what it is by chance or for the trivial answer; None where that is not known.
    """
    if figure == "accuracy":
        known = "" if trivial is None else f" (guessing: {percent(trivial)})"
        text = f"Solves the task in {percent(value)} of the cases{known}."
    else:
        known = "" if trivial is None else f" (guessing: {trivial:.3g})"
        text = f"Error {value:.3g}{known}; smaller is better."
    better = trivial is None or (value > trivial if figure == "accuracy" else value < trivial)
    return text if better else f"{text} {_NOT_YET}"


def describe_features(spread: float | None, collapsed: bool) -> str:
    """Return in a sentence whether features tell things apart; empty where that is not known.

    Parameters
    ----------
    spread
        How far apart features lie, 0 to 1; None while that is not known.
    collapsed
        Whether they say nearly the same of everything.
    """
    if collapsed:
        return "⚠ The features have collapsed (all nearly alike). Try another task."
    return "" if spread is None else f"Features are spread well ({spread:.2f} of 1). {_LOWER}"


def percent(share: float) -> str:
    """Return a share in percent; small ones keep a digit."""
    hundredths = share * 100
    return f"{hundredths:.1g} %" if 0 < hundredths < 1 else f"{hundredths:.0f} %"
