import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.records import StageError
from hpl_gym.trainers.segment import cut
from hpl_gym.trainers.semantic import Cache, SegmentationError, parse_spans, segment, transcript
from hpl_gym.trainers.subtasks import subtasks

ENV = "HPL/ALFWorld-v0"
DEEDS = [
    ("go to desk 1", "You arrive at desk 1. On the desk 1, you see a mug 1."),
    ("take mug 1 from desk 1", "You pick up the mug 1 from the desk 1."),
    ("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see " + 30 * "a book 1, "),
    ("put mug 1 in/on shelf 1", "You put the mug 1 in/on the shelf 1."),
]
RECORD = {
    "instruction": "put a mug in shelf.",
    "turns": [
        {"reply": f"Thought: I know.\nAction: {action}", "observation": shown}
        for action, shown in DEEDS
    ],
}


def item(start, end, name="a part"):
    return {"start": start, "end": end, "name": name}


GOOD = json.dumps([item(1, 3), item(4, 4)])
BAD = "Here you are: " + GOOD


class Model:
    """Gives its answers in turn, and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def __call__(self, messages):
        self.asked.append(messages)
        await asyncio.sleep(0.01)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def segmented(model, cache, record=RECORD, name="a-model", env_id=ENV):
    return asyncio.run(segment(record, model, cache, env_id=env_id, model=name))


@given(begins=st.lists(st.booleans(), max_size=30), fenced=st.booleans())
def test_every_division_is_read_back(begins, fenced):
    spans = cut(begins)
    text = json.dumps([item(start + 1, stop) for start, stop in spans], indent=1)
    text = f"\n```json\n{text}\n```\n" if fenced else f" {text}\n"
    assert parse_spans(text, len(begins)) == spans


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ("", "not JSON"),
        ("I cannot.", "not JSON"),
        (BAD, "not JSON"),
        (GOOD + "\nThat is all.", "not JSON"),
        (f"```json\n{GOOD}\n```\nThat is all.", "not JSON"),
        (f"Sure!\n```json\n{GOOD}\n```", "not JSON"),
        (f"```\n{GOOD}\n```", "not JSON"),
        (f"```json\n{GOOD}\n```\n```json\n{GOOD}\n```", "not JSON"),
        (GOOD[:-1], "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[{'start': 1, 'end': 4, 'name': 'x'}]", "not JSON"),
        ('[{"start": ' + "9" * 5000 + ', "end": 4, "name": "x"}]', "not JSON"),
        (json.dumps(item(1, 4)), "not a list"),
        ("null", "not a list"),
        ("[]", "Turn 1 and what follows"),
        ("[[1, 4]]", "Item 1 has not just the keys"),
        ('[{"start": 1, "end": 4}]', "Item 1 has not just the keys"),
        (json.dumps([item(1, 4) | {"why": ""}]), "Item 1 has not just the keys"),
        (json.dumps([item(1, 2), item("3", 4)]), "In item 2, start and end"),
        (json.dumps([item(1.0, 4)]), "In item 1, start and end"),
        (json.dumps([item(True, 4)]), "In item 1, start and end"),
        ('[{"start": NaN, "end": 4, "name": "x"}]', "In item 1, start and end"),
        (json.dumps([item(1, 4, None)]), "In item 1, the name"),
        (json.dumps([item(1, 4, " ")]), "In item 1, the name"),
        (json.dumps([item(0, 3)]), "Item 1 is out of range: the turns are 1 to 4"),
        (json.dumps([item(1, 5)]), "Item 1 is out of range"),
        (json.dumps([item(1, 4), item(5, 5)]), "Item 2 is out of range"),
        (json.dumps([item(-1, 4)]), "Item 1 is out of range"),
        (json.dumps([item(1, 2), item(4, 3)]), "Item 2 ends before it starts"),
        (json.dumps([item(1, 2), item(2, 4)]), "Item 2 overlaps"),
        (json.dumps([item(1, 4), item(1, 4)]), "Item 2 overlaps"),
        (json.dumps([item(1, 2), item(4, 4)]), "Turn 3 is in no item"),
        (json.dumps([item(3, 4), item(1, 2)]), "Turn 1 is in no item, or not in order"),
        (json.dumps([item(1, 3)]), "Turn 4 and what follows"),
    ],
)
def test_what_is_wrong_with_an_answer(answer, wrong):
    with pytest.raises(SegmentationError, match=wrong):
        parse_spans(answer, 4)


def test_the_model_reads_the_task_and_short_turns():
    lines = transcript(RECORD).splitlines()
    assert lines[0] == "Task: put a mug in shelf."
    assert lines[2:4] == ["1. go to desk 1", f"   -> {DEEDS[0][1]}"]
    assert lines[7].endswith(" ...")
    assert len(lines[7]) < 220
    assert "I know" not in transcript(RECORD)
    assert transcript(
        {"instruction": "", "turns": [{"reply": "Action: x", "observation": "A hall."}]}
    ) == ("Task: \n\n1. x\n   -> A hall.")
    wish = "w" * 190
    page = {"reply": "Action: x", "observation": f"Instruction: [SEP] {wish} [SEP] seen"}
    assert transcript({"instruction": wish, "turns": [page]}).endswith("... [SEP] seen")


def test_a_first_answer_is_used(tmp_path):
    model = Model(GOOD)
    found = segmented(model, Cache(tmp_path / "new" / "cache.jsonl"))
    assert (found.spans, found.how) == ([(0, 3), (3, 4)], "model")
    (messages,) = model.asked
    assert [one["role"] for one in messages] == ["system", "user"]
    assert messages[1]["content"] == transcript(RECORD)


def test_a_second_answer_is_asked_for_with_what_is_wrong(tmp_path):
    model = Model(json.dumps([item(1, 3)]), GOOD)
    found = segmented(model, Cache(tmp_path / "cache.jsonl"))
    assert (found.spans, found.how) == ([(0, 3), (3, 4)], "repaired")
    first, second = model.asked
    assert second[:2] == first
    assert second[2] == {"role": "assistant", "content": json.dumps([item(1, 3)])}
    assert "Turn 4 and what follows are in no item." in second[3]["content"]


def test_the_rules_come_last(tmp_path):
    model = Model(BAD, BAD, GOOD)
    cache = Cache(tmp_path / "cache.jsonl")
    found = segmented(model, cache)
    assert (found.spans, found.how) == (subtasks(RECORD, ENV), "fallback")
    assert found.spans == [(0, 2), (2, 4)]
    assert segmented(model, cache) == found
    assert len(model.asked) == 2
    with pytest.raises(HPLGymError, match="no sub-task rules"):
        segmented(model, cache, env_id="HPL/Toy-v0")


@pytest.mark.parametrize("answers", [[GOOD], ["\ud800 \u2028\r\n", GOOD], [BAD, BAD]])
def test_a_reopened_cache_knows_what_was_answered(tmp_path, answers):
    path = tmp_path / "cache.jsonl"
    before = segmented(Model(*answers), Cache(path))
    whole = path.read_bytes()
    assert whole.count(b"\n") == len(answers)
    path.write_bytes(whole + whole[:-1])
    silent = Model()
    assert segmented(silent, Cache(path)) == before
    assert silent.asked == []
    assert path.read_bytes()[: len(whole)] == whole
    path.write_bytes(whole[:-1])
    assert segmented(Model(answers[-1]), Cache(path)) == before
    assert path.read_bytes() == whole


def test_a_broken_line_inside_is_refused(tmp_path):
    path = tmp_path / "cache.jsonl"
    path.write_text('{"key": "a", "ans\n{"key": "b", "answer": "x"}\n')
    with pytest.raises(StageError, match="line 1"):
        Cache(path)


def test_another_model_or_transcript_is_asked_again(tmp_path):
    cache = Cache(tmp_path / "cache.jsonl")
    model = Model(GOOD, json.dumps([item(1, 4)]), json.dumps([item(1, 2)]))
    assert segmented(model, cache).spans == [(0, 3), (3, 4)]
    assert segmented(model, cache, name="another").spans == [(0, 4)]
    assert segmented(model, cache, RECORD | {"turns": RECORD["turns"][:2]}).spans == [(0, 2)]
    assert segmented(model, cache).spans == [(0, 3), (3, 4)]


def test_many_who_ask_at_once_ask_once(tmp_path):
    path = tmp_path / "cache.jsonl"
    model, cache = Model(BAD, GOOD), Cache(path)

    async def many():
        asks = [segment(RECORD, model, cache, env_id=ENV, model="m") for _ in range(8)]
        first, *rest = map(asyncio.ensure_future, asks)
        await asyncio.sleep(0)
        first.cancel()  # and the others still get their answer
        return await asyncio.gather(*rest)

    found = asyncio.run(many())
    assert all(one == found[0] for one in found)
    assert found[0].how == "repaired"
    assert len(model.asked) == 2
    assert len(path.read_text().splitlines()) == 2


def test_a_failed_request_is_passed_on_and_not_kept(tmp_path):
    path = tmp_path / "cache.jsonl"
    model, cache = Model(OSError("no server"), GOOD), Cache(path)

    async def two():
        asks = (segment(RECORD, model, cache, env_id=ENV, model="m") for _ in range(2))
        return await asyncio.gather(*asks, return_exceptions=True)

    assert [str(one) for one in asyncio.run(two())] == ["no server"] * 2
    assert path.read_bytes() == b""
    assert segmented(model, cache, name="m").how == "model"
