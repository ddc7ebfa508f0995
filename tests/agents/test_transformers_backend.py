import asyncio

import pytest
import torch

from hpl_gym.agents.backends.request import Request
from hpl_gym.agents.backends.transformers import TransformersBackend
from hpl_gym.agents.chat import ChatEncoder
from hpl_gym.agents.language_model import LanguageModelAgent, ModelFolderError, load_model
from tests.language import PROMPT, conversation, model, tokenizer


def requests(temperature, count=12):
    encoder = ChatEncoder(tokenizer(), PROMPT)
    made = []
    for number in range(count):
        talk = conversation(*[("go to a mug", f"cabinet {k}") for k in range(number % 5)])
        context = encoder.encode(talk, ask=True)
        made.append(
            Request(context.ids, context.bounds, number, temperature, 5 + number, encoder.end_id)
        )
    return made


def run(backend, some):
    async def together():
        return await asyncio.gather(*(backend.generate(one) for one in some))

    return asyncio.run(together())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_batching_and_kept_prefixes_do_not_change_replies(temperature):
    some = requests(temperature)
    alone = [run(TransformersBackend(model()), [one])[0] for one in some]
    backend = TransformersBackend(model(), max_batch=5)
    for _ in range(2):  # the second time from kept prefixes
        together = run(backend, some)
        assert [one.ids for one in together] == [one.ids for one in alone]
        for one, other in zip(together, alone, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
            assert one.entropies == pytest.approx(other.entropies, abs=1e-4)


def test_greedy_equals_generate_of_the_library():
    for one in requests(0.0):
        (mine,) = run(TransformersBackend(model()), [one])
        theirs = model().generate(
            torch.tensor([one.ids]),
            max_new_tokens=one.max_new_tokens,
            do_sample=False,
            eos_token_id=one.stop_id,
        )[0, len(one.ids) :]
        assert list(mine.ids) == theirs.tolist()


def test_logprobs_and_entropies_are_those_of_the_model():
    (one,) = requests(1.0, 1)
    (completion,) = run(TransformersBackend(model()), [one])
    ids = torch.tensor([one.ids + completion.ids])
    scores = torch.log_softmax(model()(input_ids=ids).logits[0].float(), dim=-1)
    for place, token in enumerate(completion.ids):
        row = scores[len(one.ids) - 1 + place]
        assert completion.logprobs[place] == pytest.approx(row[token].item(), abs=1e-4)
        entropy = torch.distributions.Categorical(logits=row).entropy().item()
        assert completion.entropies[place] == pytest.approx(entropy, abs=1e-4)


def test_a_shared_context_is_computed_once():
    backend = TransformersBackend(model())
    (one, *_) = requests(1.0)
    run(backend, [one] * 1)
    computed = backend.usage.tokens_computed
    agent = LanguageModelAgent(backend, ChatEncoder(tokenizer(), PROMPT), temperature=1.0)

    async def five():
        talk = conversation(("go to a mug", "cabinet 1"))
        return await asyncio.gather(*(agent.act(talk, seed) for seed in range(5)))

    asyncio.run(five())
    new = backend.usage.tokens_computed - computed
    assert new < len(agent.encoder.encode(conversation(("go to a mug", "cabinet 1")), ask=True).ids)


def test_sampling_follows_the_distribution():
    (one,) = requests(1.0, 1)
    scores = torch.softmax(model()(input_ids=torch.tensor([one.ids])).logits[0, -1], dim=-1)
    top = int(scores.argmax())
    draws = [Request(one.ids, one.bounds, seed, 1.0, 1, one.stop_id) for seed in range(2000)]
    completions = run(TransformersBackend(model(), max_batch=500), draws)
    share = sum(done.ids[0] == top for done in completions) / len(draws)
    expected = scores[top].item()
    assert abs(share - expected) < 4 * (expected * (1 - expected) / len(draws)) ** 0.5


def test_old_prefixes_are_dropped():
    backend = TransformersBackend(model(), cache_tokens=60)
    run(backend, requests(0.0))
    assert backend._kept <= 60 or len(backend._prefixes) == 1
    assert backend._kept == sum(map(len, backend._prefixes))


def test_an_error_reaches_every_asker():
    backend = TransformersBackend(model())
    bad = Request((10**6,), (1,), 0, 0.0, 3, 1)
    with pytest.raises(IndexError):
        run(backend, [bad])


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(ModelFolderError, match="not a model folder"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelFolderError):
        load_model(tmp_path)
