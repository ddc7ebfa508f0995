"""The `vllm` backend: vLLM's offline engine, with prefix caching, on one GPU or many."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hpl_gym.agents.backends.request import Completion, Request, Usage
from hpl_gym.core import HPLGymError, MissingExtraError

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

# How many log-probs of each place are asked for: the most that vLLM gives unless told otherwise.
TOP_K = 20
# vLLM's seeds are signed 64-bit integers, of which -1 means none.
SEEDS = 2**63


class VLLMBackend:
    """Generates with vLLM's asynchronous engine, which batches whatever is waiting.

    Token ids go in and token ids come out. Only `Request.stop_id` and `Request.max_new_tokens` end
    a continuation. The engine samples by its own generator, seeded per request, so its replies are
    other ones than those of the `transformers` backend with the same seed. They depend on batching
    only as far as the kernels' rounding does: set ``VLLM_BATCH_INVARIANT=1`` in the environment, on
    GPUs that vLLM supports it on, to rule that out too.

    The engine lives in an event loop and thread of its own, so that it outlasts the caller's loop.
    Log-probs are the sampled tokens' own; entropies are estimates, see `top_entropy`.

    Args:
        model: A model folder or hub name.
        engine: More arguments of vLLM's ``AsyncEngineArgs``, such as ``tensor_parallel_size``,
            ``gpu_memory_utilization`` or ``max_model_len``.

    Attributes:
        usage: What was done so far. Its ``tokens_computed`` leaves out what the prefix cache held;
            its ``seconds`` are those in which at least one request was under way.

    Raises:
        MissingExtraError: vLLM is not installed.
        HPLGymError: The engine does not start; the text holds vLLM's reason.
    """

    def __init__(self, model: str, **engine: Any) -> None:
        try:
            from vllm import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise MissingExtraError(
                "The vLLM backend needs the vllm extra: pip install 'hpl-gym[vllm]'."
            ) from error
        self.usage = Usage()
        self._watch = Stopwatch(self.usage)
        self._names = itertools.count()
        arguments = AsyncEngineArgs(
            model=model,
            enable_prefix_caching=True,
            generation_config="vllm",
            logprobs_mode="raw_logprobs",
            max_logprobs=TOP_K,
            disable_log_stats=True,
            **engine,
        )

        async def start() -> AsyncLLM:
            return AsyncLLM.from_engine_args(arguments)

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        try:
            self._engine = asyncio.run_coroutine_threadsafe(start(), self._loop).result()
        except Exception as error:
            self._stop_loop()
            raise HPLGymError(f"vLLM does not start with {model}: {error}") from error

    async def generate(self, request: Request) -> Completion:
        """Return the continuation of `request`; cancelling this also cancels it in the engine."""
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(self._generate(request), self._loop)
        )

    async def _generate(self, request: Request) -> Completion:
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        parameters = SamplingParams(
            seed=request.seed % SEEDS,
            temperature=request.temperature,
            max_tokens=request.max_new_tokens,
            stop_token_ids=[request.stop_id],
            ignore_eos=True,
            logprobs=TOP_K,
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=False,
        )
        prompt = TokensPrompt(prompt_token_ids=list(request.ids))
        with self._watch:
            try:
                name = str(next(self._names))
                async for output in self._engine.generate(prompt, parameters, name):
                    final = output
            except ValueError as error:
                raise HPLGymError(f"vLLM refuses a request: {error}") from error
        (answer,) = final.outputs
        ids = tuple(answer.token_ids)
        self.usage.calls += 1
        self.usage.tokens_in += len(request.ids)
        self.usage.tokens_computed += len(request.ids) - (final.num_cached_tokens or 0)
        self.usage.tokens_out += len(ids)
        return Completion(
            ids,
            tuple(place[token].logprob for token, place in zip(ids, answer.logprobs, strict=True)),
            tuple(top_entropy(one.logprob for one in place.values()) for place in answer.logprobs),
        )

    async def close(self) -> None:
        """Cancel what is running, end vLLM's processes and free the GPUs."""

        async def finish() -> None:
            running = asyncio.all_tasks() - {asyncio.current_task()}
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            self._engine.shutdown()
            # Now, for its finalizer fails when the interpreter ends.
            del self._engine

        asyncio.run_coroutine_threadsafe(finish(), self._loop).result()
        self._stop_loop()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Stopwatch:
    """Adds the time in which at least one request is under way to `Usage.seconds`."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._running = 0
        self._since = 0.0

    def __enter__(self) -> None:
        if not self._running:
            self._since = time.perf_counter()
        self._running += 1

    def __exit__(self, *_: object) -> None:
        self._running -= 1
        if not self._running:
            self._usage.seconds += time.perf_counter() - self._since


def top_entropy(logprobs: Iterable[float]) -> float:
    """Return the entropy in nats of the `TOP_K` likeliest tokens, all others counted as one.

    This is at most the entropy of the whole distribution. It falls short by the mass of the others
    times their own entropy, at most ``mass * log(vocabulary - TOP_K)``.

    Args:
        logprobs: Log-probs at one place, in nats, of the `TOP_K` likeliest tokens; the sampled
            token's may be there as one more, and is not used then.
    """
    top = [math.exp(logprob) for logprob in heapq.nlargest(TOP_K, logprobs)]
    others = max(0.0, 1.0 - sum(top))
    return max(0.0, sum(-share * math.log(share) for share in (*top, others) if share > 0))
