"""How `ClipLabeler` looks at masks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sa1b_hf._ids import is_int
from sa1b_hf.errors import ConfigError

from ._backend import torch

__all__ = ["DTYPES", "ClipOptions", "Fill", "Mode"]

Mode = Literal["crop", "masked_cls", "dense"]
"""What the model sees of a mask: a picture of its own, or its patches of one picture of the whole image."""

Fill = Literal["keep", "blur", "mean"]
"""What becomes of the background of a crop."""

DTYPES = ("auto", "float32", "float16", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Options of `sa1b_hf.labels.clip.ClipLabeler`.

    Attributes
    ----------
    mode
        ``"crop"``: each mask is cut out with some context, resized and embedded; the slowest, and the only one for any
        model. ``"masked_cls"``: one pass over the image for all of its masks, each with a class token (CLIP) or probe
        (SigLIP) that reads its patches alone. ``"dense"``: the mean over what each patch of the mask would say alone.
        The latter two squeeze the image to a square.
    context
        Of a crop: what is added on each side of the mask's box, as a share of its longer side.
    fill
        Of a crop's background: ``"keep"``, ``"blur"``, or ``"mean"`` for the model's neutral colour.
    resolution
        Pixels of the side of the model's input; the model's own by default. Twice that suits ``"masked_cls"`` and
        ``"dense"``, whose small masks otherwise share a patch.
    top_k
        Most labels of a mask.
    min_score
        Masks whose best score is lower are abstained from.
    scores
        ``"softmax"``: shares of all classes, background included. ``"sigmoid"``: each class for itself. By default
        sigmoid for SigLIP, softmax for others.
    embeddings
        Keep the embeddings of the masks with the labels, as float16.
    dtype
        ``"float32"``, ``"float16"``, ``"bfloat16"``, or ``"auto"``: bfloat16 where the GPU or CPU computes in it,
        several times faster, and float32 elsewhere.
    device
        Name of a torch device; by default a GPU if there is one.
    batch_size
        Most crops of a forward pass. A batch that does not fit into memory is halved, for good.
    compile
        Pass the model through ``torch.compile``: True, or the name of a backend. For ``"crop"`` alone.
    threads
        That decode JPEGs ahead.

    Raises
    ------
    ConfigError
        An option is out of range.

    """

    mode: Mode = "crop"
    context: float = 0.25
    fill: Fill = "blur"
    resolution: int | None = None
    top_k: int = 5
    min_score: float = 0.0
    scores: Literal["softmax", "sigmoid"] | None = None
    embeddings: bool = False
    dtype: str = "auto"
    device: Any = None
    batch_size: int = 256
    compile: bool | str = False
    threads: int = 2

    def __post_init__(self) -> None:
        choices = {"mode": get_args(Mode), "fill": get_args(Fill), "dtype": DTYPES}
        for name, options in {**choices, "scores": (None, "softmax", "sigmoid")}.items():
            if getattr(self, name) not in options:
                raise ConfigError(f"{name}: expected one of {list(options)}, found {getattr(self, name)!r}")
        least = {"top_k": 1, "batch_size": 1, "threads": 0}
        for name, low in {**least, **({} if self.resolution is None else {"resolution": 1})}.items():
            if not is_int(getattr(self, name)) or getattr(self, name) < low:
                raise ConfigError(f"{name}: expected an int of {low} or more, found {getattr(self, name)!r}")
        for name, high in (("context", 16.0), ("min_score", 1.0)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value <= high:
                raise ConfigError(f"{name}: expected a number of 0 to {high:g}, found {value!r}")
        if self.compile and self.mode != "crop":
            raise ConfigError(f"compile: expected mode='crop', found {self.mode!r}, whose passes differ in shape")

    def place(self) -> tuple[Any, Any]:
        """Give the device and the dtype of torch that the options mean here.

        Raises
        ------
        ConfigError
            There is no such device.

        """
        try:
            device = torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
            torch.empty(0, device=device)
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            found = str(error).partition("\n")[0]
            raise ConfigError(f"device: expected one that torch has here, found {self.device!r} ({found})") from error
        if self.dtype != "auto":
            return device, getattr(torch, self.dtype)
        return device, torch.bfloat16 if _computes_bfloat16(device) else torch.float32


def _computes_bfloat16(device: Any) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    # Where the CPU lacks the instructions bfloat16 works too, slowly; older versions of torch do not tell.
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
