"""The scripted WebShop shopper: searches, reads, compares, and buys what fits best."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hpl_gym.agents.agent import Reply
from hpl_gym.webshop.pages import SEPARATOR, parse_action
from hpl_gym.webshop.search import analyze
from hpl_gym.wrappers.react import ThoughtAction, parse_reply
from hpl_gym.wrappers.transcript import Conversation

_PRICE = re.compile(r",? and price lower than ([\d.]+) dollars\s*$")
_RESULTS = re.compile(r"Page (\d+) \(Total results: (\d+)\)")
_ASIN = re.compile(r"[A-Z0-9]{10}")
# Words of an instruction that say nothing about the product.
_IDLE = frozenset(
    term
    for word in (
        "i i'm im am we you your my me look looking search searching need want wanting "
        "like love would could can please find finding get buy buying purchase show give "
        "help hello hi some any one something thing also should must have has having made "
        "make sure which who what where do does don't so that's its it's price lower than "
        "dollars interested prefer preferably ideally really very good great nice them "
        "from about too"
    ).split()
    for term in analyze(word)
)
_GROUPS = frozenset(
    (
        "color size style scent flavor material length capacity pack weight volume "
        "dimensions width edition model configuration"
    ).split()
) | {
    "flavor name",
    "fit type",
    "pattern name",
    "item package quantity",
    "material type",
    "item shape",
    "product packaging",
    "number of items",
    "shoe size",
    "scent name",
    "team name",
    "unit count",
    "special size",
}


@dataclass
class _Candidate:
    """What was seen of a product.

    Attributes:
        asin: Its id.
        title: Its title.
        price: The lowest price shown, in dollars.
        rank: Its place in the results, from 0.
        options: Option values by group, once its page was seen.
        text: All index terms seen on its pages.
        read: Which of its detail pages were read.
    """

    asin: str
    title: str
    price: float
    rank: int
    options: dict[str, list[str]] | None = None
    text: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)


@dataclass
class _Memory:
    """What the conversation tells: the page that is open and the products seen.

    Attributes:
        kind: ``search``, ``results``, ``item``, or a detail page's name.
        asin: The product that is looked at.
        candidates: Products on the results pages, best first.
        shown: Those on the results page that is or was open.
        chosen: Options chosen for the product that is looked at.
        searches: How many searches there were.
    """

    kind: str = "search"
    asin: str = ""
    candidates: dict[str, _Candidate] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)
    chosen: set[str] = field(default_factory=set)
    searches: int = 0


@dataclass(frozen=True)
class ScriptedWebShop:
    """Solves WebShop tasks from observations alone and says why it does what it does.

    Each reply is a function of the conversation alone, so that the agent can take over at any turn.

    Attributes:
        turns: The turn limit that it plans for.
    """

    turns: int = 10

    async def act(self, conversation: Conversation, seed: int = 0) -> Reply:
        """Return the next thought and action."""
        return Reply(str(_next_step(conversation, self.turns - len(conversation.turns))))


class _Wish:
    """An instruction, taken apart.

    Args:
        instruction: The customer's sentence.
    """

    def __init__(self, instruction: str) -> None:
        price = _PRICE.search(instruction)
        self.cap = float(price[1]) if price else float("inf")
        self.sentence = instruction[: price.start()] if price else instruction
        self.order = analyze(self.sentence)
        self.terms = {term for term in self.order if term not in _IDLE}

    def query(self) -> str:
        """Return the words to search for."""
        words = re.findall(r"[^\s,;]+", self.sentence.lower())
        kept = [word.strip(".!?") for word in words if set(analyze(word)) - _IDLE]
        return " ".join(kept) or self.sentence

    def picks(self, options: dict[str, list[str]]) -> dict[str, str]:
        """Return the value of each option group that the sentence asks for."""
        picked = {}
        for group, values in options.items():
            asked = [value for value in values if self._asks(value)]
            if asked:
                picked[group] = max(asked, key=lambda value: len(analyze(value)))
        return picked

    def _asks(self, value: str) -> bool:
        terms = analyze(value)
        places = range(len(self.order) - len(terms) + 1)
        return bool(terms) and any(self.order[at : at + len(terms)] == terms for at in places)

    def words(self, terms: set[str]) -> str:
        """Return the first three words of the sentence that these terms stand for."""
        words = re.findall(r"[\w'-]+", self.sentence.lower())
        meant = dict.fromkeys(word for word in words if terms.intersection(analyze(word)))
        return " and ".join(list(meant)[:3])

    def missing(self, candidate: _Candidate) -> set[str]:
        """Return the terms that nothing seen of a product has."""
        options = candidate.options or {}
        seen = set(candidate.text) | set(analyze(candidate.title))
        for group, value in self.picks(options).items():
            seen.update(analyze(group) + analyze(value))
        return self.terms - seen

    def cost(self, candidate: _Candidate) -> float:
        """Return how far a product seems from the wish; 0 is perfect.

        The search has read all of a text of which a title shows little, so its ranking counts, and
        what is missing counts less until the product was opened.
        """
        missing = len(self.missing(candidate)) * (0.3 if candidate.options is None else 1.0)
        return missing + candidate.rank + 3.0 * (candidate.price > self.cap)


def _next_step(conversation: Conversation, left: int) -> ThoughtAction:
    wish, memory = _Wish(conversation.instruction), _read(conversation)
    if memory.kind == "search":
        return ThoughtAction("I search for what is asked for.", f"search[{wish.query()}]")
    ranked = sorted(memory.candidates.values(), key=wish.cost)
    if not ranked:
        if memory.searches < 2:
            words = wish.query().split()
            fewer = " ".join(words[: max(1, len(words) // 2)])
            return ThoughtAction("Nothing was found, so I try fewer words.", f"search[{fewer}]")
        return ThoughtAction("Nothing was found, so I start again.", "click[Back to Search]")
    if memory.kind == "results":
        best = next((one for one in ranked if one.asin in memory.shown), None)
        if best is None:
            return ThoughtAction("Nothing is shown, so I start again.", "click[Back to Search]")
        return _open(best, wish)
    here = memory.candidates[memory.asin]
    if memory.kind != "item":
        return ThoughtAction(_finding(here, wish), "click[< Prev]")
    return _on_item(here, ranked, wish, memory, left)


def _on_item(
    here: _Candidate, ranked: list[_Candidate], wish: _Wish, memory: _Memory, left: int
) -> ThoughtAction:
    picks = list(wish.picks(here.options or {}).values())
    todo = [value for value in picks if value not in memory.chosen]
    spare = left - len(todo) - 1
    missing = wish.missing(here)
    if missing and spare >= 2 and here.price <= wish.cap:
        for page in ("features", "description"):
            if page not in here.read:
                thought = f"I have not seen {wish.words(missing)} yet, so I read the {page}."
                return ThoughtAction(thought, f"click[{page.title()}]")
    rival = next((one for one in ranked if one is not here), None)
    # Going back, opening, choosing as many options, and buying.
    if rival and wish.cost(rival) < wish.cost(here) and left >= 3 + max(2, len(picks)):
        return ThoughtAction(_finding(here, wish) + " Another may fit better.", "click[< Prev]")
    if todo:
        return ThoughtAction(f"I choose {todo[0]}, as asked for.", f"click[{todo[0]}]")
    return ThoughtAction("This fits best, so I buy it.", "click[Buy Now]")


def _open(candidate: _Candidate, wish: _Wish) -> ThoughtAction:
    shown = f"{candidate.asin}, {candidate.title[:60]}, ${candidate.price}"
    judged = "looks closest" if candidate.price <= wish.cap else "looks closest, but costs too much"
    return ThoughtAction(f"{shown}: this {judged}.", f"click[{candidate.asin}]")


def _finding(candidate: _Candidate, wish: _Wish) -> str:
    missing = wish.missing(candidate)
    if missing:
        return f"I have not found {wish.words(missing)} here."
    return "All that is asked for is here."


def _read(conversation: Conversation) -> _Memory:
    """Replay the conversation into what it tells."""
    memory = _Memory()
    _see(memory, conversation.observation)
    for turn in conversation.turns:
        verb, argument = parse_action(parse_reply(turn.reply).action) or ("", "")
        before = memory.kind
        if verb == "search":
            memory.searches += 1
        elif before == "results" and _ASIN.fullmatch(argument.upper()):
            memory.asin, memory.chosen = argument.upper(), set()
        elif before == "item" and any(
            argument in group for group in (memory.candidates[memory.asin].options or {}).values()
        ):
            memory.chosen.add(argument)
        elif before == "item" and argument in ("description", "features", "reviews"):
            memory.kind = argument
        _see(memory, turn.observation)
    return memory


def _see(memory: _Memory, observation: str) -> None:
    parts = observation.split(SEPARATOR)
    if parts[0] == "WebShop":
        memory.kind = "search"
        return
    body = parts[3:]  # after "Instruction:", the instruction and "Back to Search"
    if body and _RESULTS.fullmatch(body[0]):
        memory.kind, memory.shown = "results", set()
        for place in range(1, len(body) - 2):
            if _ASIN.fullmatch(body[place]) and body[place + 2].startswith("$"):
                price = float(body[place + 2].split(" to ")[0].lstrip("$"))
                candidate = _Candidate(body[place], body[place + 1], price, len(memory.candidates))
                memory.candidates.setdefault(candidate.asin, candidate)
                memory.shown.add(candidate.asin)
    elif body and body[-1] == "Buy Now":
        memory.kind = "item"
        price = next(at for at, part in enumerate(body) if part.startswith("Price: $"))
        lowest = float(body[price].removeprefix("Price: $").split(" to ")[0])
        opened = _Candidate(memory.asin, body[price - 1], lowest, len(memory.candidates))
        candidate = memory.candidates.setdefault(memory.asin, opened)
        candidate.options = _groups(body[1 : price - 1])
    elif memory.asin in memory.candidates and memory.kind in ("description", "features", "reviews"):
        candidate = memory.candidates[memory.asin]
        candidate.text.update(analyze(" ".join(body[1:])))
        candidate.read.add(memory.kind)


def _groups(parts: list[str]) -> dict[str, list[str]]:
    """Tell names of option groups from values: a name is a known one, and values follow it."""
    groups: dict[str, list[str]] = {}
    name = ""
    for part in parts:
        if part in _GROUPS and part not in groups:
            name = part
            groups[name] = []
        elif name:
            groups[name].append(part)
    return groups
