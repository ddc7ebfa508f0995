"""The `transformers` backend: batched decoding on a CPU or one GPU, with shared prefixes kept.

The keys and values of a context and its reply are kept, so that the next turn only computes what is
new; a context that several requests of a batch share is computed once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from hpl_gym.agents.backends.request import Completion, Request, Usage

# More new tokens than an observation usually has.
_LONG = 64

# Keys and values of one prefix: for each layer a tensor (2, kv_heads, tokens, head_dim).
_Prefix = list[torch.Tensor]


class _Buffer(DynamicLayer):
    """A layer's keys and values with room to grow, so that a step does not copy all before it."""

    def __init__(self, past: torch.Tensor, room: int) -> None:
        super().__init__()
        rows, _, heads, length, width = past.shape
        self.store = past.new_zeros(2, rows, heads, length + room, width)
        self.store[:, :, :, :length] = past.transpose(0, 1)
        self.keys, self.values = self.store[0, :, :, :length], self.store[1, :, :, :length]
        self.dtype, self.device, self.is_initialized = past.dtype, past.device, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = self.keys.shape[2]
        end = start + key_states.shape[2]
        self.store[0, :, :, start:end] = key_states
        self.store[1, :, :, start:end] = value_states
        self.keys, self.values = self.store[0, :, :, :end], self.store[1, :, :, :end]
        return self.keys, self.values


@dataclass
class _Waiting:
    request: Request
    future: asyncio.Future[Completion]


class TransformersBackend:
    """Generates with a `transformers` causal language model.

    Args:
        model: The model, on its device, with full attention in every layer.
        max_batch: Most requests decoded together.
        cache_bytes: Most memory for the keys and values of earlier contexts.

    Attributes:
        usage: What was done so far.
    """

    def __init__(
        self, model: PreTrainedModel, *, max_batch: int = 64, cache_bytes: int = 2 << 30
    ) -> None:
        self.model = model.eval()
        self.max_batch = max_batch
        self.cache_bytes = cache_bytes
        self._prefixes: OrderedDict[tuple[int, ...], _Prefix] = OrderedDict()
        self._kept = 0
        self._queue: list[_Waiting] = []
        self._flush: asyncio.Task[None] | None = None
        self.usage = Usage()
        self._empty = self._no_tokens()

    async def generate(self, request: Request) -> Completion:
        """Return the continuation of `request`."""
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._flush is None:
            self._flush = asyncio.ensure_future(self._serve())
        return await waiting.future

    async def _serve(self) -> None:
        """Run batches until nobody waits; every coroutine that can ask gets to ask first."""
        while self._queue:
            asked = -1
            while asked != len(self._queue):
                asked = len(self._queue)
                await asyncio.sleep(0)
            # Contexts of like length together: a batch is padded to its longest.
            self._queue.sort(key=lambda waiting: len(waiting.request.ids))
            batch, self._queue = self._queue[: self.max_batch], self._queue[self.max_batch :]
            try:
                completions = self._run([waiting.request for waiting in batch])
            except Exception as error:  # each asker gets it
                for waiting in batch:
                    waiting.future.set_exception(error)
            else:
                for waiting, completion in zip(batch, completions, strict=True):
                    if not waiting.future.done():
                        waiting.future.set_result(completion)
            await asyncio.sleep(0)
        self._flush = None

    @torch.inference_mode()
    def _run(self, requests: list[Request]) -> list[Completion]:
        contexts = list(dict.fromkeys(request.ids for request in requests))
        row_of = {ids: row for row, ids in enumerate(contexts)}
        bounds = {request.ids: request.bounds for request in requests}
        pasts = [self._past(ids, bounds[ids]) for ids in contexts]
        starts = [past[0].shape[2] for past in pasts]
        fresh = [ids[start:] for ids, start in zip(contexts, starts, strict=True)]
        width = max(map(len, fresh))
        room = width + max(request.max_new_tokens for request in requests)

        past, mask = self._stack(pasts)
        cache = DynamicCache()
        cache.layers = [_Buffer(layer, room) for layer in past]
        device = self.model.device
        tokens = torch.zeros(len(contexts), width, dtype=torch.long)
        news = torch.zeros(len(contexts), width, dtype=torch.long)
        positions = torch.zeros(len(contexts), width, dtype=torch.long)
        for row, (ids, start) in enumerate(zip(fresh, starts, strict=True)):
            tokens[row, width - len(ids) :] = torch.tensor(ids)
            news[row, width - len(ids) :] = 1
            positions[row, width - len(ids) :] = torch.arange(start, start + len(ids))
        mask = torch.cat([mask, news.to(device)], dim=1)
        logits = self.model(
            input_ids=tokens.to(device),
            attention_mask=mask,
            position_ids=positions.to(device),
            past_key_values=cache,
            logits_to_keep=1,
        ).logits[:, -1]

        rows = torch.tensor([row_of[request.ids] for request in requests], device=device)
        if rows.tolist() != list(range(len(contexts))):
            for layer in cache.layers:
                length = layer.keys.shape[2]
                layer.store = layer.store[:, rows]
                layer.keys = layer.store[0, :, :, :length]
                layer.values = layer.store[1, :, :, :length]
            logits, mask = logits[rows], mask[rows]
        completions = self._decode(requests, logits, cache, mask)
        self.usage.calls += len(requests)
        self.usage.tokens_in += sum(len(request.ids) for request in requests)
        self.usage.tokens_computed += sum(map(len, fresh))
        self.usage.tokens_out += sum(len(completion.ids) for completion in completions)
        return completions

    def _decode(
        self,
        requests: list[Request],
        logits: torch.Tensor,
        cache: DynamicCache,
        mask: torch.Tensor,
    ) -> list[Completion]:
        device = logits.device
        greedy = torch.tensor([r.temperature == 0 for r in requests], device=device)
        heat = torch.tensor([r.temperature or 1.0 for r in requests], device=device)[:, None]
        stops = torch.tensor([r.stop_id for r in requests], device=device)
        limits = torch.tensor([r.max_new_tokens for r in requests], device=device)
        longest = int(limits.max())
        draws = torch.zeros(len(requests), longest, dtype=torch.float64)
        for row, request in enumerate(requests):
            if request.temperature:
                draws[row, : request.max_new_tokens] = torch.from_numpy(request.uniforms())
        draws = draws.to(device)
        position = mask.sum(dim=1, keepdim=True)
        alive = torch.ones(len(requests), dtype=torch.bool, device=device)
        chosen, logprobs, entropies, used = [], [], [], []
        for step in range(longest):
            alive = alive & (limits > step)
            if not bool(alive.any()):
                break
            scores = torch.log_softmax(logits.float(), dim=-1)
            tokens = scores.argmax(dim=-1)
            if not bool(greedy.all()):
                mass = torch.softmax(logits.double() / heat, dim=-1).cumsum(dim=-1)
                sampled = torch.searchsorted(mass, draws[:, step : step + 1] * mass[:, -1:])
                tokens = torch.where(greedy, tokens, sampled[:, 0].clamp(max=mass.shape[1] - 1))
            chosen.append(tokens)
            logprobs.append(scores.gather(1, tokens[:, None])[:, 0])
            entropies.append(-(scores.exp() * scores).nan_to_num().sum(dim=-1))
            used.append(alive)
            alive = alive & (tokens != stops)
            if step + 1 == longest or not bool(alive.any()):
                break
            mask = torch.cat([mask, mask.new_ones(len(requests), 1)], dim=1)
            logits = self.model(
                input_ids=tokens[:, None],
                attention_mask=mask,
                position_ids=position + step,
                past_key_values=cache,
            ).logits[:, -1]
        lengths = torch.stack(used, dim=1).sum(dim=1).tolist()
        columns = [torch.stack(part, dim=1).cpu() for part in (chosen, logprobs, entropies)]
        completions = []
        for row, (request, length) in enumerate(zip(requests, lengths, strict=True)):
            ids, logs, spread = (tuple(part[row, :length].tolist()) for part in columns)
            completions.append(Completion(ids, logs, spread))
            self._keep(request.ids + ids[:-1], cache, row, mask)
        return completions

    def _stack(self, pasts: list[_Prefix]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Left-pad prefixes to one length: layers of (rows, 2, heads, tokens, dim), and a mask."""
        longest = max(past[0].shape[2] for past in pasts)
        mask = torch.zeros(len(pasts), longest, dtype=torch.long, device=self.model.device)
        for row, past in enumerate(pasts):
            mask[row, longest - past[0].shape[2] :] = 1
        layers = []
        for layer in range(len(self._empty)):
            _, heads, _, width = self._empty[layer].shape
            stacked = self._empty[layer].new_zeros(len(pasts), 2, heads, longest, width)
            for row, past in enumerate(pasts):
                stacked[row, :, :, longest - past[layer].shape[2] :] = past[layer]
            layers.append(stacked)
        return layers, mask

    def _past(self, ids: tuple[int, ...], bounds: tuple[int, ...]) -> _Prefix:
        """Return the keys and values of a proper prefix of `ids` that little is missing from."""
        past = self._longest_prefix(ids, bounds)
        start = past[0].shape[2]
        if len(ids) - start <= _LONG:
            return past
        # Alone: in a batch, every other context would be padded to as many new tokens.
        cache = DynamicCache()
        cache.layers = [_Buffer(layer[None], len(ids) - 1 - start) for layer in past]
        self.model(
            input_ids=torch.tensor([ids[start:-1]], device=self.model.device),
            past_key_values=cache,
            logits_to_keep=1,
        )
        self.usage.tokens_computed += len(ids) - 1 - start
        return [layer.store[:, 0] for layer in cache.layers]

    def _longest_prefix(self, ids: tuple[int, ...], bounds: tuple[int, ...]) -> _Prefix:
        """Return the kept keys and values of the longest known proper prefix of `ids`."""
        for bound in reversed(bounds):
            # A reply is kept without its last token, whose keys and values were never needed.
            for end in (bound, bound - 1):
                if end < len(ids) and ids[:end] in self._prefixes:
                    self._prefixes.move_to_end(ids[:end])
                    return self._prefixes[ids[:end]]
        return self._empty

    def _keep(
        self, ids: tuple[int, ...], cache: DynamicCache, row: int, mask: torch.Tensor
    ) -> None:
        if not ids or ids in self._prefixes:
            return
        columns = mask[row].nonzero()[: len(ids), 0]
        self._prefixes[ids] = [layer.store[:, row][:, :, columns] for layer in cache.layers]
        self._kept += _size(self._prefixes[ids])
        while self._kept > self.cache_bytes and len(self._prefixes) > 1:
            self._kept -= _size(self._prefixes.popitem(last=False)[1])

    @torch.inference_mode()
    def _no_tokens(self) -> _Prefix:
        """Return an empty prefix, with the shapes that this model's layers have."""
        token = torch.zeros(1, 1, dtype=torch.long, device=self.model.device)
        layers = self.model(input_ids=token, use_cache=True).past_key_values.layers
        return [torch.stack([layer.keys[0], layer.values[0]])[:, :, :0] for layer in layers]


def _size(prefix: _Prefix) -> int:
    return sum(layer.nbytes for layer in prefix)
