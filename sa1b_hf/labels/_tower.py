"""The image half of a model of transformers, opened where masks are put in."""

from __future__ import annotations

import inspect
from typing import Any, Literal

from sa1b_hf.errors import ConfigError

from ._backend import functional, torch

__all__ = ["Tower", "pooled"]


def pooled(output: Any) -> Any:
    """Give the embeddings of what ``get_image_features`` or ``get_text_features`` returned."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


class Tower:
    """The image half of a model.

    Parameters
    ----------
    model
        With ``get_image_features``.

    Attributes
    ----------
    kind
        ``"clip"``: a class token reads the patches in every layer, its last state is projected. ``"siglip"``: a probe
        reads the patches once, after the last layer. None: something else, whose inside is not known.
    image_size, patch_size
        Sides in pixels that the model was made for; `image_size` is 224 for one that does not say.
    prefix
        Tokens before those of the patches.

    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.vision: Any = getattr(model, "vision_model", None)
        self.kind = _kind(model, self.vision)
        self.prefix = 1 if self.kind == "clip" else 0
        config = getattr(model.config, "vision_config", model.config)
        self.patch_size = int(getattr(config, "patch_size", None) or 1)
        parameters = inspect.signature(model.get_image_features).parameters
        self._packed = "spatial_shapes" in parameters
        self._resizable = "interpolate_pos_encoding" in parameters
        side = getattr(config, "image_size", None)
        if side is None and self._packed:
            side = round(config.num_patches**0.5) * self.patch_size
        self.image_size = int(side or 224)

    def check(self, resolution: int, mode: str) -> None:
        """Refuse a resolution or a mode that the model cannot take.

        Raises
        ------
        ConfigError
            Then.

        """
        if resolution % self.patch_size:
            raise ConfigError(
                f"resolution: expected a multiple of the patch size {self.patch_size}, found {resolution}"
            )
        if resolution != self.image_size and not (self._packed or self._resizable):
            found = f"found {resolution}"
            raise ConfigError(f"resolution: this model takes images of {self.image_size} pixels alone, {found}")
        if mode != "crop" and self.kind is None:
            expected = "expected mode='crop', the only one for a model that is neither CLIP nor SigLIP inside"
            raise ConfigError(f"mode: {expected}, found {mode!r} with {type(self.model).__name__}")

    def embed(self, pixels: Any) -> Any:
        """Embed whole images; (B, 3, s, s) → (B, D), of length one."""
        return functional.normalize(pooled(self.model.get_image_features(**self._inputs(pixels))).float(), dim=-1)

    def tokens(self, pixels: Any) -> Any:
        """Give what the first layer is given; (B, 3, s, s) → (B, `prefix` + patches, width)."""
        inputs = self._inputs(pixels)
        if self._packed:
            return self.vision.embeddings(inputs["pixel_values"], inputs["spatial_shapes"])
        embedded = self.vision.embeddings(
            inputs["pixel_values"], interpolate_pos_encoding=inputs.get("interpolate_pos_encoding", False)
        )
        return self.vision.pre_layrnorm(embedded) if self.kind == "clip" else embedded

    def encode(self, tokens: Any, bias: Any = None) -> Any:
        """Run all layers; `bias` of shape (B, 1, L, L) is added to the attention."""
        return self.vision.encoder(inputs_embeds=tokens, attention_mask=bias).last_hidden_state

    def project(self, states: Any) -> Any:
        """Bring states of CLIP's last layer to the space of texts, of length one."""
        projected = self.model.visual_projection(self.vision.post_layernorm(states))
        return functional.normalize(projected.float(), dim=-1)

    def _inputs(self, pixels: Any) -> dict[str, Any]:
        if self._packed:
            return self._pack(pixels)
        if self._resizable and pixels.shape[-1] != self.image_size:
            return {"pixel_values": pixels, "interpolate_pos_encoding": True}
        return {"pixel_values": pixels}

    def _pack(self, pixels: Any) -> dict[str, Any]:
        """Cut pixels to patches, as SigLIP 2 with native resolution wants them: rows, columns, then colours."""
        count, colours, height, width = pixels.shape
        side = self.patch_size
        rows, columns = height // side, width // side
        patches = pixels.view(count, colours, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1)
        shapes = torch.tensor([[rows, columns]], device=pixels.device).expand(count, 2)
        return {
            "pixel_values": patches.reshape(count, rows * columns, side * side * colours),
            "pixel_attention_mask": torch.ones(count, rows * columns, dtype=torch.int32, device=pixels.device),
            "spatial_shapes": shapes,
        }


def _kind(model: Any, vision: Any) -> Literal["clip", "siglip"] | None:
    if hasattr(vision, "pre_layrnorm") and hasattr(model, "visual_projection"):
        return "clip"
    return "siglip" if hasattr(getattr(vision, "head", None), "probe") else None
