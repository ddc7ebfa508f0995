"""A tiny language model and conversations for tests, made on the spot."""

from functools import cache

import torch
from hypothesis import strategies as st

from hpl_gym.trainers.sections import TinyConfig
from hpl_gym.trainers.tiny import make_model, train_tokenizer
from hpl_gym.wrappers.transcript import Conversation

WORDS = ["a mug", "cabinet 12", "go to", "Ünïcode ✓", "line\nbreak", "the shelf.", "<b>", ""]
PROMPT = "Do the task."


@cache
def tokenizer():
    return train_tokenizer([*WORDS, "Thought: I look.\nAction: look", PROMPT], 400)


def new_model(seed=0):
    """A model whose every block has a say, unlike a fresh one's: as if it had learned something."""
    made = make_model(TinyConfig(layers=2, width=32, heads=2, kv_heads=1), tokenizer(), seed)
    generator = torch.Generator().manual_seed(seed)
    for weight in made.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.06, generator=generator)
    return made


@cache
def model():
    return new_model().eval()


def conversation(*turns: tuple[str, str], task_id: str = "t") -> Conversation:
    talk = Conversation("HPL/Test-v0", task_id, "kind", "do it", "You see a mug.")
    for reply, observation in turns:
        talk = talk.add(reply, observation)
    return talk


texts = st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join)
conversations = st.lists(st.tuples(texts, texts), max_size=4).map(lambda t: conversation(*t))
