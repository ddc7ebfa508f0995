"""A tiny language model made on the spot, for machines without weights or a GPU."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from hpl_gym.trainers.sections import TinyConfig

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Qwen2Tokenizer:
    """Train Qwen2's byte-level BPE; with enough room, each word and each digit is one token.

    Whatever loads a Qwen2 model gives it Qwen2's rules for cutting text, so a tokenizer with other
    rules would give other tokens after training than in it.

    Args:
        texts: The transcripts' texts.
        vocabulary: Most tokens.
    """
    base = Qwen2Tokenizer(
        unk_token="<|pad|>",
        pad_token="<|pad|>",
        eos_token="<|end|>",
        extra_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        chat_template=CHAT_TEMPLATE,
    )
    return base.train_new_from_iterator(texts, vocabulary, show_progress=False)


def make_model(config: TinyConfig, tokenizer: Qwen2Tokenizer, seed: int) -> Qwen2ForCausalLM:
    """Return a small Qwen2-architecture model with random weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=len(tokenizer),
                hidden_size=config.width,
                intermediate_size=4 * config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.kv_heads,
                tie_word_embeddings=True,
                initializer_range=0.06,  # narrow layers learn faster from larger weights than 0.02
                max_position_embeddings=8192,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
