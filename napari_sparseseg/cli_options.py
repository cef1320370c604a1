"""Command-line flags: those that commands share, and those made from the settings' dataclasses.

Each setting is declared once, in its dataclass.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

Command = TypeVar("Command", bound=Callable[..., Any])
SettingsType = TypeVar("SettingsType")

ImageArgument = Annotated[str, typer.Argument(help="Volume; channels on one grid as a.nii.gz,b.nii.gz.")]
UnlabelledOption = Annotated[
    int | None,
    typer.Option(
        help="Value that means unlabelled in the label file. 0 (default): then 1 is background and classes "
        "start at 2. Any other, e.g. 255: then 0 is background."
    ),
]
NamesOption = Annotated[Path | None, typer.Option(help='JSON with the classes\' names: {"2": "liver", …}.')]
FrameOption = Annotated[int | None, typer.Option(min=0, help="Which frame of a time series, from 0.")]
SpacingOption = Annotated[
    str | None, typer.Option(help="Voxel size in mm as Z,Y,X, for files that hold none (TIFF, HDF5, npz).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs, at the end.")]


def with_settings(*classes: type, without: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """Replace a command's ``**settings`` by one option for each field of the settings `classes`.

    A field that two classes share becomes one option; the fields `without` become none.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command)
        parameters = {
            name: parameter
            for name, parameter in signature.parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }
        annotations = {name: command.__annotations__[name] for name in parameters}
        for settings_class in classes:
            panel = settings_class.__name__.removesuffix("Config") + " settings"
            for entry in fields(settings_class):
                if entry.name in parameters or entry.name in without:
                    continue
                annotations[entry.name] = _option(entry, panel)
                parameters[entry.name] = inspect.Parameter(
                    entry.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=entry.default,
                    annotation=annotations[entry.name],
                )
        plain = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=annotations[n])
            for n, p in parameters.items()
        ]
        command.__signature__ = signature.replace(parameters=plain)  # type: ignore[attr-defined]
        command.__annotations__ = {**annotations, "return": None}
        return command

    return decorate


def settings_from(settings_class: type[SettingsType], values: Mapping[str, Any]) -> SettingsType:
    """Build `settings_class` from the options that `with_settings` added to a command."""
    names = {entry.name for entry in fields(settings_class)}  # type: ignore[arg-type]
    return settings_class(**{name: value for name, value in values.items() if name in names})


def _option(entry: "Field[Any]", panel: str) -> Any:
    kind = Literal[entry.metadata["choices"]] if entry.metadata["choices"] else type(entry.default)
    option = typer.Option(
        min=entry.metadata["minimum"],
        max=entry.metadata["maximum"],
        help=entry.metadata["help"],
        rich_help_panel=panel,
    )
    return Annotated[kind, option]
