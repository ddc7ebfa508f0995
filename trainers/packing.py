"""Shared-prefix packing: sequences with common beginnings as one token tree.

The pairs of an expert trajectory hang on that trajectory: it is the winner of all of them, and each
loser leaves it at one of its turns. In a tree every distinct prefix has its tokens once, so one
forward pass yields the log-probabilities of all sequences. Each token attends along its own path
and has its position on that path, so the values are those of separate sequences, to rounding.

A tree lies in memory as branches, one after the other. A branch is a run of tokens that hangs on a
token of an earlier branch, or on nothing. Attention runs branch by branch, over the branch's path
alone, so nothing is computed that a mask would throw away; all other layers take all tokens.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.examples import Example

ATTENTION = "hpl_tree"


class Tree:
    """A growing tree of sequences.

    Attributes:
        ids: Token ids, branch by branch.
        depths: How many tokens stand before each token on its path.
        parents: The place of the token before each token on its path; -1 for first tokens.
        starts: The place of each branch's first token, ascending.
        sequences: For each sequence the places of the tokens that count, and their weights.
        asked: How many tokens all the sequences have.
    """

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.depths: list[int] = []
        self.parents: list[int] = []
        self.starts: list[int] = []
        self.sequences: list[tuple[list[int], list[float]]] = []
        self.asked = 0
        self._children: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, sequences: Sequence[Example], most: int | None = None) -> bool:
        """Add sequences, all or none of them.

        Args:
            sequences: Token ids and weights; a first token never counts.
            most: The tokens that the tree may have afterwards; None is no limit.

        Returns:
            Whether they were added.
        """
        before = len(self.ids), len(self.starts), len(self.sequences), self.asked
        for sequence in sequences:
            self._add(sequence)
        fits = most is None or len(self.ids) <= most
        if not fits:
            self._cut(*before)
        return fits

    def _add(self, sequence: Example) -> None:
        place, places = -1, []
        for depth, token in enumerate(sequence.ids):
            child = self._children.get((place, token))
            if child is None:
                child = self._children[place, token] = len(self.ids)
                if place < 0 or place != child - 1:
                    self.starts.append(child)
                self.ids.append(token)
                self.depths.append(depth)
                self.parents.append(place)
            place = child
            places.append(place)
        count = [at for at, weight in enumerate(sequence.weights) if weight and at]
        self.sequences.append(
            ([places[at] for at in count], [sequence.weights[at] for at in count])
        )
        self.asked += len(sequence.ids)

    def _cut(self, tokens: int, branches: int, sequences: int, asked: int) -> None:
        for place in range(tokens, len(self.ids)):
            del self._children[self.parents[place], self.ids[place]]
        del self.ids[tokens:], self.depths[tokens:], self.parents[tokens:]
        del self.starts[branches:], self.sequences[sequences:]
        self.asked = asked


@dataclass(frozen=True)
class Packed:
    """A tree as tensors, ready for a model.

    Attributes:
        ids: Token ids, shape (tokens,).
        depths: Positions, shape (tokens,).
        lengths: The length of each branch.
        pieces: Lengths of the pieces that the tokens are cut into, so that the keys of every
            branch are whole pieces.
        paths: For each branch the pieces that it attends to, in the order of the path; its own
            are the last.
        sources: The places whose outputs predict the tokens that count, shape (counting,).
        targets: Those tokens, shape (counting,).
        entries: Which counting token each summand of a sequence's log-probability is, shape
            (summands,).
        weights: Each summand's weight, shape (summands,).
        owners: The sequence that each summand belongs to, shape (summands,).
        count: Number of sequences.
    """

    ids: torch.Tensor
    depths: torch.Tensor
    lengths: tuple[int, ...]
    pieces: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]
    sources: torch.Tensor
    targets: torch.Tensor
    entries: torch.Tensor
    weights: torch.Tensor
    owners: torch.Tensor
    count: int

    def to(self, device: torch.device | str) -> Packed:
        """Return the same on another device."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        return replace(self, **moved)

    def sums(self, logprobs: torch.Tensor) -> torch.Tensor:
        """Return each sequence's weighted sum of log-probabilities, shape (count,).

        Args:
            logprobs: Those of `targets`, shape (counting,).
        """
        summands = logprobs[self.entries] * self.weights.to(logprobs)
        return logprobs.new_zeros(self.count).index_add(0, self.owners, summands)


def pack(tree: Tree) -> Packed:
    """Return a tree as tensors.

    Raises:
        ValueError: The tree is empty.
    """
    if not tree.ids:
        raise ValueError("An empty tree cannot be packed.")
    ends = [*tree.starts[1:], len(tree)]
    hung = [tree.parents[start] + 1 for start in tree.starts]
    cuts = sorted({0, len(tree), *tree.starts, *(at for at in hung if at)})
    number = {cut: index for index, cut in enumerate(cuts)}
    paths: list[tuple[int, ...]] = []
    for start, end, at in zip(tree.starts, ends, hung, strict=True):
        before: tuple[int, ...] = ()
        if at:
            parent = bisect_right(tree.starts, at - 1) - 1
            before = tuple(one for one in paths[parent] if one < number[at])
        paths.append((*before, *range(number[start], number[end])))
    counting = sorted({place for places, _ in tree.sequences for place in places})
    entry = {place: index for index, place in enumerate(counting)}
    rows = [
        (entry[place], weight, owner)
        for owner, (places, weights) in enumerate(tree.sequences)
        for place, weight in zip(places, weights, strict=True)
    ]

    def tensor(values: Sequence[float], dtype: torch.dtype = torch.long) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype)

    return Packed(
        ids=tensor(tree.ids),
        depths=tensor(tree.depths),
        lengths=tuple(end - start for start, end in zip(tree.starts, ends, strict=True)),
        pieces=tuple(b - a for a, b in pairwise(cuts)),
        paths=tuple(paths),
        sources=tensor([tree.parents[place] for place in counting]),
        targets=tensor([tree.ids[place] for place in counting]),
        entries=tensor([row[0] for row in rows]),
        weights=tensor([row[1] for row in rows], torch.float32),
        owners=tensor([row[2] for row in rows]),
        count=len(tree.sequences),
    )


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packed: Packed | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend along each branch's path; `transformers` calls this in every attention layer.

    Args:
        module: The attention layer.
        query: Shape (1, heads, tokens, width).
        key: Shape (1, key heads, tokens, width).
        value: Shape (1, key heads, tokens, width).
        attention_mask: None.
        packed: The layout; without one the tokens are a single sequence.
        scaling: Factor of the products; None is one over the root of the width.
        dropout: Share of the weights that are dropped.
        sliding_window: None, or no shorter than any path.

    Returns:
        Shape (1, tokens, heads, width), and no weights.

    Raises:
        HPLGymError: Some path is longer than the layer's sliding window.
    """
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # the mask compares the types before autocast casts them
        half = torch.get_autocast_dtype(kind)
        query, key, value = (one.to(half) for one in (query, key, value))
    tokens, groups = query.shape[2], query.shape[1] // key.shape[1]
    if groups > 1 and not query.is_cuda:  # the kernel for CPUs has no shared heads
        key, value = (one.repeat_interleave(groups, dim=1) for one in (key, value))
    if sliding_window is not None and sliding_window < tokens:
        longest = tokens if packed is None else int(packed.depths.max()) + 1
        if sliding_window < longest:
            raise HPLGymError(
                f"A path of {longest} tokens is longer than the model's sliding window."
            )
    lengths = packed.lengths if packed else (tokens,)
    queries = query.split(lengths, dim=2)
    keys, values = (
        one.split(packed.pieces if packed else (tokens,), dim=2) for one in (key, value)
    )
    outputs = []
    for own, path in zip(queries, packed.paths if packed else ((0,),), strict=True):
        seen, told = (torch.cat([one[piece] for piece in path], dim=2) for one in (keys, values))
        mask: Any = causal_lower_right(own.shape[2], seen.shape[2])
        outputs.append(
            scaled_dot_product_attention(
                own,
                seen,
                told,
                attn_mask=mask,
                dropout_p=dropout,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def no_mask(*_: Any, **__: Any) -> None:
    """Return no mask; `transformers` asks for one before the first layer."""


AttentionInterface.register(ATTENTION, tree_attention)
AttentionMaskInterface.register(ATTENTION, no_mask)
