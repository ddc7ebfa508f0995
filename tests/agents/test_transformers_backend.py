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


def test_a_shared_context_is_computed_once_and_the_next_turn_only_adds():
    backend = TransformersBackend(model())
    encoder = ChatEncoder(tokenizer(), PROMPT)
    agent = LanguageModelAgent(backend, encoder, temperature=1.0, max_new_tokens=8)
    talk = conversation(("go to a mug", "cabinet 1"))

    async def five(talk):
        return await asyncio.gather(*(agent.act(talk, seed) for seed in range(5)))

    replies = asyncio.run(five(talk))
    context = len(encoder.encode(talk, ask=True).ids)
    assert backend.usage.tokens_computed == context
    assert backend.usage.tokens_in == 5 * context
    longer = talk.add(replies[0].text, "cabinet 2", replies[0].token_ids)
    asyncio.run(agent.act(longer))
    new = len(encoder.encode(longer, ask=True).ids) - context - len(replies[0].token_ids)
    assert backend.usage.tokens_computed == context + new + 1  # the reply's last token is not kept


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
    backend = TransformersBackend(model(), cache_bytes=50_000)
    run(backend, requests(0.0))
    held = [sum(layer.nbytes for layer in prefix) for prefix in backend._prefixes.values()]
    assert 0 < len(held) < 12
    assert sum(held) <= 50_000
    assert backend._kept == sum(held)


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
