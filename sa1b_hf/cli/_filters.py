"""The filters of the package as options of a command: each field of theirs is one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, get_args

import click

from sa1b_hf.filters import AnnotationFilter, ImageFilter, Select, read_ids

_HELP: Final = {
    "min_predicted_iou": "Keep masks of this score or more.",
    "min_stability_score": "Keep masks of this score or more.",
    "min_area": "Keep masks of this area or more: pixels, or with a point (0.01) a fraction of the image.",
    "max_area": "Keep masks of this area or less.",
    "max_masks": "Keep at most so many masks of an image.",
    "select": "Which masks those are.",
    "seed": "Of random choices.",
    "min_width": "Keep images of so many pixels or more.",
    "min_height": "Keep images of so many pixels or more.",
    "max_width": "Keep images of so many pixels or less.",
    "max_height": "Keep images of so many pixels or less.",
    "min_short_side": "Keep images whose shorter side has so many pixels or more.",
    "ids": "Keep the images of this file, one id or file name a line.",
    "sample_fraction": "Keep this part of the images, always the same one for a seed.",
    "drop_empty": "Drop images without masks.",
}


def _parse_area(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Read pixels, or with a point a fraction."""
    if value is None:
        return None
    try:
        return float(value) if "." in value else int(value)
    except ValueError:
        raise click.BadParameter(f"expected pixels such as 100 or a fraction such as 0.01, found {value!r}") from None


def filter_options(command: Any) -> Any:
    """Give a command the options of `AnnotationFilter` and `ImageFilter`."""
    options = {option.name: option for kind in (ImageFilter, AnnotationFilter) for option in dataclasses.fields(kind)}
    for name, option in reversed(options.items()):
        command = click.option(f"--{name.replace('_', '-')}", help=_HELP[name], **_settings(name, option))(command)
    return command


def _settings(name: str, option: Any) -> dict[str, Any]:
    """Give what click has to know of an option beside its name."""
    if option.default is False:
        return {"is_flag": True}
    if name.endswith("_area"):
        return {"metavar": "AREA", "callback": _parse_area}
    kinds: dict[str, Any] = {
        "select": click.Choice(get_args(Select)),
        "ids": click.Path(dir_okay=False, exists=True),
        "seed": int,
    }
    kind = kinds.get(name, float if "float" in str(option.type) else int)
    return {"type": kind, "default": option.default, "show_default": option.default is not None}


def read_filters(values: Mapping[str, Any]) -> tuple[AnnotationFilter, ImageFilter]:
    """Make the filters of a command's options."""
    ids = None if values["ids"] is None else read_ids(values["ids"])
    values = {**values, "ids": ids}
    masks = {option.name: values[option.name] for option in dataclasses.fields(AnnotationFilter)}
    images = {option.name: values[option.name] for option in dataclasses.fields(ImageFilter)}
    return AnnotationFilter(**masks), ImageFilter(**images)
