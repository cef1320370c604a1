"""What a setting is: a field of a frozen dataclass that knows its label, its help and its range."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from napari_sparseseg.errors import InputError


def setting(
    default: Any,
    label: str,
    explanation: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
    several: tuple[str, ...] | None = None,
) -> Any:
    """Declare a setting: the field of a `Settings` dataclass.

    Parameters
    ----------
    default, label, explanation
        Its value where none is given, its name in a form, and its help.
    minimum, maximum
        Its range, both included.
    choices
        The only values that it can have.
    several
        The names that it can hold, parted by commas.
    """
    metadata = {
        "label": label,
        "help": explanation,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "several": several,
    }
    return field(default=default, metadata=metadata)


def seed_setting() -> Any:
    """Declare the seed, which all that draws at random has."""
    return setting(0, "Seed", "Start of all random numbers.", minimum=0, maximum=2**31 - 1)


def device_setting() -> Any:
    """Declare the device, which all that computes with torch has."""
    return setting(
        "auto",
        "Device",
        "Where to compute: CUDA, then Apple's MPS, then the CPU.",
        choices=("auto", "cuda", "mps", "cpu"),
    )


def precision_setting() -> Any:
    """Declare the number format, which all that trains patch by patch has."""
    return setting(
        "auto",
        "Precision",
        "Number format of the network; auto measures which is faster here.",
        choices=("auto", "float32", "bfloat16"),
    )


@dataclass(frozen=True)
class Settings:
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
