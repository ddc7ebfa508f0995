"""Replies under way: tokens are guessed, computed together, and kept as far as they are sampled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from hpl_gym.agents.backends.request import Completion, Request
from hpl_gym.agents.backends.rows import Rows, cached

# Log-probabilities and entropies keep the digits that no batch shape changes.
_DIGITS = 5


@dataclass
class Reply:
    """A continuation under way.

    Attributes:
        request: What it answers.
        limit: Where it ends at the latest, in tokens.
        ids: Its tokens so far.
        logprobs: Their log-probabilities.
        entropies: The entropies of their distributions.
    """

    request: Request
    limit: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Tokens still to come, at most."""
        stopped = self.ids[-1:] == [self.request.stop_id]
        return 0 if stopped else self.limit - len(self.ids)

    def take(self, guess: list[int], chosen: list[list[float]]) -> int:
        """Take sampled tokens as long as each was guessed, and the first that was not.

        Args:
            guess: What was guessed to follow.
            chosen: The tokens sampled at each place, with their log-probabilities and entropies
                unless only the tokens count.

        Returns:
            How many were taken.
        """
        kept: tuple[list[Any], ...] = (self.ids, self.logprobs, self.entropies)
        taken = 0
        while self.left:
            for numbers, found in zip(kept, chosen, strict=False):
                numbers.append(found[taken])
            taken += 1
            if guess[taken - 1 : taken] != self.ids[-1:]:
                break
        return taken

    def completion(self) -> Completion:
        """Return what is answered."""
        logprobs, entropies = (
            tuple(round(number, _DIGITS) for number in numbers)
            for numbers in (self.logprobs, self.entropies)
        )
        return Completion(tuple(self.ids), logprobs, entropies)


class Draws:
    """The numbers that decide what is sampled, for each row.

    Args:
        replies: The rows' replies.
        device: Where to sample.
    """

    def __init__(self, replies: list[Reply], device: torch.device) -> None:
        requests = [reply.request for reply in replies]
        self._heat = torch.tensor([[one.temperature] for one in requests], device=device)
        self._numbers = torch.zeros(
            len(requests), max(one.max_new_tokens for one in requests), dtype=torch.double
        )
        for row, request in enumerate(requests):
            self._numbers[row, : request.max_new_tokens] = torch.from_numpy(request.uniforms())

    def take(self, rows: list[int]) -> None:
        """Go on with these rows."""
        self._heat, self._numbers = self._heat[rows], self._numbers[rows]

    def choose(
        self, logits: torch.Tensor, replies: list[Reply], measured: bool
    ) -> list[list[list[float]]]:
        """Return the token at each place of each row.

        Args:
            logits: Shape (rows, places, vocabulary).
            replies: The rows' replies; the first place is that of their next token.
            measured: Whether each token's log-probability and its distribution's entropy follow.
        """
        first = torch.tensor([[len(reply.ids)] for reply in replies])
        places = (first + torch.arange(logits.shape[1])).clamp(max=self._numbers.shape[1] - 1)
        draws = self._numbers.gather(1, places).to(logits.device)
        scores = torch.log_softmax(logits.double() if measured else logits, dim=-1)
        greedy = self._heat == 0
        tokens = scores.argmax(dim=-1)
        if not bool(greedy.all()):
            scaled = scores / self._heat.masked_fill(greedy, 1)[:, :, None]
            mass = torch.softmax(scaled, dim=-1).double().cumsum(dim=-1)
            sampled = torch.searchsorted(mass, draws[:, :, None] * mass[:, :, -1:])[:, :, 0]
            tokens = torch.where(greedy, tokens, sampled.clamp(max=mass.shape[2] - 1))
        chosen = [tokens]
        if measured:
            chosen.append(scores.gather(2, tokens[:, :, None])[:, :, 0])
            chosen.append(-(scores.exp() * scores).nan_to_num().sum(dim=-1))
        return [list(row) for row in zip(*(part.tolist() for part in chosen), strict=True)]


def decode(
    model: PreTrainedModel,
    replies: list[Reply],
    rows: Rows,
    guess: Callable[[list[Reply], Rows, int], list[list[int]]],
    done: Callable[[Reply, Rows, int], None] | None = None,
) -> None:
    """Complete replies, one to each row.

    Each step computes a row's last token and a guess of what follows it; the guess counts as far as
    it is what is sampled, so it changes nothing but time.

    Args:
        model: The model that decides.
        replies: Replies with at least one token, of which the last is not in its row yet.
        rows: Their contexts' keys and values, with room.
        guess: Returns what may follow each reply, at most so many tokens.
        done: Called with each reply that is complete, and the rows and the row where it stands;
            None where only the tokens count.
    """
    draws = Draws(replies, model.device)
    while True:
        going = [row for row, reply in enumerate(replies) if reply.left]
        if len(going) <= len(replies) * 7 // 8:
            for row, reply in enumerate(replies):
                if not reply.left and done:
                    done(reply, rows, row)
            if not going:
                return
            sources = _moved(going)
            rows, replies = rows.take(sources), [replies[row] for row in sources]
            draws.take(sources)
        guesses = guess(replies, rows, rows.room - max(reply.left for reply in replies))
        width = 1 + max(map(len, guesses))
        tokens = [
            [*reply.ids[-1:], *one, *[0] * (width - 1 - len(one))]
            for reply, one in zip(replies, guesses, strict=True)
        ]
        lengths = [[len(reply.request.ids) + len(reply.ids) - 1] for reply in replies]
        # Beyond its end a row is padding, where a model may have no positions any more.
        ends = [[len(reply.request.ids) + reply.limit - 1] for reply in replies]
        positions = (torch.tensor(lengths) + torch.arange(width)).minimum(torch.tensor(ends))
        logits = model(
            input_ids=torch.tensor(tokens).to(model.device),
            attention_mask=rows.mask(width),
            position_ids=positions.to(model.device),
            **cached(model, rows.cache),
        ).logits
        chosen = draws.choose(logits, replies, measured=done is not None)
        taken = [
            reply.take(one, found)
            for reply, one, found in zip(replies, guesses, chosen, strict=True)
        ]
        rows.confirm(taken)


def _moved(going: list[int]) -> list[int]:
    """Return the rows that go on, in such an order that few of them move."""
    moving = [row for row in going if row >= len(going)]
    staying = set(going)
    return [row if row in staying else moving.pop() for row in range(len(going))]
