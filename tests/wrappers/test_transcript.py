import pickle

import gymnasium
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpl_gym.wrappers import Conversation, ReActWrapper, TranscriptWrapper, Turn
from tests.toy import make

talks = st.lists(st.tuples(st.text(), st.text(), st.lists(st.integers()).map(tuple)), max_size=5)


def conversation(turns) -> Conversation:
    talk = Conversation("HPL/Toy-v0", "train/easy", "easy", "Do it.", "A hall.")
    for turn in turns:
        talk = talk.add(*turn)
    return talk


@given(talks)
def test_a_prefix_is_the_conversation_of_then(turns):
    talk = conversation(turns)
    for length in range(len(turns) + 1):
        assert talk.prefix(length) == conversation(turns[:length])


@given(talks)
def test_messages_alternate(turns):
    roles = [message["role"] for message in conversation(turns).messages("Be good.")]
    assert roles == ["system", "user"] + ["assistant", "user"] * len(turns)


@given(talks, talks)
def test_the_digest_is_of_the_texts(one, other):
    texts = [[turn[:2] for turn in turns] for turns in (one, other)]
    same = conversation(one).digest == conversation(other).digest
    assert same == (texts[0] == texts[1])


def test_the_wrapper_keeps_the_replies_whole():
    env = TranscriptWrapper(ReActWrapper(make()))
    first, info = env.reset(options={"task": "train/easy"})
    start = info["conversation"]
    assert start == Conversation(
        "HPL/Toy-v0", "train/easy", "easy", "Carry every coin to the hall.", first
    )
    reply = "Thought: Go.\nAction: go kitchen"
    observation, *_, info = env.step(reply)
    assert info["conversation"].turns == (Turn(reply, observation),)
    assert start.turns == ()
    assert env.reset(options={"task": "train/hard"})[1]["conversation"].turns == ()


def test_the_conversation_knows_the_admissible_actions_without_computing_them():
    env = TranscriptWrapper(make())
    env.reset(options={"task": "train/easy"})
    talk = env.step("go kitchen")[4]["conversation"]
    assert env.unwrapped.computed == 0
    assert talk.admissible == ("go hall", "go attic", "take gold", "give up")
    copy = pickle.loads(pickle.dumps(talk))
    assert (copy, copy.admissible) == (talk, talk.admissible)


@pytest.mark.parametrize("wrapper", [TranscriptWrapper, ReActWrapper])
def test_a_wrapped_environment_can_be_made_again_from_its_spec(wrapper):
    env = gymnasium.make(wrapper(make()).spec)
    assert isinstance(env, wrapper)
