"""The `transformers` backend: batched decoding on a CPU or one GPU, with shared prefixes kept.

Every token of every context goes through the model once: keys and values of contexts and replies
are kept in a trie, so a next turn computes only what is new, and a beginning that several waiting
contexts share is computed before they part. Decoding reads all keys for every step, so a step tries
several tokens at once: as earlier replies have them, and where the model is in double precision, as
a copy of it in single precision samples them.

A request gets the same reply in whatever company it is answered, if the model is in double
precision: other batch shapes change the last bits of a logit, which in single precision changes
one sampled token in some hundred thousand, and in double precision none in a lifetime. In bfloat16
on a GPU, replies may differ between batches.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import time
from dataclasses import dataclass
from itertools import chain, pairwise

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from hpl_gym.agents.backends.decoding import Draws, Reply, decode
from hpl_gym.agents.backends.drafts import Drafts
from hpl_gym.agents.backends.prefixes import Ids, Prefixes, common_length
from hpl_gym.agents.backends.request import Completion, Request, Usage
from hpl_gym.agents.backends.rows import Arena, Rows, cached
from hpl_gym.core import HPLGymError

# More new tokens than an observation usually has.
_LONG = 64
# What a decoding step costs besides reading weights, keys and values, as bytes read in that time.
_STEP_BYTES = 16 << 20
# Tokens guessed at a time, at most: from earlier replies, and by the fast model.
_GUESS, _FORESEEN = 6, 32


@dataclass
class _Waiting:
    request: Request
    future: asyncio.Future[Completion]


class TransformersBackend:
    """Generates with a `transformers` causal language model.

    Args:
        model: The model, on its device, with full attention in every layer (sdpa or eager), and in
            double precision where replies must not depend on the batch.
        max_batch: Most requests decoded together.
        cache_bytes: Most memory for the keys and values kept between batches; 0 keeps none.

    Attributes:
        usage: What was done so far.

    Raises:
        HPLGymError: The model has a layer without full attention, rotary positions that change with
            the length of the context, no positions that can be given (ALiBi), or keys and values of
            different widths.
    """

    def __init__(
        self, model: PreTrainedModel, *, max_batch: int = 64, cache_bytes: int = 2 << 30
    ) -> None:
        layers = DynamicCache(config=model.config).layers
        if any(type(layer) is not DynamicLayer for layer in layers):
            raise HPLGymError(
                f"{type(model).__name__} has layers without full attention (a sliding window, or a "
                "state), which the transformers backend cannot share prefixes of: use backend=vllm."
            )
        if _scales_by_length(model):
            raise HPLGymError(
                f"{type(model).__name__} turns its positions by the length of the longest context "
                "(dynamic or longrope), so contexts cannot share a beginning: use backend=vllm."
            )
        has_positions = "position_ids" in inspect.signature(model.forward).parameters
        if not has_positions or vars(model.config).get("alibi"):
            raise HPLGymError(
                f"{type(model).__name__} cannot be told the positions of its tokens, so contexts "
                "of different lengths cannot be batched: use backend=vllm."
            )
        self.model = model.eval()
        self.max_batch = max_batch
        self.cache_bytes = cache_bytes
        self.usage = Usage()
        self._empty, token_bytes = self._no_tokens()
        self._prefixes = Prefixes(self._empty)
        self._drafts = Drafts()
        self._arena = Arena(self._empty)
        # Three times as fast as double precision, and nearly always right.
        double = model.dtype == torch.float64
        self._fast = copy.deepcopy(model).float() if double else None
        self._fast_arena = Arena(self._empty.float())
        weights = sum(weight.nbytes for weight in model.parameters())
        self._step_tokens = (weights + _STEP_BYTES) / token_bytes
        self._queue: list[_Waiting] = []
        self._server: asyncio.Task[None] | None = None

    async def generate(self, request: Request) -> Completion:
        """Return the continuation of `request`.

        Raises:
            HPLGymError: Another thread's event loop is being served.
        """
        loop = asyncio.get_running_loop()
        if self._server is not None and self._server.get_loop() is not loop:
            raise HPLGymError(
                "This model serves another thread: run episodes as coroutines of one event loop, "
                "or load an agent for each thread."
            )
        waiting = _Waiting(request, loop.create_future())
        self._queue.append(waiting)
        if self._server is None:
            self._server = asyncio.ensure_future(self._serve())
        return await waiting.future

    async def close(self) -> None:
        """Give back the memory of the kept prefixes."""
        self._prefixes.shrink(0)

    async def _serve(self) -> None:
        """Run batches until nobody waits; every coroutine that can ask gets to ask first."""
        try:
            while self._queue:
                asked = -1
                while asked != len(self._queue):
                    asked = len(self._queue)
                    await asyncio.sleep(0)
                self._answer(self._next_batch())
                await asyncio.sleep(0)
        finally:
            self._server = None

    def _next_batch(self) -> list[_Waiting]:
        """Take the shortest contexts, as many as make a step cheapest for each of them.

        A step reads the weights once, and for every row as many keys as the longest one has.
        """
        self._queue = [waiting for waiting in self._queue if not waiting.future.done()]
        self._queue.sort(key=lambda waiting: len(waiting.request.ids))
        count = min(
            range(min(self.max_batch, len(self._queue)), 0, -1),
            key=lambda count: self._step_tokens / count + len(self._queue[count - 1].request.ids),
            default=0,
        )
        batch, self._queue = self._queue[:count], self._queue[count:]
        return batch

    def _answer(self, batch: list[_Waiting]) -> None:
        try:
            completions = self._run([waiting.request for waiting in batch]) if batch else []
        except Exception as error:  # each asker gets it
            for waiting in batch:
                if not waiting.future.done():  # cancelled meanwhile, by Ctrl-C
                    waiting.future.set_exception(error)
        else:
            for waiting, completion in zip(batch, completions, strict=True):
                if not waiting.future.done():
                    waiting.future.set_result(completion)

    @torch.inference_mode()
    def _run(self, requests: list[Request]) -> list[Completion]:
        begin = time.perf_counter()
        contexts = [request.ids for request in requests]
        self._compute_shared(contexts)
        most = max(request.max_new_tokens for request in requests)
        rows, logits = self._prefill(contexts, 2 * most + _FORESEEN)
        replies = [Reply(request, request.max_new_tokens) for request in requests]
        first = Draws(replies, logits.device).choose(logits[:, None], replies, measured=True)
        for reply, chosen in zip(replies, first, strict=True):
            reply.take([], chosen)
        guess = self._recall if self._fast is None else self._foresee
        decode(self.model, replies, rows, guess, self._keep)
        self._prefixes.shrink(self.cache_bytes)
        self.usage.calls += len(requests)
        self.usage.tokens_in += sum(len(request.ids) for request in requests)
        self.usage.tokens_out += sum(len(reply.ids) for reply in replies)
        self.usage.seconds += time.perf_counter() - begin
        return [reply.completion() for reply in replies]

    def _compute_shared(self, contexts: list[Ids]) -> None:
        """Compute what is missing where contexts share it, and long stretches, each on its own.

        In a batch, all other contexts would be padded to the long stretch.
        """
        contexts = sorted(set(contexts))
        shared = {one[: common_length(one, other)] for one, other in pairwise(contexts)}
        for ids in sorted(shared, key=len):
            self._compute(ids)
        for ids in contexts:
            if len(ids) - self._prefixes.length(ids) > _LONG:
                self._compute(ids[:-1])

    def _compute(self, ids: Ids) -> None:
        if self._prefixes.length(ids) < len(ids):
            rows, _ = self._prefill([ids], 0)
            self._prefixes.add(ids, rows.store[:, :, 0])

    def _prefill(self, contexts: list[Ids], room: int) -> tuple[Rows, torch.Tensor]:
        """Return the contexts' keys and values, with room for more tokens, and their last logits.

        A context that comes again is computed once and then copied.
        """
        device = self.model.device
        row_of: dict[Ids, int] = {}
        sources = [row_of.setdefault(ids, len(row_of)) for ids in contexts]
        kept = [self._prefixes.pieces(ids[:-1]) for ids in row_of]
        starts = [sum(piece.shape[3] for piece in pieces) for pieces in kept]
        fresh = [ids[start:] for ids, start in zip(row_of, starts, strict=True)]
        past, width = max(starts), max(map(len, fresh))
        layers, _, heads, _, dim = self._empty.shape
        size = past + width + room
        store = self._arena.tensor(layers, 2, len(contexts), heads, size, dim)
        seen = torch.ones(len(row_of), size, dtype=torch.bool)
        tokens = torch.zeros(len(row_of), width, dtype=torch.long)
        positions = torch.zeros(len(row_of), width, dtype=torch.long)
        for row, (pieces, start, new) in enumerate(zip(kept, starts, fresh, strict=True)):
            column = past - start
            store[:, :, row, :, :column] = 0  # any finite number: it gets no weight
            seen[row, :column] = False
            for piece in pieces:
                end = column + piece.shape[3]
                store[:, :, row, :, column:end] = piece
                column = end
            seen[row, past : past + width - len(new)] = False
            tokens[row, width - len(new) :] = torch.tensor(new)
            positions[row, width - len(new) :] = torch.arange(start, start + len(new))
        rows = Rows(store, seen.to(device), past)
        logits = self.model(
            input_ids=tokens.to(device),
            attention_mask=rows.seen[:, : past + width],
            position_ids=positions.to(device),
            **cached(self.model, rows.cache),
            logits_to_keep=1,
        ).logits[:, -1]
        self.usage.tokens_computed += sum(map(len, fresh))
        if len(row_of) < len(contexts):
            rows, logits = rows.take(sources), logits[sources]
        return rows, logits

    def _recall(self, replies: list[Reply], rows: Rows, most: int) -> list[list[int]]:
        """Guess from earlier replies."""
        return [
            self._drafts.guess(one.ids, min(_GUESS, most)) if one.left else [] for one in replies
        ]

    def _foresee(self, replies: list[Reply], rows: Rows, most: int) -> list[list[int]]:
        """Guess by sampling in single precision, with the same draws."""
        assert self._fast is not None
        most = min(_FORESEEN, most)
        copies = [
            Reply(one.request, len(one.ids) + min(one.left, most), [*one.ids]) for one in replies
        ]
        decode(self._fast, copies, rows.copy(self._fast_arena, 2 * most + _GUESS), self._recall)
        # Not the last token: what would follow it is not asked.
        return [ahead.ids[len(one.ids) : -1] for one, ahead in zip(replies, copies, strict=True)]

    def _keep(self, reply: Reply, rows: Rows, row: int) -> None:
        """Keep a finished reply's keys and values, without the last token's: nobody needed them."""
        self._drafts.learn(reply.ids)
        ids = reply.request.ids + tuple(reply.ids[:-1])
        self._prefixes.add(ids, rows.last(row, len(ids) - self._prefixes.length(ids)))

    @torch.inference_mode()
    def _no_tokens(self) -> tuple[torch.Tensor, int]:
        """Return keys and values of no token, (layers, 2, heads, 0, dim), and bytes a token."""
        token = torch.zeros(1, 1, dtype=torch.long, device=self.model.device)
        cache = DynamicCache()
        self.model(input_ids=token, **cached(self.model, cache))
        if any(layer.keys.shape != layer.values.shape for layer in cache.layers):
            raise HPLGymError(
                f"{type(self.model).__name__} has keys and values of different widths, which the "
                "transformers backend cannot keep: use backend=vllm."
            )
        states = torch.stack(
            [torch.stack([layer.keys[0], layer.values[0]]) for layer in cache.layers]
        )
        return states[:, :, :, :0], states.nbytes


def _scales_by_length(model: PreTrainedModel) -> bool:
    """Return whether rotary frequencies depend on how long the longest context of a batch is."""
    kinds = [vars(module).get("rope_type") for module in model.modules()]
    named = [kind.values() if isinstance(kind, dict) else [kind] for kind in kinds]
    return not {"dynamic", "longrope"}.isdisjoint(chain.from_iterable(named))
