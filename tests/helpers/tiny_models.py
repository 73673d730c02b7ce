"""Vision-language models of about 70,000 random parameters, made without a network."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

TRIPLETS = itertools.product(
    ("cat", "dog", "car", "house", "person"),
    ("left", "right", "above", "under", "on"),
    ("tree", "table"),
)
SENTENCES = [
    f"Is there a {subject} {relation} to a {other} in the image? "
    "Please answer with one word. Yes No yes no"
    for subject, relation, other in TRIPLETS
]
SPECIAL = [
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
]
TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'] + ': ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ '</s>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
VISION = {**TEXT, "image_size": 32, "patch_size": 8}


def make_tokenizer(special: list[str] = SPECIAL) -> PreTrainedTokenizerFast:
    """Return a BPE tokenizer of 600 tokens, trained on SENTENCES."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def make_model(architecture: str, folder: Path) -> Path:
    """Save a model and its processor in a folder; `architecture` is "llava" or "idefics3"."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    text = LlamaConfig(**TEXT, **ids, vocab_size=len(tokenizer), max_position_embeddings=2048)
    image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    if architecture == "llava":
        vision = CLIPVisionConfig(**VISION, projection_dim=32)
        config = LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=image_token_id,
            vision_feature_layer=-1,
        )
        size = {"shortest_edge": 32}
        pictures = CLIPImageProcessorPil(size=size, crop_size={"height": 32, "width": 32})
        processor = LlavaProcessor(
            pictures,
            tokenizer,
            patch_size=8,
            vision_feature_select_strategy="default",
            chat_template=TEMPLATE,
            image_token="<image>",
            num_additional_image_tokens=1,
        )
    else:
        config = Idefics3Config(
            image_token_id=image_token_id,
            vision_config=VISION,
            text_config=text,
            scale_factor=2,
            pad_token_id=0,
        )
        size = {"longest_edge": 32}
        pictures = Idefics3ImageProcessorPil(
            size=size, max_image_size=size, do_image_splitting=False
        )
        processor = Idefics3Processor(pictures, tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    config.tie_word_embeddings = False
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
