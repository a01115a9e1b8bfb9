"""Detectors of the real classes, a thousand times smaller, made in memory: weights from a seed, no network."""

from __future__ import annotations

import importlib

import numpy as np
import torch
import transformers

from support.tiny_models import clip_tokenizer

_LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_HEADS = {"hidden_size": 16, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def _pil_processor(family, **options):
    """The image processor that needs no torchvision."""
    module = importlib.import_module(f"transformers.models.{family}.image_processing_pil_{family}")
    (name,) = [name for name in module.__all__ if name.endswith("ImageProcessorPil")]
    return getattr(module, name)(**options)


def _text_config(tokenizer):
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return {"vocab_size": len(tokenizer), "max_position_embeddings": 24, **ends, **_LAYERS}


def tiny_owl(family="owlv2", seed=0):
    """An OWL-ViT or OWLv2 of 32 pixels in 16 patches."""
    tokenizer = clip_tokenizer()
    prefix = {"owlvit": "OwlViT", "owlv2": "Owlv2"}[family]
    config = getattr(transformers, f"{prefix}Config")(
        text_config=_text_config(tokenizer),
        vision_config={"image_size": 32, "patch_size": 8, **_LAYERS},
        projection_dim=32,
    )
    torch.manual_seed(seed)
    model = getattr(transformers, f"{prefix}ForObjectDetection")(config).eval()
    return model, _pil_processor(family, size={"height": 32, "width": 32}), tokenizer


def letter_tokenizer():
    """BERT's kind of tokenizer, with letters for pieces."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", *letters, *("##" + letter for letter in letters)]
    vocab = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **marks)


def tiny_dino(seed=0):
    """A Grounding DINO with six queries."""
    tokenizer = letter_tokenizer()
    swin = {"model_type": "swin", "image_size": 32, "patch_size": 4, "embed_dim": 8, "window_size": 2}
    swin |= {"depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "out_features": ["stage2", "stage3", "stage4"]}
    layers = {"encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "d_model": 32}
    text = {"model_type": "bert", "vocab_size": len(tokenizer), "max_position_embeddings": 64, **_LAYERS}
    torch.manual_seed(seed)
    config = transformers.GroundingDinoConfig(
        backbone_config=swin, text_config=text, num_queries=6, max_text_len=32, **layers, **heads
    )
    model = transformers.GroundingDinoForObjectDetection(config).eval()
    return model, _pil_processor("grounding_dino", size={"shortest_edge": 96, "longest_edge": 160}), tokenizer


def square_images(images, return_tensors):
    """What SAM 3's image processor does, which itself needs torchvision: one square size, values of -1 to 1."""
    from PIL import Image

    resized = [np.asarray(Image.fromarray(image).resize((56, 56))) for image in images]
    return {"pixel_values": torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2) / 127.5 - 1}


def tiny_sam3(seed=0):
    """A SAM 3 of 56 pixels in 16 patches, with five queries."""
    tokenizer = clip_tokenizer()
    vit = {"model_type": "sam3_vit_model", "image_size": 56, "patch_size": 14, "window_size": 2, **_LAYERS}
    vit |= {"global_attn_indexes": [1], "pretrain_image_size": 28}
    sizes = [[16, 16], [8, 8], [4, 4]]
    torch.manual_seed(seed)
    config = transformers.Sam3Config(
        vision_config={"backbone_config": vit, "fpn_hidden_size": 16, "backbone_feature_sizes": sizes},
        text_config={**_text_config(tokenizer), "projection_dim": 16},
        geometry_encoder_config=dict(_HEADS),
        detr_encoder_config=dict(_HEADS),
        detr_decoder_config={**_HEADS, "num_queries": 5},
        mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2},
    )
    return transformers.Sam3Model(config).eval(), square_images, tokenizer


TINY_DETECTORS = {
    "owlvit": lambda: tiny_owl("owlvit"),
    "owlv2": lambda: tiny_owl("owlv2"),
    "grounding-dino": tiny_dino,
    "sam3": tiny_sam3,
}
