"""Exploration: the same files however it runs, values that are shared, pairs as in the paper."""

import asyncio
import json
import random

import pytest

from hpl_gym.agents.backends.openai import ChatAnswer
from hpl_gym.agents.backends.request import Completion, Usage
from hpl_gym.agents.chat import ChatEncoder
from hpl_gym.agents.language_model import LanguageModelAgent
from hpl_gym.core import HPLGymError
from hpl_gym.trainers import explore as module
from hpl_gym.trainers import records, segmenters, semantic
from hpl_gym.trainers.config import Config
from hpl_gym.trainers.explore import explore
from hpl_gym.trainers.preferences import make_pairs
from hpl_gym.trainers.records import Stage, StageError, read_records
from hpl_gym.trainers.reference import pair_items, pair_records
from hpl_gym.trainers.rollout import Simulator, rollout
from hpl_gym.trainers.seeds import draw
from hpl_gym.trainers.trajectory import replay, to_conversation, to_record
from tests.language import PROMPT, tokenizer
from tests.toy import ToyEnv
from tests.trainers.test_rollout import HARD, Reciter

EASY = ["go kitchen", "take gold", "go hall", "drop gold"]
SEGMENTERS = ("fixed-k", "fixed-n", "uncertainty", "single")
FILES = ("trajectories", "segments", "values", "groups")


class Player:
    """A backend that mostly knows the way, and wastes turns or gives up by the request's seed."""

    def __init__(self, seed=0):
        self.usage = Usage()
        self.asked = []
        self.waits = random.Random(seed)

    async def generate(self, request):
        self.asked.append((request.ids, request.seed, request.temperature))
        for _ in range(self.waits.randrange(5)):
            await asyncio.sleep(0)
        text = tokenizer().decode(list(request.ids))
        plan = HARD if "silver" in text else EASY
        done = 0
        for part in text.split("Action: ")[1:]:
            done += done < len(plan) and part.startswith(plan[done])
        chance = random.Random(request.seed).random()
        action = plan[done] if chance < 0.8 else "give up" if chance < 0.9 else "dance"
        ids = tuple(tokenizer()(f"Thought: On.\nAction: {action}")["input_ids"])
        ids = (*ids, request.stop_id)
        return Completion(ids, (-0.1,) * len(ids), (chance,) * len(ids))

    async def close(self):
        pass


class Splitting(Player):
    """Says what the experts say, in other tokens: in pieces that a tokenizer would join."""

    async def generate(self, request):
        done = await super().generate(request)
        text = tokenizer().decode(list(done.ids[:-1])).replace("On.", "on.")
        pieces = [text[place : place + 3] for place in range(0, len(text), 3)]
        ids = [token for piece in pieces for token in tokenizer()(piece)["input_ids"]]
        ids.append(request.stop_id)
        return Completion(tuple(ids), (-0.1,) * len(ids), done.entropies[:1] * len(ids))


def settings(**explored):
    explored = {"segmenters": SEGMENTERS, "rollouts": 5, "concurrency": 3} | explored
    return Config.model_validate(
        {"env": {"id": ToyEnv.env_id}, "prompt": "brief", "explore": explored}
    )


@pytest.fixture
def run(tmp_path):
    """A run with experts and a policy's weights."""
    return make_run(tmp_path / "run")


def make_run(folder):
    experts = Stage(folder / "experts", {})
    for number, plan in enumerate([EASY, HARD, EASY, HARD, HARD]):
        simulator = Simulator(ToyEnv(), 12)
        start = simulator.start(f"{'abcde'[number]}/{'hard' if plan is HARD else 'easy'}")
        states = asyncio.run(rollout(simulator, Reciter(plan), start))
        experts.append("trajectories", to_record(states, key=start.conversation.task_id, slips=[]))
    experts.finish()
    Stage(folder / "sft", {"prompt": "brief"}).finish()
    (folder / "sft/model").mkdir()
    (folder / "sft/model/model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture(autouse=True)
def player(monkeypatch):
    """Makes every exploration's policy a new `Player`; returns the list of them."""
    players = []

    def load(config, model):
        players.append(Player(len(players)))
        return LanguageModelAgent(players[-1], ChatEncoder(tokenizer(), PROMPT))

    monkeypatch.setattr(module, "load_policy", load)
    return players


def content(run):
    files = [
        *(f"explore/{name}.jsonl" for name in FILES),
        *sorted(str(path.relative_to(run)) for path in run.glob("pairs/*.jsonl")),
    ]
    return {name: (run / name).read_bytes() for name in files}


def all_of(run, config):
    explore(config, run)
    make_pairs(config, run)
    return content(run)


def test_the_files_do_not_depend_on_concurrency(tmp_path):
    first, *others = (
        all_of(make_run(tmp_path / str(concurrency)), settings(concurrency=concurrency))
        for concurrency in (1, 8, 64)
    )
    assert all(first.values())
    assert all(other == first for other in others)


class KilledError(BaseException):
    pass


@pytest.mark.parametrize("torn", [0, 5, None])
def test_an_exploration_that_is_killed_goes_on_with_the_same_bytes(
    tmp_path, monkeypatch, player, torn
):
    whole = all_of(make_run(tmp_path / "whole"), settings())
    asked = len(player[0].asked)
    append, writes = records.append, [0]
    chance = random.Random(str(torn))

    def dying(path, *rows):
        writes[0] += 1
        if chance.random() < 0.25:
            if torn is not None:  # the first lines reach the disk, and a part of the next
                some = rows[: chance.randrange(len(rows) + 1)]
                append(path, *some)
                with path.open("ab") as file:
                    file.write(b'{"key": "tor'[:torn])
            raise KilledError
        append(path, *rows)

    monkeypatch.setattr(records, "append", dying)
    run, deaths = make_run_with(append, monkeypatch, tmp_path / "run", dying), 0
    while True:
        try:
            explore(settings(concurrency=1 + deaths % 5), run)
            break
        except KilledError:
            deaths += 1
    monkeypatch.setattr(records, "append", append)
    make_pairs(settings(), run)
    assert deaths >= 3
    assert content(run) == whole
    manifests = [
        json.loads((tmp_path / name / "explore/manifest.json").read_text())
        for name in ("whole", "run")
    ]
    assert manifests[0]["account"] == manifests[1]["account"]
    assert manifests[0]["model_calls"] == asked


def make_run_with(append, monkeypatch, folder, dying):
    monkeypatch.setattr(records, "append", append)
    run = make_run(folder)
    monkeypatch.setattr(records, "append", dying)
    return run


def test_branches_are_greedy_and_values_sampled(run, player):
    explore(settings(), run)
    asked = player[0].asked
    assert len({*asked}) == len(asked)
    branches = list(read_records(run / "explore/trajectories.jsonl"))
    assert sum(one["calls"] for one in branches) == sum(heat == 0.0 for *_, heat in asked)
    assert {heat for *_, heat in asked} == {0.0, 1.0}


def test_each_state_is_valued_once_and_shared(run, player):
    explore(settings(temperature=1.0), run)
    asked = player[0].asked
    assert len({*asked}) == len(asked)
    values = {one["history"]: one for one in read_records(run / "explore/values.jsonl")}
    assert all(len(one["rewards"]) == 5 for one in values.values())
    assert all(one["value"] == sum(one["rewards"]) / 5 for one in values.values())
    experts = {one["key"]: one for one in read_records(run / "experts/trajectories.jsonl")}
    branches = {one["key"]: one for one in read_records(run / "explore/trajectories.jsonl")}
    seen = set()
    for group in read_records(run / "explore/groups.jsonl"):
        expert, branch = experts[group["expert"]], branches[f"{group['expert']}#{group['start']}"]
        talk = to_conversation(expert, ToyEnv.env_id)
        if group["stop"] < len(expert["turns"]):
            value = values[talk.prefix(group["stop"]).digest]
            assert group["winner"] == value["value"]
            # A branch is the first of its state's rollouts.
            assert value["rewards"][0] == branches[f"{expert['key']}#{group['stop']}"]["reward"]
        else:
            assert group["winner"] == expert["reward"]
        length = group["stop"] - group["start"]
        if len(branch["turns"]) <= length:
            assert group["loser"] == branch["reward"]
        seen.add(group["segmenter"])
    assert seen == {*SEGMENTERS}


def test_what_all_segmenters_cost_together(tmp_path):
    def calls(*segmenters):
        run = make_run(tmp_path / "-".join(segmenters))
        return explore(settings(segmenters=segmenters), run)["model_calls"]

    assert calls(*SEGMENTERS, "fixed-n") <= 1.5 * max(calls(one) for one in SEGMENTERS)


def test_values_are_those_of_rollouts_with_the_states_own_seeds(run, player):
    explore(settings(), run)
    agent = LanguageModelAgent(Player(), ChatEncoder(tokenizer(), PROMPT), temperature=1.0)
    values = {one["history"]: one for one in read_records(run / "explore/values.jsonl")}
    simulator, found = Simulator(ToyEnv(), 12), 0
    for expert in read_records(run / "experts/trajectories.jsonl"):
        for state in replay(simulator, expert)[1:-1]:
            ends = [
                asyncio.run(rollout(simulator, agent, state, seed=draw(0, number)))[-1]
                for number in range(5)
            ]
            assert values[state.conversation.digest]["rewards"] == [end.reward for end in ends]
            found += 1
    assert found == 24


def test_pairs_and_why_others_were_dropped(run):
    config = settings()
    all_of(run, config)
    manifest = json.loads((run / "pairs/manifest.json").read_text())
    groups = list(read_records(run / "explore/groups.jsonl"))
    kept = list(read_records(run / "pairs/pairs_group.jsonl"))
    experts = {one["key"]: one for one in read_records(run / "experts/trajectories.jsonl")}
    branches = {one["key"]: one for one in read_records(run / "explore/trajectories.jsonl")}

    def replies(turns):
        return [one["reply"] for one in turns]

    def differs(group):
        start, stop = group["start"], group["stop"]
        said = branches[f"{group['expert']}#{start}"]["turns"][: stop - start]
        return replies(said) != replies(experts[group["expert"]]["turns"][start:stop])

    for name in SEGMENTERS:
        own = [one for one in groups if one["segmenter"] == name]
        dropped = manifest["dropped"][name]
        assert manifest["kept"][name] + sum(dropped.values()) == len(own)
        assert manifest["kept"][name] == sum(
            one["winner"] - one["loser"] > 0.01 and differs(one) for one in own
        )
        assert set(dropped) <= {"same", "tie", "worse"}
    encoder = ChatEncoder(tokenizer(), PROMPT)
    steps = list(read_records(run / "pairs/pairs_step.jsonl"))
    for pair in kept + steps:
        turns = experts[pair["expert"]]["turns"][pair["start"] : pair["stop"]]
        ours, theirs = replies(turns), replies(pair["loser"])
        assert ours != theirs
        assert pair in kept or ours[0] != theirs[0]
    assert steps
    pairs = kept + steps
    for pair in pairs:
        assert pair["length"] == pair["stop"] - pair["start"]
        assert len(pair["loser"]) >= 1
        expert = experts[pair["expert"]]
        loser = {**expert, "turns": expert["turns"][: pair["start"]] + pair["loser"]}
        winner = {**expert, "turns": expert["turns"][: pair["stop"]]}
        for record, place in ((winner, "winner_tokens"), (loser, "loser_tokens")):
            encoded = encoder.encode(to_conversation(record, ToyEnv.env_id), ask=False)
            start, end = pair[place]
            assert end == len(encoded.ids)
            text = tokenizer().decode(list(encoded.ids[start:end]))
            assert text.startswith(record["turns"][pair["start"]]["reply"])
    with pytest.raises(StageError, match="seed was 0, is 1"):
        explore(config.model_copy(update={"seed": 1}), run)


class Chat:
    """A chat model that divides a transcript in two, if it has four turns."""

    def __init__(self):
        self.usage = Usage()

    async def complete(self, messages, **options):
        self.usage.calls += 1
        turns = messages[1]["content"].count("   -> ")
        spans = [{"start": 1, "end": 2, "name": "go"}, {"start": 3, "end": turns, "name": "bring"}]
        return ChatAnswer(json.dumps(spans) if turns == 4 else "I would rather not.", 7, 3)

    async def close(self):
        pass


def test_a_language_model_may_cut(run, monkeypatch, tmp_path):
    chat = Chat()
    monkeypatch.setattr(segmenters, "_client", lambda model: chat)

    def rules(record, env_id):
        return [(0, 1), (1, len(record["turns"]))]

    monkeypatch.setattr(segmenters, "subtasks", rules)
    monkeypatch.setattr(semantic, "subtasks", rules)
    config = settings(segmenters=("semantic",), semantic="a-model")
    manifest = explore(config, run)
    # The two transcripts are asked about once, with a repair of the unusable answer.
    assert chat.usage.calls == 3
    assert manifest["usage"]["external_calls"] == 3
    for one in read_records(run / "explore/segments.jsonl"):
        usable = one["key"].endswith("easy")
        assert one["semantic"] == ("model" if usable else "fallback")
        assert one["spans"]["semantic"] == ([[0, 2], [2, 4]] if usable else [[0, 1], [1, 7]])
    by_rules = explore(settings(segmenters=("semantic",)), make_run(tmp_path / "rules"))
    assert chat.usage.calls == 3
    assert "external_calls" not in by_rules["usage"]


def test_what_was_asked_before_a_server_broke_is_counted(run, monkeypatch):
    chat = Chat()

    async def breaks(messages, **options):
        chat.usage.calls += 1
        if chat.usage.calls == 2:
            raise HPLGymError("The server is gone.")
        return await Chat().complete(messages, **options)

    monkeypatch.setattr(chat, "complete", breaks)
    monkeypatch.setattr(segmenters, "_client", lambda model: chat)
    config = settings(segmenters=("semantic",), semantic="a-model")
    with pytest.raises(HPLGymError, match="The server is gone"):
        explore(config, run)
    assert json.loads((run / "explore/manifest.json").read_text())["usage"]["external_calls"] == 2


def test_other_experts_or_weights_are_refused(run):
    explore(settings(), run)
    (run / "sft/model/model.safetensors").write_bytes(b"others")
    with pytest.raises(StageError, match="policy has other contents"):
        explore(settings(), run)


def test_a_full_disk_ends_in_one_sentence_and_loses_nothing(run, monkeypatch):
    whole_run = make_run(run.parent / "whole")
    whole = all_of(whole_run, settings())
    write = records.Path.open

    def full(path, *arguments, **options):
        if path.name == "values.jsonl" and arguments and arguments[0] == "a":
            raise OSError(28, "No space left on device")
        return write(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(records.Path, "open", full)
        with pytest.raises(StageError, match="No space left on device"):
            explore(settings(), run)
    assert all_of(run, settings()) == whole


def test_pairs_are_found_again_whatever_tokens_a_reply_came_in(run, monkeypatch):
    encoder = ChatEncoder(tokenizer(), PROMPT)
    monkeypatch.setattr(module, "load_policy", lambda *_: LanguageModelAgent(Splitting(), encoder))
    all_of(run, settings(segmenters=("fixed-n",)))
    rows = pair_records(run, "fixed-n")
    experts = {
        one["key"]: to_conversation(one, ToyEnv.env_id)
        for one in read_records(run / "experts/trajectories.jsonl")
    }
    assert len(pair_items(rows, encoder, experts)) == len(rows) > 10
