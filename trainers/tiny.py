"""A tiny language model made on the spot, for machines without weights or a GPU."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

from hpl_gym.trainers.sections import TinyConfig

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Qwen2Tokenizer:
    """Train Qwen2's byte-level BPE; with enough room, each word and each digit is one token.

    Whatever loads a Qwen2 or Qwen3 model gives it Qwen2's rules for cutting text, so a tokenizer
    with other rules would give other tokens after training than in it.

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


def make_model(config: TinyConfig, tokenizer: Qwen2Tokenizer, seed: int) -> Qwen3ForCausalLM:
    """Return a small Qwen3-architecture model with random weights drawn from `seed`.

    What a block adds to its input begins as zero (as in Fixup, Zhang et al. 2019): the model begins
    without attention and learns to copy far sooner.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=config.width,
                intermediate_size=4 * config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.kv_heads,
                head_dim=config.width // config.heads,
                tie_word_embeddings=True,
                initializer_range=0.06,  # narrow layers learn faster from larger weights than 0.02
                max_position_embeddings=8192,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            torch.nn.init.zeros_(weight)
    return model
