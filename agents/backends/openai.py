"""OpenAI-compatible servers: chat models for teachers, and policies behind vLLM's server."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from hpl_gym.agents.backends.request import Completion, Request, Usage
from hpl_gym.agents.backends.vllm import SEEDS, TOP_K, Stopwatch, top_entropy
from hpl_gym.core import HPLGymError, MissingExtraError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_Read = TypeVar("_Read")


class ServerError(HPLGymError):
    """A server refuses, cannot be reached, keeps failing or gives no usable answer."""


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """A chat model's answer.

    Attributes:
        text: What it says.
        tokens_in: Tokens of the messages, as the server counts them.
        tokens_out: Tokens of the answer, likewise.
    """

    text: str
    tokens_in: int
    tokens_out: int


class Server:
    """A model behind an OpenAI-compatible server.

    The `openai` package tries again after timeouts, lost connections and the statuses 408, 409, 429
    and 5xx: after the server's ``Retry-After``, or else 0.5 seconds, doubled each time up to 8.

    Args:
        model: The model's name on the server.
        base_url: The server, such as ``http://localhost:8000/v1``; else ``OPENAI_BASE_URL`` of the
            environment, else OpenAI's own.
        api_key: Its key; else ``OPENAI_API_KEY`` of the environment. Servers at a `base_url` may
            need none.
        concurrency: Most requests under way at once in an event loop.
        requests_per_minute: Most requests sent in a minute, evenly spaced, tries again included; no
            limit if None.
        timeout: Seconds to wait for each try.
        retries: Tries after the first.

    Attributes:
        usage: What was done so far, as the server counts tokens. Context tokens count as computed
            unless it says they were kept (vLLM's does with ``--enable-prompt-tokens-details``); the
            ``seconds`` are those in which at least one request was under way.

    Raises:
        MissingExtraError: The `openai` package is not installed.
        ServerError: Neither an address nor a key is known.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        concurrency: int = 16,
        requests_per_minute: float | None = None,
        timeout: float = 120.0,
        retries: int = 5,
    ) -> None:
        try:
            import openai  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(
                "OpenAI-compatible servers need the openai extra: pip install 'hpl-gym[openai]'."
            ) from error
        self.model = model
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL")
        self._api_key = api_key or os.environ.get("OPENAI_API_KEY")
        if not (self.base_url or self._api_key):
            raise ServerError(
                "No server is named: give its address (base_url, or OPENAI_BASE_URL in the "
                "environment), or set OPENAI_API_KEY to use OpenAI's own."
            )
        self.concurrency = concurrency
        self.interval = 60 / requests_per_minute if requests_per_minute else 0.0
        self.timeout = timeout
        self.retries = retries
        self.usage = Usage()
        self._watch = Stopwatch(self.usage)
        self._next = 0.0
        # Connections belong to an event loop, and `play` has a new one for every episode.
        self._open: WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[AsyncOpenAI, asyncio.Semaphore]
        ] = WeakKeyDictionary()

    async def close(self) -> None:
        """Close this event loop's connections."""
        client, _ = self._open.pop(asyncio.get_running_loop(), (None, None))
        if client:
            await client.close()

    def _connection(self) -> tuple[AsyncOpenAI, asyncio.Semaphore]:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        loop = asyncio.get_running_loop()
        for ended in [one for one in self._open if one.is_closed()]:
            del self._open[ended]
        if loop not in self._open:
            client = AsyncOpenAI(
                base_url=self.base_url,
                api_key=self._api_key or "none",
                timeout=self.timeout,
                max_retries=self.retries,
                http_client=DefaultAsyncHttpxClient(event_hooks={"request": [self._pace]}),
            )
            self._open[loop] = client, asyncio.Semaphore(self.concurrency)
        return self._open[loop]

    async def _pace(self, _: object) -> None:
        now = time.monotonic()
        turn = max(now, self._next)
        self._next = turn + self.interval
        await asyncio.sleep(turn - now)

    async def _send(
        self, create: Callable[[AsyncOpenAI], Awaitable[Any]], read: Callable[[Any], _Read]
    ) -> tuple[_Read, int, int]:
        """Return what `read` finds in the answer's first choice, and the tokens in and out."""
        from openai import OpenAIError
        from openai.types import CompletionUsage

        try:
            client, slots = self._connection()
        except Exception as error:  # the package's own packages raise what they like for an address
            raise ServerError(f"{self.base_url!r} is no address of a server: {error}.") from error
        try:
            async with slots:
                with self._watch:
                    response = await create(client)
            found = read(response.choices[0])
            used = response.usage or CompletionUsage(
                prompt_tokens=0, completion_tokens=0, total_tokens=0
            )
            tokens_in, tokens_out = used.prompt_tokens or 0, used.completion_tokens or 0
            kept = used.prompt_tokens_details and used.prompt_tokens_details.cached_tokens
        # The package does not check what it parses: an answer may be text, or lack fields.
        except (OpenAIError, ValueError, AttributeError, LookupError, TypeError) as error:
            text = f"The server at {client.base_url} {_complaint(error)}."
            raise ServerError(text) from error
        self.usage.calls += 1
        self.usage.tokens_in += tokens_in
        self.usage.tokens_computed += tokens_in - (kept or 0)
        self.usage.tokens_out += tokens_out
        return found, tokens_in, tokens_out


def _complaint(error: Exception) -> str:
    import openai

    match error:
        case openai.APITimeoutError():
            return "took too long, each time: raise the timeout, or lower the concurrency"
        case openai.APIConnectionError():
            return f"cannot be reached ({error.__cause__}): start it, or mend its address"
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return f"refuses the API key ({error.status_code}): set OPENAI_API_KEY, or give api_key"
        case openai.RateLimitError() | openai.InternalServerError():
            return (
                f"keeps failing ({error.status_code}): look at its log, lower the concurrency, or "
                "limit the requests per minute"
            )
        case openai.APIStatusError():
            return f"rejects the request: {error.message.rstrip('.')}"
        case _:
            return "does not speak OpenAI's API: check that its address ends as it should, in /v1"


class ChatClient(Server):
    """A chat model, by ``/v1/chat/completions``; for the arguments see `Server`."""

    async def complete(
        self, messages: list[dict[str, str]], *, seed: int, temperature: float, max_tokens: int
    ) -> ChatAnswer:
        """Return the answer to a chat.

        Args:
            messages: Dictionaries of ``role`` and ``content``.
            seed: Seed of this request's sampling, for servers that keep to seeds; sent modulo
                2**31, since some read it as a signed 32-bit integer.
            temperature: Sampling temperature; 0 is greedy.
            max_tokens: Longest answer.

        Raises:
            ServerError: There is no answer; the text says why, and what to do.
        """
        text, tokens_in, tokens_out = await self._send(
            lambda client: client.chat.completions.create(
                model=self.model,
                messages=messages,  # type: ignore[arg-type]
                seed=seed % 2**31,
                temperature=temperature,
                max_tokens=max_tokens,
            ),
            lambda choice: choice.message.content or "",
        )
        return ChatAnswer(text, tokens_in, tokens_out)


class OpenAIBackend(Server):
    """A policy behind vLLM's server, by ``/v1/completions``; for the arguments see `Server`.

    Token ids go in and token ids come out, sampled, stopped and scored as by `VLLMBackend`.
    """

    async def generate(self, request: Request) -> Completion:
        """Return the continuation of `request`.

        Raises:
            ServerError: There is none, or it comes without token ids; the text says what to do.
        """
        completion, _, _ = await self._send(
            lambda client: client.completions.create(
                model=self.model,
                prompt=list(request.ids),
                seed=request.seed % SEEDS,
                temperature=request.temperature,
                max_tokens=request.max_new_tokens,
                logprobs=TOP_K,
                # All that the model's generation_config.json might set is set.
                top_p=1.0,
                extra_body={
                    "top_k": 0,
                    "min_p": 0.0,
                    "repetition_penalty": 1.0,
                    "stop_token_ids": [request.stop_id],
                    "ignore_eos": True,
                    "return_token_ids": True,
                    # Tokens of the same text would be one key of the top log-probs.
                    "return_tokens_as_token_ids": True,
                },
            ),
            self._read,
        )
        return completion

    def _read(self, choice: Any) -> Completion:
        ids = (choice.model_extra or {}).get("token_ids")
        if ids is None or choice.logprobs is None:
            raise ServerError(
                f"The server of model {self.model!r} returns no token ids with log-probs, which "
                "training needs: serve the model by vLLM 0.11 or later."
            )
        return Completion(
            tuple(ids),
            tuple(choice.logprobs.token_logprobs),
            tuple(top_entropy(place.values()) for place in choice.logprobs.top_logprobs),
        )
