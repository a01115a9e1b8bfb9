"""Models of the real classes, a thousand times smaller, made in memory: weights from a seed, tokenizers from an alphabet."""

from __future__ import annotations

import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

IMAGE, PATCH, WIDTH = 32, 8, 32
_LAYERS = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}


def clip_tokenizer():
    """CLIP's own tokenizer, with bytes for words: no merges."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)


def siglip_tokenizer():
    """A tokenizer as fast as SigLIP's, with letters for pieces: SentencePiece models cannot be made here."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["</s>", "<unk>", *map(chr, range(32, 127))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>", unk_token="<unk>", model_max_length=64
    )


def tiny_clip(seed=0):
    """A CLIPModel of 32 pixels in 16 patches, its tokenizer and its image processor."""
    tokenizer = clip_tokenizer()
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 77, "projection_dim": WIDTH, **ends, **_LAYERS}
    vision = {"image_size": IMAGE, "patch_size": PATCH, "projection_dim": WIDTH, **_LAYERS}
    torch.manual_seed(seed)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)).eval()
    size = {"height": IMAGE, "width": IMAGE}
    return model, tokenizer, CLIPImageProcessor(size={"shortest_edge": IMAGE}, crop_size=size)


def tiny_siglip(seed=0):
    """A SiglipModel of 32 pixels in 16 patches, its tokenizer and its image processor."""
    tokenizer = siglip_tokenizer()
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": WIDTH, **_LAYERS}
    vision = {"image_size": IMAGE, "patch_size": PATCH, **_LAYERS}
    torch.manual_seed(seed)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).eval()
    return model, tokenizer, SiglipImageProcessor(size={"height": IMAGE, "width": IMAGE})


def tiny_siglip2(seed=0):
    """A Siglip2Model, which takes patches of any shape of image, and its tokenizer."""
    tokenizer = siglip_tokenizer()
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": WIDTH, **_LAYERS}
    vision = {"num_patches": (IMAGE // PATCH) ** 2, "patch_size": PATCH, **_LAYERS}
    torch.manual_seed(seed)
    return Siglip2Model(Siglip2Config(text_config=text, vision_config=vision)).eval(), tokenizer, None


TINY = {"clip": tiny_clip, "siglip": tiny_siglip, "siglip2": tiny_siglip2}


def save_tiny(name, folder, seed=0):
    """Write a model to a folder as the Hub has it: weights, tokenizer, image processor."""
    model, tokenizer, processor = TINY[name](seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return folder


def colour_clip(colours):
    """A CLIPModel whose embedding is the mean colour of what it sees, and whose texts are the colours they name.

    The weights are set by hand: patches carry their mean colour, attention is uniform, everything else adds nothing.
    """
    tokenizer = clip_tokenizer()
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    layers = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    text = {"vocab_size": len(tokenizer), "projection_dim": 3, **ends, **layers}
    vision = {"image_size": IMAGE, "patch_size": PATCH, "projection_dim": 3, **layers}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=3)).eval()
    tower = model.vision_model
    with torch.no_grad():
        for name, weights in tower.named_parameters():
            weights.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        for colour in range(3):
            tower.embeddings.patch_embedding.weight[2 * colour, colour] = 1 / PATCH**2
            tower.embeddings.patch_embedding.weight[2 * colour + 1, colour] = -1 / PATCH**2
        attention = tower.encoder.layers[0].self_attn
        for linear in (attention.v_proj, attention.out_proj):
            linear.weight.copy_(torch.eye(8))
        model.visual_projection.weight.copy_(torch.eye(8)[::2][:3])
        model.logit_scale.fill_(3.0)

    def get_text_features(input_ids, attention_mask=None):
        texts = tokenizer.batch_decode(input_ids, skip_special_tokens=True)
        known = [next(value for name, value in colours.items() if name in text) for text in texts]
        return torch.tensor(known, dtype=torch.float32) / 127.5 - 1

    model.get_text_features = get_text_features
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return model, tokenizer, CLIPImageProcessor(size={"shortest_edge": IMAGE}, **half)
