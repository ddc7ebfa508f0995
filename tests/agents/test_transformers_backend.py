import asyncio
import copy
import random
from functools import cache
from itertools import accumulate, islice, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from hpl_gym.agents.backends.drafts import Drafts
from hpl_gym.agents.backends.prefixes import Prefixes, common_length
from hpl_gym.agents.backends.request import Request
from hpl_gym.agents.backends.transformers import TransformersBackend
from hpl_gym.agents.chat import ChatEncoder
from hpl_gym.agents.language_model import (
    LanguageModelAgent,
    ModelFolderError,
    load_agent,
    load_model,
    longest_context,
)
from hpl_gym.core import HPLGymError
from tests.language import PROMPT, conversation, model, tokenizer


def requests(temperature, count=12):
    encoder = ChatEncoder(tokenizer(), PROMPT)
    made = []
    for number in range(count):
        talk = conversation(*[("go to a mug", f"cabinet {k}") for k in range(number % 5)])
        context = encoder.encode(talk, ask=True)
        made.append(Request(context.ids, number, temperature, 5 + number, encoder.end_id))
    return made


@cache
def double():
    return copy.deepcopy(model()).double()


def run(backend, some):
    async def together():
        return await asyncio.gather(*(backend.generate(one) for one in some))

    return asyncio.run(together())


def tree_of_requests(seed, count):
    """Requests at the nodes of a random tree of contexts, some for the same context."""
    rng, most = random.Random(seed), len(tokenizer())
    contexts = [tuple(rng.randrange(5, most) for _ in range(rng.randrange(1, 150)))]
    while len(contexts) < count:
        context = rng.choice(contexts)
        cut = rng.choice([len(context), rng.randrange(1, len(context) + 1)])
        more = rng.choice([0, 1, 3, 20, 70])
        contexts.append(context[:cut] + tuple(rng.randrange(5, most) for _ in range(more)))
    return [
        Request(ids, rng.getrandbits(60), rng.choice([0.0, 0.7, 1.0]), limit, 4)
        for ids in contexts
        for limit in [rng.randrange(1, 24)]
    ]


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 5, 64]), st.sampled_from([0, 60_000, 2**30]))
@settings(max_examples=30, deadline=None)
def test_a_reply_depends_on_its_request_alone(seed, max_batch, cache_bytes):
    some = tree_of_requests(seed, 12)
    alone = [run(TransformersBackend(double()), [one])[0] for one in some]
    backend = TransformersBackend(double(), max_batch=max_batch, cache_bytes=cache_bytes)
    rng = random.Random(seed)
    for _ in range(2):  # the second time with whatever is kept
        order = rng.sample(range(len(some)), len(some))
        together = run(backend, [some[place] for place in order])
        assert together == [alone[place] for place in order]
        assert backend._prefixes.nbytes <= cache_bytes


def test_batches_have_the_contexts_of_like_length_and_replies_stay_with_their_requests():
    made = [*tree_of_requests(1, 30), *tree_of_requests(2, 30)]
    alone = [run(TransformersBackend(double()), [one])[0] for one in made]
    assert run(TransformersBackend(double()), made) == alone
    assert len({len(one.ids) for one in alone}) > 5  # rows were dropped on the way


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


def distinct_tokens(contexts):
    """Return the number of nodes of the trie of `contexts`."""
    ordered = sorted(set(contexts))
    shared = sum(common_length(one, other) for one, other in pairwise(ordered))
    return sum(map(len, ordered)) - shared


def undecoded_tokens(contexts, replies):
    """Return how many of them decoding does not leave the keys and values of."""

    def nodes(ids):
        return accumulate(ids, lambda node, token: hash((node, token)), initial=0)

    decoded = set()
    for context, reply in zip(contexts, replies, strict=True):
        decoded.update(islice(nodes(reply), len(context) + 1, len(reply)))
    return len({node for context in contexts for node in islice(nodes(context), 1, None)} - decoded)


def explore(backend, turns=6, rollouts=5):
    """Ask what an exploration asks: branches off every expert step, rollouts off their ends.

    Returns the contexts asked about, and each with its reply.
    """
    encoder = ChatEncoder(tokenizer(), PROMPT)
    agent = LanguageModelAgent(backend, encoder, temperature=1.0, max_new_tokens=6)
    contexts, replies = [], []

    async def play(talk, seed, end):
        while len(talk.turns) < end:
            reply = await agent.act(talk, seed)
            contexts.append(encoder.encode(talk, ask=True).ids)
            replies.append(contexts[-1] + reply.token_ids)
            seen = f"cabinet {len(reply.token_ids)} {reply.text[:5]}"
            talk = talk.add(reply.text, seen, reply.token_ids)
        return talk

    async def branch(task, start):
        steps = [("go to a mug", f"cabinet {k} " + "the shelf. " * k) for k in range(start)]
        talk = conversation(*steps, task_id=task)
        ends = [await play(talk, 0, min(start + 2, turns)), talk]
        await asyncio.gather(*(play(end, m, turns) for end in ends for m in range(rollouts)))

    async def everything():
        await asyncio.gather(*(branch(task, k) for task in "ab" for k in range(turns)))

    asyncio.run(everything())
    return contexts, replies


def test_an_exploration_computes_each_shared_prefix_once():
    backend = TransformersBackend(double(), max_batch=20)
    contexts, replies = explore(backend)
    needed = undecoded_tokens(contexts, replies)
    assert needed < distinct_tokens(contexts) < backend.usage.tokens_in / 5
    assert needed <= backend.usage.tokens_computed <= 1.2 * needed
    without = TransformersBackend(double(), max_batch=20, cache_bytes=0)
    assert sorted(explore(without)[1]) == sorted(replies)
    assert without.usage.tokens_computed > 2 * backend.usage.tokens_computed


def test_contexts_in_one_batch_share_what_they_have_in_common():
    beginning = tuple(range(5, 205))
    ends = [(7,), (8, 9), tuple(range(5, 105)), (*range(5, 95), 250), ()]
    some = [Request(beginning + end, 0, 1.0, 3, 4) for end in ends for _ in range(2)]
    backend = TransformersBackend(model(), cache_bytes=0)
    run(backend, some)
    assert distinct_tokens([one.ids for one in some]) == 200 + 1 + 2 + 100 + 1
    assert backend.usage.tokens_computed == 200 + 1 + 2 + 100 + 1 + 1  # the last of `beginning`


def test_sampling_follows_the_distribution():
    (one,) = requests(1.0, 1)
    scores = torch.softmax(model()(input_ids=torch.tensor([one.ids])).logits[0, -1], dim=-1)
    top = int(scores.argmax())
    draws = [Request(one.ids, seed, 1.0, 1, one.stop_id) for seed in range(2000)]
    completions = run(TransformersBackend(model(), max_batch=500), draws)
    share = sum(done.ids[0] == top for done in completions) / len(draws)
    expected = scores[top].item()
    assert abs(share - expected) < 4 * (expected * (1 - expected) / len(draws)) ** 0.5


def states(ids, wide=3):
    """Keys and values that tell which prefix each of them belongs to."""
    numbers = [float(hash(ids[: end + 1])) for end in range(len(ids))]
    return torch.tensor(numbers, dtype=torch.float64).view(1, 1, 1, -1, 1).expand(2, 2, 1, -1, wide)


sequences = st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple)


@given(st.lists(st.tuples(sequences, st.integers(0, 40)), max_size=25))
def test_the_trie_holds_what_was_added_and_drops_what_was_used_least_recently(steps):
    kept = Prefixes(states((0,))[:, :, :, :0].clone())
    token = 2 * 2 * 3 * 8
    added = []
    for ids, limit in steps:
        before = kept.length(ids)
        kept.add(ids, states(ids)[:, :, :, before // 2 :])
        added.append(ids)
        assert kept.length(ids) == len(ids)
        for one in added:
            length = kept.length(one)
            found = torch.cat([states((0,))[:, :, :, :0], *kept.pieces(one)], dim=3)
            assert torch.equal(found, states(one)[:, :, :, :length])
        held = {one[:end] for one in added for end in range(1, kept.length(one) + 1)}
        assert kept.nbytes == token * len(held)
        kept.pieces(ids)
        kept.shrink(limit * token)
        assert kept.nbytes <= limit * token
        if limit >= len(ids):
            assert kept.length(ids) == len(ids)  # used last, dropped last


def test_memory_of_kept_prefixes_is_bounded_and_freed():
    backend = TransformersBackend(model(), cache_bytes=50_000)
    run(backend, requests(0.0))
    pieces = [node.states for node in backend._prefixes._nodes]
    assert pieces
    assert backend._prefixes.nbytes == sum(piece.nbytes for piece in pieces) <= 50_000
    assert all(piece.untyped_storage().nbytes() == piece.nbytes for piece in pieces)


def test_a_backend_outlives_an_interrupted_loop():
    backend = TransformersBackend(model())
    one, two = requests(0.0, 2)

    async def interrupted():
        asking = asyncio.ensure_future(backend.generate(one))
        await asyncio.sleep(0)
        asking.cancel()

    asyncio.run(interrupted())
    (expected,) = run(TransformersBackend(model()), [two])
    assert run(backend, [two]) == [expected]
    assert backend.usage.calls == 1


def test_an_error_reaches_every_asker():
    backend = TransformersBackend(model())
    bad = Request((10**6,), 0, 0.0, 3, 1)
    with pytest.raises(IndexError):
        run(backend, [bad])


SMALL = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


def test_layers_with_a_window_are_refused():
    config = MistralConfig(vocab_size=99, sliding_window=8, **SMALL)
    with pytest.raises(HPLGymError, match="without full attention"):
        TransformersBackend(MistralForCausalLM(config))


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_positions_that_change_with_the_length_are_refused(kind):
    half = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4} if kind == "longrope" else {}
    config = LlamaConfig(
        vocab_size=99,
        max_position_embeddings=64,
        **SMALL,
        rope_parameters={
            "rope_type": kind,
            "rope_theta": 1e4,
            "factor": 2.0,
            "original_max_position_embeddings": 32,
            **half,
        },
    )
    with pytest.raises(HPLGymError, match="dynamic or longrope"):
        TransformersBackend(LlamaForCausalLM(config))


def test_models_without_given_positions_are_refused():
    sizes = {"vocab_size": 99, "n_layers": 2, "n_heads": 2}
    with pytest.raises(HPLGymError, match=r"Mpt.* positions of its tokens"):
        TransformersBackend(MptForCausalLM(MptConfig(d_model=16, max_seq_len=64, **sizes)))
    config = FalconConfig(
        vocab_size=99, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, alibi=True
    )
    with pytest.raises(HPLGymError, match=r"Falcon.* positions of its tokens"):
        TransformersBackend(FalconForCausalLM(config))


def test_keys_and_values_of_different_widths_are_refused():
    config = DeepseekV2Config(
        vocab_size=99,
        moe_intermediate_size=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        kv_lora_rank=8,
        q_lora_rank=8,
        qk_rope_head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=8,
        **SMALL,
    )
    with pytest.raises(HPLGymError, match="different widths"):
        TransformersBackend(DeepseekV2ForCausalLM(config))


def test_a_mixture_of_experts_plays_in_double_precision(tmp_path):
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer()),
        moe_intermediate_size=16,
        num_experts=4,
        num_experts_per_tok=2,
        head_dim=8,
        max_position_embeddings=512,
        **SMALL,
    )
    Qwen3MoeForCausalLM(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    agent = load_agent(tmp_path, prompt="brief", max_new_tokens=8, device="cpu:0")
    assert agent.backend.model.dtype == torch.float64
    assert len(asyncio.run(agent.act(conversation())).token_ids) > 0


def test_no_position_beyond_a_models_last_is_asked_for(monkeypatch):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer()), n_positions=60, n_embd=16, n_layer=2, n_head=2)

    def recall(self, replies, rows, most):  # wide guesses for one beside another that ends soon
        return [[7] * min(6, most) if one.left > 6 else [] for one in replies]

    monkeypatch.setattr(TransformersBackend, "_recall", recall)
    some = [Request(tuple(range(5, 17)), 1, 1.0, 20, 4), Request((9,) * 55, 2, 1.0, 5, 4)]
    backend = TransformersBackend(GPT2LMHeadModel(config))
    assert all(run(backend, some))


def test_a_second_thread_is_told_and_does_not_hang():
    backend = TransformersBackend(model())
    told = []

    async def first():
        one = asyncio.ensure_future(backend.generate(requests(1.0)[3]))
        await asyncio.sleep(0)
        await asyncio.to_thread(second)
        return await one

    def second():
        with pytest.raises(HPLGymError, match="another thread"):
            run(backend, requests(1.0)[:1])
        told.append(True)

    assert asyncio.run(first()).ids
    assert told
    assert run(backend, requests(1.0)[:1])  # the first has ended


def test_broken_weights_are_named(tmp_path):
    model().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelFolderError, match="No model can be loaded"):
        load_model(tmp_path)


def test_a_context_ends_where_the_models_positions_do(tmp_path):
    short = copy.deepcopy(model())
    short.config.max_position_embeddings = 200
    short.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert load_agent(tmp_path, max_new_tokens=50).max_context == 150
    with pytest.raises(HPLGymError, match="200 positions"):
        load_agent(tmp_path, max_new_tokens=200)
    with pytest.raises(HPLGymError, match=r"room for 150: .*prompt=brief"):
        asyncio.run(load_agent(tmp_path, max_new_tokens=50).act(conversation()))
    for wrong in ({"temperature": -1.0}, {"temperature": float("nan")}, {"max_new_tokens": 0}):
        with pytest.raises(HPLGymError, match="cannot be played"):
            load_agent(tmp_path, **wrong)


def test_positions_by_another_name_count(tmp_path):
    GPT2Config(n_positions=200).save_pretrained(tmp_path)
    assert longest_context(tmp_path, 50) == 150


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(ModelFolderError, match="not a model folder"):
        load_model(tmp_path)
    for config in ("{}", "{", '{"model_type": "unheard-of"}'):
        (tmp_path / "config.json").write_text(config)
        for load in (load_model, load_agent, lambda folder: longest_context(folder, 50)):
            with pytest.raises(ModelFolderError):
                load(tmp_path)


def counted(monkeypatch, some_model):
    """Makes a model note how many tokens of a row each decoding step computes; returns the list."""
    steps, forward = [], some_model.forward

    def noting(*arguments, **options):
        if "logits_to_keep" not in options:
            steps.append(options["input_ids"].shape[1])
        return forward(*arguments, **options)

    monkeypatch.setattr(some_model, "forward", noting)
    return steps


def test_guesses_save_steps_and_change_nothing(monkeypatch):
    some = requests(1.0)
    backend = TransformersBackend(double())
    steps = counted(monkeypatch, backend._fast)
    first = run(backend, some)
    learning, steps[:] = len(steps), []
    assert run(backend, some) == first
    assert len(steps) < learning / 2
    assert max(steps) > 1
    assert [run(TransformersBackend(double()), [one])[0] for one in some] == first


def test_in_double_precision_replies_are_computed_in_one_step_and_wrong_guesses_change_nothing(
    monkeypatch,
):
    some = requests(1.0)
    backend, other = TransformersBackend(double()), TransformersBackend(double())
    steps = counted(monkeypatch, double())
    first = run(backend, some)
    assert steps == [max(len(one.ids) for one in first) - 1]
    with torch.no_grad():
        for weight in other._fast.parameters():
            weight.mul_(1.1)
    steps.clear()
    assert run(other, some) == first
    assert len(steps) > 1


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=5), st.integers(0, 20))
def test_drafts_know_the_last_reply(replies, count):
    drafts = Drafts()
    assert drafts.guess([], count) == []
    for reply in replies:
        drafts.learn(reply)
        assert len(drafts.guess(reply, count)) <= count
    distinct = [100 + place for place in range(10)]
    drafts.learn(distinct)
    assert drafts.guess([], count) == distinct[:count]
    assert drafts.guess(distinct[:6], count) == distinct[6 : 6 + count]
