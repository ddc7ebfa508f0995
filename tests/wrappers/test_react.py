import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpl_gym.wrappers import ReActWrapper, ThoughtAction, parse_reply
from tests.toy import make

texts = st.text() | st.sampled_from(["SELECT *\nFROM t", "Thought: what?", "x: action", "```"])


def is_thought(text: str) -> bool:
    lines = text.split("\n")
    return text == text.strip() and not any("ction" in line.casefold() for line in lines)


@given(
    texts.filter(is_thought),
    texts.filter(lambda text: text == text.strip() and "\n" not in text and "```" not in text),
)
@example("", "")
@example("So: an action\nis next", "go to shelf 1")
def test_what_is_written_is_read_again(thought, action):
    parts = ThoughtAction(thought, action)
    assert parse_reply(str(parts)) == parts


@pytest.mark.parametrize(
    ("reply", "thought", "action"),
    [
        ("THOUGHT: hm\nACTION: look", "hm", "look"),
        ("thought:hm\naction:look", "hm", "look"),
        ("  Thought : hm\n  Action : look  ", "hm", "look"),
        ("\n\nThought: hm\r\nAction: look\r\n", "hm", "look"),
        ("Action: look", "", "look"),
        ("I wonder.\nAction: look", "I wonder.", "look"),
        ("Thought: hm\nAction:\nlook\nObservation: You see.", "hm", "look"),
        ("Thought: a\nb\n\nAction: look\nAction: jump\nThought: c", "a\nb", "look"),
        ("Thought: my next action: look", "my next action: look", ""),
        ("Thought: hm\nAction:", "hm", ""),
        ("Thought: hm\nAction:   \n ", "hm", ""),
        ("hm", "hm", ""),
        ("", "", ""),
        (
            "Thought: hm\nAction:\n```sql\nSELECT 1\nFROM t\n```\nDone.",
            "hm",
            "```sql\nSELECT 1\nFROM t\n```",
        ),
        ("Action: ```sql\nSELECT 1", "", "```sql\nSELECT 1"),
    ],
)
def test_replies_are_taken_apart(reply, thought, action):
    assert parse_reply(reply) == ThoughtAction(thought, action)


def test_only_the_action_reaches_the_environment():
    env = ReActWrapper(make())
    env.reset(options={"task": "train/easy"})
    assert env.step("Thought: Go.\nAction: go kitchen")[0] == "You are in the kitchen."


def test_a_reply_without_an_action_costs_a_turn():
    env = ReActWrapper(make())
    env.reset(options={"task": "train/easy"})
    observation, *_, info = env.step("Thought: go kitchen")
    assert (observation, info["valid"], info["steps"]) == ("Nothing happens.", False, 1)
