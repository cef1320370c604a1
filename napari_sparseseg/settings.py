"""Every setting, declared once: its default, label, help and range.

The command line's flags, the panels' forms, a checkpoint's JSON and the documentation are all read
from these dataclasses.  Nothing here imports torch, so that both front ends start at once.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from napari_sparseseg.errors import InputError


def _setting(
    default: Any,
    label: str,
    explanation: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
    several: tuple[str, ...] | None = None,
) -> Any:
    metadata = {
        "label": label,
        "help": explanation,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "several": several,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class _Settings:
    """Checks ranges on construction and converts to and from JSON."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            _check_range(entry.metadata, getattr(self, entry.name))

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """Read what `to_json` wrote; unknown or wrong entries raise `InputError`."""
        known = {entry.name for entry in fields(cls)}
        if not isinstance(values, dict) or not set(values) <= known:
            raise InputError(f"{cls.__name__} has settings that this version does not know: {values!r:.200}.")
        types = {entry.name: type(entry.default) for entry in fields(cls)}
        for name, value in values.items():
            if not isinstance(value, (int, float) if types[name] is float else types[name]):
                raise InputError(
                    f"the setting {name} must be of type {types[name].__name__}, not {value!r:.80}."
                )
        return cls(**values)


def _check_range(metadata: Any, value: Any) -> None:
    choices, minimum, maximum = metadata["choices"], metadata["minimum"], metadata["maximum"]
    if metadata["several"] is not None and (unknown := set(split_several(value)) - {*metadata["several"]}):
        known = ", ".join(metadata["several"])
        raise InputError(f"{metadata['label']} may name {known}, not {', '.join(sorted(unknown))}.")
    if choices is not None and value not in choices:
        raise InputError(f"{metadata['label']} must be one of {', '.join(choices)}, not {value!r}.")
    too_small = minimum is not None and not value >= minimum
    too_large = maximum is not None and not value <= maximum
    if too_small or too_large:
        bounds = f"at least {minimum}" if maximum is None else f"between {minimum} and {maximum}"
        raise InputError(f"{metadata['label']} must be {bounds}, not {value!r}.")


def split_several(value: str) -> tuple[str, ...]:
    """Return the names in a setting that holds several, parted by commas; "none" and nothing are none."""
    names = (name.strip() for name in value.split(","))
    return tuple(name for name in names if name and name != "none")


@dataclass(frozen=True)
class NetworkConfig(_Settings):
    """Which network, and how large."""

    architecture: str = _setting(
        "unet", "Network", "Architecture of the network (MONAI).", choices=("unet", "dynunet", "segresnet")
    )
    size: str = _setting(
        "small",
        "Size",
        "Width of the network; medium and large suit a GPU.",
        choices=("small", "medium", "large"),
    )


@dataclass(frozen=True)
class TrainingConfig(_Settings):
    """How the network learns from the labelled voxels."""

    seconds: float = _setting(
        0.0, "Seconds", "Train for this long by the clock, the preview included (0: use steps).", minimum=0
    )
    steps: int = _setting(0, "Steps", "Train for this many steps (0: use seconds).", minimum=0)
    seed: int = _setting(0, "Seed", "Start of all random numbers.", minimum=0, maximum=2**31 - 1)
    learning_rate: float = _setting(
        5e-3, "Learning rate", "Peak of the one-cycle learning rate.", minimum=1e-6, maximum=1.0
    )
    batch_size: int = _setting(1, "Batch size", "Patches per training step.", minimum=1, maximum=64)
    patch_voxels: int = _setting(
        0, "Patch voxels", "Voxels in a training patch (0: by device).", minimum=0, maximum=256**3
    )
    dice_weight: float = _setting(
        1.0,
        "Dice weight",
        "Weight of the soft Dice term on labelled voxels (0: cross-entropy alone).",
        minimum=0,
    )
    preview_weight: float = _setting(
        0.5,
        "Preview weight",
        "Weight of the instant classifier's confident voxels (0: do not use them).",
        minimum=0,
    )
    held_out_share: float = _setting(
        0.1, "Held-out share", "Share of labelled slices or strokes kept out of training to measure it.",
        minimum=0, maximum=0.5,
    )  # fmt: skip
    final_share: float = _setting(
        0.65, "Final share", "Last part of training in which few held-out labels are learnt too.",
        minimum=0, maximum=1,
    )  # fmt: skip
    allow_flips: bool = _setting(
        False, "Allow flips", "Mirror patches left to right; only where no class has a side."
    )
    device: str = _setting(
        "auto", "Device", "Where to compute: CUDA, then Apple's MPS, then the CPU.",
        choices=("auto", "cuda", "mps", "cpu"),
    )  # fmt: skip
    precision: str = _setting(
        "auto", "Precision", "Number format of the network; auto measures which is faster here.",
        choices=("auto", "float32", "bfloat16"),
    )  # fmt: skip
    seeding: float = _setting(
        1.0, "Seeding", "Factor of the weight of labels from class maps (0: do not learn from them).",
        minimum=0, maximum=10,
    )  # fmt: skip
    expansion: float = _setting(
        0.0, "Expansion",
        "Weight of the term that lets a class fill a part of what it is said to be in, and keeps it out of "
        "what it is said to be absent from (0: leave it out). 0.1 to 0.3 helps where seeds are much smaller "
        "than their objects; more lets objects grow too large.",
        minimum=0, maximum=10,
    )  # fmt: skip
    constraint: float = _setting(
        0.0, "Constraint",
        "Weight of the term that pulls borders to the image's edges (0: leave it out). 0.1 is enough beside "
        "seeds; more shrinks small objects.",
        minimum=0, maximum=10,
    )  # fmt: skip


LIVE_TRAINING = TrainingConfig(learning_rate=2e-3, preview_weight=1.0)
"""What an interactive session begins with: its network learns while labels keep coming, from few steps."""


@dataclass(frozen=True)
class InferenceConfig(_Settings):
    """How a trained network is applied to a volume."""

    overlap: float = _setting(
        0.5, "Overlap", "Overlap of neighbouring windows, as a share of their size.", minimum=0, maximum=0.9
    )
    largest_component: bool = _setting(
        False, "Largest component", "Keep only the largest connected part of each class."
    )
    fill_holes: bool = _setting(False, "Fill holes", "Fill holes inside each class.")
    device: str = _setting(
        "auto", "Device", "Where to compute: CUDA, then Apple's MPS, then the CPU.",
        choices=("auto", "cuda", "mps", "cpu"),
    )  # fmt: skip

    @property
    def cleans(self) -> bool:
        """Whether the prediction is to be cleaned."""
        return self.largest_component or self.fill_holes


BOX_METHODS = ("box", "box_inner", "grabcut", "grabcut_plus", "grabcut_plus_i", "proposals", "consensus")
"""Names of the ways from a box to a mask, keys of `boxes.BOX_METHODS`."""

DENOISING = ("class", "outside", "reset", "crf", "ignore")
"""Steps between the rounds of recursive training, as `box_training` describes them."""


@dataclass(frozen=True)
class BoxConfig(_Settings):
    """How a bounding box becomes a mask."""

    method: str = _setting(
        "grabcut_plus", "Method", "How the object is found in its box (Khoreva et al. 2017).",
        choices=BOX_METHODS,
    )  # fmt: skip
    margin: float = _setting(
        0.25, "Margin", "How much is looked at round a box, as a share of its sides.", minimum=0.05, maximum=1
    )
    inner_share: float = _setting(
        0.2, "Inner share", "Share of the box in its middle that box_inner takes for the object.",
        minimum=0.01, maximum=1,
    )  # fmt: skip
    least_share: float = _setting(
        0.05, "Least share", "A box in which less than this share is found falls back to box_inner.",
        minimum=0, maximum=1,
    )  # fmt: skip
    components: int = _setting(
        5, "Mixture components", "Gaussians in each of GrabCut's intensity models.", minimum=1, maximum=16
    )
    smoothness: float = _setting(
        1.0, "Smoothness", "Cost of GrabCut's border where the image has no edge.", minimum=0, maximum=100
    )
    iterations: int = _setting(
        5, "Iterations", "How often GrabCut fits its models and cuts anew.", minimum=1, maximum=50
    )
    runs: int = _setting(
        24, "Runs", "Cuts of moved and resized boxes that grabcut_plus_i lets vote.", minimum=2, maximum=200
    )
    jitter: float = _setting(
        0.05, "Jitter", "By what share of its sides a box is moved and resized in each run.",
        minimum=0, maximum=0.5,
    )  # fmt: skip
    object_share: float = _setting(
        0.7, "Object votes", "Voxels that at least this share of the runs calls the object are the object.",
        minimum=0, maximum=1,
    )  # fmt: skip
    background_share: float = _setting(
        0.2, "Background votes", "Voxels that less than this share calls the object are background.",
        minimum=0, maximum=1,
    )  # fmt: skip
    seed: int = _setting(0, "Seed", "Start of all random numbers.", minimum=0, maximum=2**31 - 1)


@dataclass(frozen=True)
class RecursionConfig(_Settings):
    """How a network learns from boxes, round by round."""

    rounds: int = _setting(
        0, "Rounds", "How often a network learns from the labels and makes new ones (0: no network).",
        minimum=0, maximum=50,
    )  # fmt: skip
    round_steps: int = _setting(
        300, "Steps per round", "Training steps in each round.", minimum=1, maximum=100_000
    )
    denoise: str = _setting(
        ",".join(DENOISING), "De-noise",
        "What is mended in a round's labels before the next one learns from them: class (drop predictions of "
        "another class than the box's), outside (and outside of any box), reset (give up a segment that "
        "fills too little of its box), crf (move borders to the image's edges), ignore (do not learn from "
        "unsure voxels); none is the naive recursion.",
        several=DENOISING,
    )  # fmt: skip
    reset_share: float = _setting(
        0.1, "Reset share",
        "A segment that fills less than this share of its box is reset (50 % in the paper's photographs; "
        "organs and tumours fill 15 to 50 % of a box in 3D).",
        minimum=0, maximum=1,
    )  # fmt: skip
    device: str = _setting(
        "auto", "Device", "Where to compute: CUDA, then Apple's MPS, then the CPU.",
        choices=("auto", "cuda", "mps", "cpu"),
    )  # fmt: skip


@dataclass(frozen=True)
class CrfConfig(_Settings):
    """The dense conditional random field that moves borders to the image's edges."""

    appearance_weight: float = _setting(
        3.0, "Appearance weight", "How strongly near voxels of like intensity want one class.", minimum=0
    )
    appearance_mm: float = _setting(
        6.0, "Appearance reach", "How far, in mm, that reaches.", minimum=0.01, maximum=1000
    )
    appearance_intensity: float = _setting(
        0.3, "Appearance contrast",
        "How much intensities may differ, as a share of the image's standard deviation.",
        minimum=0.001, maximum=100,
    )  # fmt: skip
    smoothness_weight: float = _setting(
        1.0,
        "Smoothness weight",
        "How strongly near voxels want one class, whatever they look like.",
        minimum=0,
    )
    smoothness_mm: float = _setting(
        2.0, "Smoothness reach", "How far, in mm, that reaches.", minimum=0.01, maximum=1000
    )
    crf_iterations: int = _setting(5, "CRF iterations", "Mean-field updates.", minimum=1, maximum=100)


CAM_METHODS = ("cam", "grad_cam", "grad_cam_pp", "saliency", "smooth_saliency", "occlusion")
"""Names of the ways to ask a network where it looked, keys of `cam.CAM_METHODS`."""


@dataclass(frozen=True)
class ClassifierConfig(_Settings):
    """How a network learns from image-level labels what is in a volume, or in slices of it."""

    classifier_steps: int = _setting(
        200, "Steps", "Training steps of the classifier.", minimum=1, maximum=1_000_000
    )
    classifier_rate: float = _setting(
        4e-3, "Learning rate", "Peak of its one-cycle learning rate.", minimum=1e-6, maximum=1.0
    )
    classifier_batch: int = _setting(
        2, "Batch size", "Volumes that it sees in each step.", minimum=1, maximum=64
    )
    stride: int = _setting(
        8, "Coarseness",
        "Voxels between the features that are averaged: smaller gives finer maps that know less of what "
        "lies around.",
        minimum=1, maximum=16,
    )  # fmt: skip
    outside: str = _setting(
        "absent", "Outside the ranges",
        "What slices outside all ranges of a class mean, in a direction in which it has any.",
        choices=("absent", "unknown"),
    )  # fmt: skip
    held_out: float = _setting(
        0.2, "Held-out share", "Share of the volumes, or of one volume's slices, kept to measure it by.",
        minimum=0, maximum=0.5,
    )  # fmt: skip
    seed: int = _setting(0, "Seed", "Start of all random numbers.", minimum=0, maximum=2**31 - 1)
    device: str = _setting(
        "auto", "Device", "Where to compute: CUDA, then Apple's MPS, then the CPU.",
        choices=("auto", "cuda", "mps", "cpu"),
    )  # fmt: skip


@dataclass(frozen=True)
class CamConfig(_Settings):
    """How a map is made of where a network looked."""

    method: str = _setting(
        "grad_cam", "Method", "How the network is asked where it looked.", choices=CAM_METHODS
    )
    level: int = _setting(
        0, "Layer",
        "Level of the encoder whose features are looked at: 1 is the finest, 0 its last one.",
        minimum=0, maximum=5,
    )  # fmt: skip
    flips: bool = _setting(False, "Average mirror images", "Also ask about the mirrored volume, and average.")
    several_scales: bool = _setting(
        False, "Average several scales", "Also ask about the volume made smaller and larger, and average."
    )
    refine: bool = _setting(
        False, "Follow the image's edges", "Refine the map by the dense conditional random field."
    )
    smooth_runs: int = _setting(
        12, "Noisy copies", "Copies of the image that smooth saliency averages.", minimum=2, maximum=200
    )
    smooth_noise: float = _setting(
        0.1, "Noise", "Their noise, as a share of the image's range.", minimum=0.001, maximum=1
    )
    occlusion_share: float = _setting(
        0.15, "Occluded share", "Side of the part that occlusion covers, as a share of the window's sides.",
        minimum=0.02, maximum=0.5,
    )  # fmt: skip


@dataclass(frozen=True)
class SeedConfig(_Settings):
    """How a class map becomes labels."""

    object_threshold: float = _setting(
        0.6, "Object from", "Voxels from this share of the map's largest value on are the class.",
        minimum=0.01, maximum=1,
    )  # fmt: skip
    background_threshold: float = _setting(
        0.1, "Background below", "Voxels below this share in the maps of all classes are background.",
        minimum=0, maximum=1,
    )  # fmt: skip
    point_mm: float = _setting(
        3.0, "Radius of points", "How far around a point, in mm, everything is its class.",
        minimum=0.1, maximum=100,
    )  # fmt: skip
