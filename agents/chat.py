"""From conversations to token ids: stable under extension, with the agent's tokens marked.

A chat template is applied piece by piece: what comes before the first reply, each reply, and what
stands between two replies are tokenized each for itself (all but the first behind the token that
ends a reply, since many tokenizers begin a text with a space) and joined. So a longer conversation
always begins with the very tokens of a shorter one, whatever the tokenizer would merge across the
seam, and tokens that a model sampled are kept as they were.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

from hpl_gym.core import HPLGymError
from hpl_gym.wrappers.transcript import Conversation

_SHIPPED = Path(__file__).parent / "prompts"
# Templates that show the date would give other contexts every day.
_NO_TODAY = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}\n"
_SYSTEM, _FIRST, _REPLY, _OBSERVATION = "@system@", "@first@", "@reply@", "@observation@"


class ChatTemplateError(HPLGymError):
    """The tokenizer has no chat template, or one that rewrites earlier messages."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a conversation.

    Attributes:
        ids: All token ids.
        is_agent: One flag a token: written by the agent (trained on), or not (masked).
        bounds: Ends of the pieces, ascending; ``ids[:b]`` for ``b`` in `bounds` are the contexts
            and the completed replies.
    """

    ids: tuple[int, ...]
    is_agent: tuple[bool, ...]
    bounds: tuple[int, ...]


class ChatEncoder:
    """Encodes conversations by a tokenizer's chat template.

    Args:
        tokenizer: A `transformers` tokenizer with a chat template.
        prompt: The system prompt. Templates without a system role, or that move it as a chat goes
            on, get it in the first user message.

    Raises:
        ChatTemplateError: The template is missing or does not only append.
    """

    def __init__(self, tokenizer: Any, prompt: str) -> None:
        self.tokenizer = tokenizer
        self.prompt = prompt
        if not getattr(tokenizer, "chat_template", None):
            raise ChatTemplateError(
                "The tokenizer has no chat template: use an instruction-tuned model, or set "
                "tokenizer.chat_template."
            )
        added = tokenizer.added_tokens_decoder.items()
        # Many an end of a turn is special without being named.
        self._special = {*tokenizer.all_special_ids, *(id_ for id_, one in added if one.special)}
        self._pieces()
        self._opening = lru_cache(maxsize=1024)(self._tokenize)
        self._tokens = lru_cache(maxsize=65_536)(self._tokens_after_end)

    def encode(self, conversation: Conversation, *, ask: bool) -> Encoded:
        """Encode `conversation`.

        Args:
            conversation: The episode so far.
            ask: True ends with the header of the agent's next reply, for generation; False ends
                after the last reply, for training.
        """
        ids = list(self._opening(self._head.replace(_FIRST, conversation.observation)))
        flags = [False] * len(ids)
        bounds = [len(ids)]
        last = len(conversation.turns) - 1
        for index, turn in enumerate(conversation.turns):
            reply = turn.token_ids or (*self._tokens(self._reply(turn.reply)), *self._end)
            ids += reply
            flags += [True] * len(reply)
            bounds.append(len(ids))
            if index == last and not ask:
                break
            # A reply cut off by the token limit lacks its end token: the template closes it.
            closed = tuple(reply[-len(self._end) :]) == self._end
            between = self._tokens(self._between[0] + turn.observation + self._between[1])
            between = between if closed else (*self._end, *between)
            ids += between
            flags += [False] * len(between)
            bounds.append(len(ids))
        return Encoded(tuple(ids), tuple(flags), tuple(bounds))

    @property
    def end_id(self) -> int:
        """The token that ends a reply."""
        return self._end[0]

    def decode(self, ids: tuple[int, ...]) -> str:
        """Return the text of a reply's tokens, up to the first special one behind others."""
        begun = dropwhile(self._special.__contains__, ids)
        said = list(takewhile(lambda one: one not in self._special, begun))
        return str(self.tokenizer.decode(said, clean_up_tokenization_spaces=False)).strip()

    def _tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _tokens_after_end(self, text: str) -> tuple[int, ...]:
        """Tokenize a text that does not begin a chat."""
        ids = self._tokenize(self._end_text + text)
        return ids[ids.index(self.end_id) + 1 :]

    def _reply(self, text: str) -> str:
        lead, trail = self._around
        return lead + text + trail

    def _render(self, messages: list[dict[str, str]]) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                messages,
                chat_template=_NO_TODAY + self.tokenizer.get_chat_template(),
                tokenize=False,
                add_generation_prompt=True,
            )
        )

    def _pieces(self) -> None:
        """Find the template's constant parts with marker texts, and check that they compose."""
        system = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _FIRST}]
        merged = [{"role": "user", "content": f"{_SYSTEM}\n\n{_FIRST}"}]
        try:
            self._compose(system)
        except ChatTemplateError:
            self._compose(merged)

    def _compose(self, opening: list[dict[str, str]]) -> None:
        exchange = [
            {"role": "assistant", "content": _REPLY},
            {"role": "user", "content": _OBSERVATION},
        ]
        try:
            head, once, twice = (self._render(opening + turns * exchange) for turns in range(3))
        except Exception as error:  # templates raise errors of jinja's for roles they do not know
            raise ChatTemplateError(
                f"The tokenizer's chat template does not work: {error}"
            ) from error
        before, found, rest = once.partition(_REPLY)
        after, _, tail = rest.partition(_OBSERVATION)
        # Spaces around a reply are the model's to say.
        lead, end_and_user = before.removeprefix(head), after.lstrip()
        composed = head + 2 * (lead + _REPLY + after + _OBSERVATION + tail)
        if not found or lead.strip() or composed != twice or _SYSTEM not in head:
            raise ChatTemplateError(
                "The tokenizer's chat template changes earlier messages as a chat goes on, so "
                "contexts cannot be shared; set a template that only appends."
            )
        ends = self._tokenize(end_and_user)[:1]
        end_text = "".join(self.tokenizer.convert_ids_to_tokens(ends))
        if not end_and_user.startswith(end_text) or not self._special.intersection(ends):
            raise ChatTemplateError(
                "The tokenizer's chat template does not end replies with a special token; "
                "set a template that does."
            )
        self._end, self._end_text = ends, end_text
        self._around = lead, after.removesuffix(end_and_user)
        self._head = head.replace(_SYSTEM, self.prompt)
        self._between = (end_and_user.removeprefix(end_text), tail)


def load_prompt(name_or_path: str) -> str:
    """Return a prompt: the name of one that is shipped (``alfworld``, ``brief``), or a text file.

    Raises:
        HPLGymError: There is no such prompt, or it is not UTF-8.
    """
    for path in (_SHIPPED / f"{name_or_path}.md", Path(name_or_path)):
        if _is_file(path):
            try:
                return path.read_text(encoding="utf-8").strip()
            except UnicodeDecodeError as error:
                raise HPLGymError(f"The prompt {path} is not UTF-8: save it as that.") from error
    names = ", ".join(sorted(path.stem for path in _SHIPPED.glob("*.md")))
    raise HPLGymError(
        f"There is no prompt {name_or_path!r}: name a text file or one of the shipped ({names})."
    )


def prompt_identity(name_or_path: str) -> str:
    """Return what tells a prompt from others: the name of a shipped one, a file's SHA-256.

    Raises:
        HPLGymError: There is no such prompt.
    """
    text = load_prompt(name_or_path)
    if _is_file(_SHIPPED / f"{name_or_path}.md"):
        return name_or_path
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a text that is too long for a name
        return False
