import asyncio
import math
import sys
import threading
import types
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace

import pytest

from hpl_gym.agents.backends.request import Request, Usage
from hpl_gym.agents.backends.vllm import TOP_K, Stopwatch, VLLMBackend, top_entropy
from hpl_gym.core import HPLGymError, MissingExtraError

STOP = 9
TOP = {token: math.log(0.5 / TOP_K) for token in range(100, 100 + TOP_K)}
SAMPLED = math.log(0.01)


class Kind(Enum):
    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass
class EngineArgs:
    """vLLM's arguments, those that are used or passed through."""

    model: str
    enable_prefix_caching: bool
    generation_config: str
    logprobs_mode: str
    max_logprobs: int
    disable_log_stats: bool
    tensor_parallel_size: int = 1


@dataclass
class Parameters:
    """vLLM's sampling parameters, with its checks of those that are used."""

    seed: int
    temperature: float
    max_tokens: int
    stop_token_ids: list[int]
    ignore_eos: bool
    logprobs: int
    output_kind: Kind
    detokenize: bool

    def __post_init__(self):
        assert -(2**63) <= self.seed < 2**63
        assert self.seed != -1
        assert isinstance(self.stop_token_ids, list)
        assert self.max_tokens >= 1


@dataclass
class Engine:
    """vLLM's asynchronous engine, of which one event loop may ask."""

    arguments: EngineArgs
    loop: asyncio.AbstractEventLoop
    asked: list[tuple[dict, Parameters, str]] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    prompts: set[tuple[int, ...]] = field(default_factory=set)
    most: int = 0
    running: int = 0
    is_shut_down: bool = False

    @classmethod
    def from_engine_args(cls, arguments):
        if arguments.model == "broken":
            raise ValueError("no such model")
        return cls(arguments, asyncio.get_running_loop())

    async def generate(self, prompt, sampling_params, request_id):
        assert asyncio.get_running_loop() is self.loop
        assert not self.is_shut_down
        self.asked.append((prompt, sampling_params, request_id))
        ids = tuple(prompt["prompt_token_ids"])
        cached = 16 * ((len(ids) - 1) // 16) if ids in self.prompts else 0
        self.prompts.add(ids)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(60 if sampling_params.max_tokens > 1000 else 0.01)
        except asyncio.CancelledError:
            self.aborted.append(request_id)
            raise
        finally:
            self.running -= 1
        tokens = [7, 100, *sampling_params.stop_token_ids][: sampling_params.max_tokens]
        scores = {7: SAMPLED, 100: TOP[100], STOP: SAMPLED}
        yield SimpleNamespace(
            outputs=[
                SimpleNamespace(
                    text="",
                    token_ids=tokens,
                    logprobs=[
                        {
                            token: SimpleNamespace(logprob=score)
                            for token, score in ({one: scores[one]} | TOP).items()
                        }
                        for one in tokens
                    ],
                )
            ],
            finished=True,
            num_cached_tokens=cached,
        )

    def shutdown(self):
        assert not self.running
        self.is_shut_down = True


@pytest.fixture
def vllm(monkeypatch):
    modules = {
        "vllm": {
            "AsyncEngineArgs": EngineArgs,
            "SamplingParams": Parameters,
            "TokensPrompt": dict,
        },
        "vllm.sampling_params": {"RequestOutputKind": Kind},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.async_llm": {"AsyncLLM": Engine},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def backend(vllm):
    backend = VLLMBackend("folder", tensor_parallel_size=2)
    yield backend
    if backend._thread.is_alive():
        asyncio.run(backend.close())


def request(seed=0, temperature=1.0, most=5, ids=tuple(range(40))):
    return Request(ids, seed, temperature, most, STOP)


async def all_of(backend, requests):
    return await asyncio.gather(*(backend.generate(one) for one in requests))


def test_the_engine_caches_prefixes_and_scores_at_temperature_1(backend):
    assert backend._engine.arguments == EngineArgs(
        model="folder",
        enable_prefix_caching=True,
        generation_config="vllm",
        logprobs_mode="raw_logprobs",
        max_logprobs=TOP_K,
        disable_log_stats=True,
        tensor_parallel_size=2,
    )


def test_token_ids_go_in_and_come_out(backend):
    (completion,) = asyncio.run(all_of(backend, [request(seed=5, temperature=0.7)]))
    assert completion.ids == (7, 100, STOP)
    assert completion.logprobs == pytest.approx((SAMPLED, TOP[100], SAMPLED))
    ((prompt, parameters, _),) = backend._engine.asked
    assert prompt == {"prompt_token_ids": list(range(40))}
    assert parameters == Parameters(
        seed=5,
        temperature=0.7,
        max_tokens=5,
        stop_token_ids=[STOP],
        ignore_eos=True,
        logprobs=TOP_K,
        output_kind=Kind.FINAL_ONLY,
        detokenize=False,
    )


def test_every_request_has_its_own_seed_in_the_range_and_its_own_name(backend):
    seeds = [0, 1, 2**63 - 1, 2**63, 2**64 - 1]
    asyncio.run(all_of(backend, [request(seed) for seed in seeds]))
    assert [asked[1].seed for asked in backend._engine.asked] == [0, 1, 2**63 - 1, 0, 2**63 - 1]
    assert len({asked[2] for asked in backend._engine.asked}) == len(seeds)


def test_requests_run_together_from_one_event_loop_after_another(backend):
    for _ in range(3):
        asyncio.run(all_of(backend, [request(seed) for seed in range(8)]))
    assert backend._engine.most == 8


def test_usage_leaves_out_what_the_prefix_cache_held(backend):
    asyncio.run(all_of(backend, [request()]))
    asyncio.run(all_of(backend, [request(most=2), request(ids=(1, 2, 3))]))
    usage = backend.usage
    assert (usage.calls, usage.tokens_in, usage.tokens_out) == (3, 40 + 40 + 3, 3 + 2 + 3)
    assert usage.tokens_computed == 40 + (40 - 32) + 3
    assert 0.02 <= usage.seconds < 2  # two at once count once


def test_seconds_are_those_with_a_request_under_way(monkeypatch):
    clock = iter([1.0, 4.0, 10.0, 10.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    watch = Stopwatch(usage := Usage())
    with watch, watch:
        pass
    with watch:
        pass
    assert usage.seconds == 3.5


def test_entropies_count_the_likeliest_tokens_and_the_others_as_one(backend):
    (completion,) = asyncio.run(all_of(backend, [request()]))
    expected = -0.5 * math.log(0.5 / TOP_K) - 0.5 * math.log(0.5)
    assert completion.entropies == pytest.approx([expected] * 3)
    assert top_entropy([0.0] + [-math.inf] * TOP_K) == 0.0
    assert top_entropy([math.log(0.5)] * 2) == pytest.approx(math.log(2))
    assert top_entropy([math.log(0.5)] * 2 + [-9999.0]) == pytest.approx(math.log(2))
    assert top_entropy([1e-9]) == 0.0  # rounded to more than all


def test_cancelling_reaches_the_engine(backend):
    async def cancelled():
        task = asyncio.create_task(backend.generate(request(most=2000)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.05)

    asyncio.run(cancelled())
    assert backend._engine.aborted == [backend._engine.asked[0][2]]
    assert backend.usage.calls == 0


def test_close_cancels_what_runs_and_ends_engine_and_thread(backend):
    async def closed():
        task = asyncio.create_task(backend.generate(request(most=2000)))
        await asyncio.sleep(0.05)
        await backend.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    engine = backend._engine
    asyncio.run(closed())
    assert engine.is_shut_down
    assert not backend._thread.is_alive()


def test_a_model_that_cannot_be_loaded_leaves_no_thread(vllm):
    threads = set(threading.enumerate())
    with pytest.raises(HPLGymError, match="does not start with broken: no such model"):
        VLLMBackend("broken")
    assert set(threading.enumerate()) == threads


def test_without_vllm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hpl-gym\[vllm\]'"):
        VLLMBackend("folder")
