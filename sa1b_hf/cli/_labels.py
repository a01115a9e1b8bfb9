"""The options of commands that label masks with a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from sa1b_hf._transforms import TableTransform
from sa1b_hf.errors import ConfigError
from sa1b_hf.labels.base import LabelTransform, Vocabulary
from sa1b_hf.labels.clip import DTYPES, ClipLabeler, Fill, Mode

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--model", required=True, help="Name on the Hub, or a folder: CLIP, SigLIP or the like."),
    click.option("--revision", help="Commit, branch or tag of the model."),
    click.option("--vocabulary", required=True, metavar="NAME|FILE", help="coco, or a file with a class on each line."),
    click.option("--template", "templates", multiple=True, help="Sentence with {} for the class; may be repeated."),
    click.option("--background", multiple=True, help="Word for what has no class; may be repeated."),
    click.option("--mode", type=click.Choice(get_args(Mode)), default="crop", show_default=True, help="How to look."),
    click.option("--fill", type=click.Choice(get_args(Fill)), default="blur", show_default=True, help="Background."),
    click.option("--context", type=float, default=0.25, show_default=True, help="Around the box, in its lengths."),
    click.option("--resolution", type=int, metavar="PIXELS", help="Side of the model's input; its own by default."),
    click.option("--top-k", type=int, default=5, show_default=True, help="Most labels of a mask."),
    click.option("--min-score", type=float, default=0.0, show_default=True, help="Abstain from masks below."),
    click.option("--embeddings", is_flag=True, help="Keep the masks' embeddings too."),
    click.option("--dtype", type=click.Choice(DTYPES), default="auto", show_default=True, help="Of the model."),
    click.option("--device", help="Such as cuda:1; a GPU if there is one by default."),
    click.option("--batch-size", type=int, default=256, show_default=True, help="Most crops of a forward pass."),
)

_CONVERT_OPTIONS = (
    click.option("--label", metavar="MODEL", help="Name masks with a model; sa1b label has more options."),
    click.option("--vocabulary", metavar="NAME|FILE", help="Of --label: coco, or a file with a class on each line."),
    click.option(
        "--label-mode", type=click.Choice(get_args(Mode)), default="crop", show_default=True, help="Of --label."
    ),
    click.option("--label-resolution", type=int, metavar="PIXELS", help="Of --label: side of the model's input."),
)


def labeler_options(command: _Command) -> _Command:
    """Add the options that `make_labeler` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_labeler(
    model: str,
    revision: str | None,
    vocabulary: str,
    templates: tuple[str, ...],
    background: tuple[str, ...],
    **options: Any,
) -> ClipLabeler:
    """Load the model and the words that the options name."""
    changes: dict[str, Any] = {"templates": templates} if templates else {}
    changes |= {"background": background} if background else {}
    read = Vocabulary.from_file if Path(vocabulary).is_file() else Vocabulary.preset
    return ClipLabeler(model, read(vocabulary, **changes), revision=revision, **options)


def convert_label_options(command: _Command) -> _Command:
    """Add the options that `read_transforms` reads."""
    for option in reversed(_CONVERT_OPTIONS):
        command = option(command)
    return command


def read_transforms(options: dict[str, Any], on_error: str, *, images: bool) -> tuple[TableTransform, ...]:
    """Take the options of labels out of those of a command, and give what they mean."""
    model, vocabulary, mode, resolution = (
        options.pop(name) for name in ("label", "vocabulary", "label_mode", "label_resolution")
    )
    if model is None and vocabulary is None:
        return ()
    if model is None or vocabulary is None:
        raise ConfigError("--label and --vocabulary go together: a model, and the words for it")
    if not images:
        raise ConfigError("--label needs images: leave out --no-images, and the column when reading")
    labeler = make_labeler(model, None, vocabulary, (), (), mode=mode, resolution=resolution)
    return (LabelTransform(labeler, on_error="raise" if on_error == "raise" else "skip"),)
