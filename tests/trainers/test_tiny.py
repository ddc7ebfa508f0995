"""The model made on the spot: what is loaded from its folder is what was trained."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpl_gym.agents.language_model import load_model
from hpl_gym.trainers.optimizer import save_model
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
