"""The model made on the spot: what is loaded from its folder is what was trained."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpl_gym.agents.language_model import load_model
from hpl_gym.trainers.optimizer import save_model
from hpl_gym.trainers.sections import TinyConfig
from hpl_gym.trainers.tiny import make_model
from tests.language import model, tokenizer


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_model(model(), tokenizer(), folder)
    return load_model(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text() | st.sampled_from(["go to cabinet 12", "<|end|>mug 1", "  a\n\n b"]))
def test_the_loaded_tokenizer_gives_the_same_tokens(loaded, text):
    assert loaded[1](text).input_ids == tokenizer()(text).input_ids


def test_the_loaded_model_is_the_same(loaded):
    assert len(loaded[1]) == len(tokenizer()) == model().config.vocab_size
    assert loaded[1].chat_template == tokenizer().chat_template
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        assert torch.equal(loaded[0](ids).logits, model()(ids).logits)


def test_a_fresh_model_is_drawn_from_its_seed_alone_and_passes_its_input_on():
    config = TinyConfig(layers=2, width=32, heads=2, kv_heads=2)
    before = torch.get_rng_state()
    first, again, other = (make_model(config, tokenizer(), seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    weights = dict(first.named_parameters())
    for name, weight in again.named_parameters():
        assert torch.equal(weight, weights[name])
    assert not torch.equal(other.model.embed_tokens.weight, first.model.embed_tokens.weight)
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        embedded = first.model.norm(first.model.embed_tokens(ids))
        assert torch.equal(first(ids).logits, first.lm_head(embedded))
