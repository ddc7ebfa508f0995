"""The keys and values of a batch that is being decoded."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer


def cached(model: PreTrainedModel, cache: DynamicCache) -> dict[str, DynamicCache]:
    """Return the keyword argument by which a model takes its cache; `transformers` renamed it."""
    renamed = "cache" in inspect.signature(type(model).forward).parameters
    return {"cache" if renamed else "past_key_values": cache}


class Arena:
    """Memory that one batch after another uses.

    Copying into memory fresh from the system takes five times as long as into memory used before.

    Args:
        like: A tensor with the type and device to have.
    """

    def __init__(self, like: torch.Tensor) -> None:
        self._memory = like.new_empty(0)

    def tensor(self, *shape: int) -> torch.Tensor:
        """Return a tensor of any content, in the place of the last one that was asked for."""
        size = math.prod(shape)
        if size > len(self._memory):
            self._memory = self._memory[:0].clone()  # gives back the old before it takes the new
            self._memory = self._memory.new_empty(size + size // 4)
        return self._memory[:size].view(shape)


class Rows:
    """Keys and values of several contexts: left-padded to one length, with room to grow.

    Args:
        store: Memory of shape (layers, 2, most rows, heads, room, dim).
        seen: Which columns each row attends to, shape (rows, room).
        length: Columns in use.

    Attributes:
        cache: What the model reads and extends.
        fed: Columns that the last step has added.
    """

    def __init__(self, store: torch.Tensor, seen: torch.Tensor, length: int) -> None:
        self.store, self.seen = store, seen
        self.cache = DynamicCache()
        self.cache.layers = [_Layer(layer, length) for layer in store[:, :, : len(seen)]]
        self._unseen = torch.finfo(store.dtype).min
        self._bias = torch.zeros(seen.shape, dtype=store.dtype, device=store.device)
        self._bias.masked_fill_(~seen, self._unseen)
        self.fed = 0

    @property
    def length(self) -> int:
        """Columns in use."""
        return int(self.cache.get_seq_length())

    @property
    def room(self) -> int:
        """Columns that are left."""
        return self.store.shape[4] - self.length

    def mask(self, width: int) -> torch.Tensor:
        """Return what to add to the attention scores of `width` new tokens in each row.

        They attend to what their row has seen, to themselves and to those of them before.
        """
        self.fed = width
        end = self.length
        past = self._bias[:, None, None, :end].expand(-1, 1, width, -1)
        new = past.new_full((width, width), self._unseen).triu(1)
        return torch.cat([past, new.expand(len(past), 1, width, width)], dim=-1)

    def confirm(self, counts: list[int]) -> None:
        """Let later tokens attend only to the first so many that the last step fed to each row."""
        end = self.length
        known = torch.tensor(counts)[:, None] > torch.arange(self.fed)
        self.seen[:, end - self.fed : end] = known.to(self.seen.device)
        self._bias[:, end - self.fed : end] = 0
        self._bias.masked_fill_(~self.seen, self._unseen)

    def last(self, row: int, count: int) -> torch.Tensor:
        """Return the keys and values of a row's last tokens, (layers, 2, heads, count, dim)."""
        columns = self.seen[row, : self.length].nonzero()[:, 0]
        return self.store[:, :, row, :, columns[len(columns) - count :]]

    def take(self, sources: list[int]) -> Rows:
        """Return rows that are copies of the rows `sources`, in the same memory.

        Args:
            sources: Each row once and then repeated (``[0, 1, 0]``), or fewer, of which those that
                move come from behind (``[0, 3, 2]``).
        """
        end = self.length
        # From the last on when rows are repeated, so that none is written over before it is read.
        rows = range(len(sources))
        for row in rows if len(sources) < len(self.seen) else reversed(rows):
            if row != sources[row]:
                self.store[:, :, row, :, :end] = self.store[:, :, sources[row], :, :end]
        return Rows(self.store, self.seen[sources], end)

    def copy(self, arena: Arena, room: int) -> Rows:
        """Return a copy with room for so many more tokens.

        Args:
            arena: Where the copy is; gives it its type.
            room: Columns.
        """
        layers, _, _, heads, _, dim = self.store.shape
        end, (count, _) = self.length, self.seen.shape
        store = arena.tensor(layers, 2, count, heads, end + room, dim)
        store[:, :, :, :, :end] = self.store[:, :, :count, :, :end]
        seen = torch.ones(count, end + room, dtype=torch.bool, device=self.seen.device)
        seen[:, :end] = self.seen[:, :end]
        return Rows(store, seen, end)


class _Layer(DynamicLayer):
    """One layer's keys and values, extended in place.

    Args:
        store: Memory of shape (2, rows, heads, room, dim).
        length: Columns in use.
    """

    def __init__(self, store: torch.Tensor, length: int) -> None:
        super().__init__()
        self.store = store
        self.keys, self.values = store[0, :, :, :length], store[1, :, :, :length]
        self.dtype, self.device, self.is_initialized = store.dtype, store.device, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = self.keys.shape[2]
        end = start + key_states.shape[2]
        self.store[0, :, :, start:end] = key_states
        self.store[1, :, :, start:end] = value_states
        self.keys, self.values = self.store[0, :, :, :end], self.store[1, :, :, :end]
        return self.keys, self.values
