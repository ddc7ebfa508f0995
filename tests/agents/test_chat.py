from pathlib import Path

import pytest
from hypothesis import given

from hpl_gym.agents.chat import ChatEncoder, ChatTemplateError, load_prompt, prompt_identity
from hpl_gym.core import HPLGymError
from tests.language import PROMPT, conversation, conversations, tokenizer

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def with_template(template):
    return type(tokenizer())(
        tokenizer_object=tokenizer().backend_tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        chat_template=template,
    )


@pytest.mark.parametrize("template", [tokenizer().chat_template, CHATML])
@given(talk=conversations)
def test_text_is_what_the_template_renders(template, talk):
    encoder = ChatEncoder(with_template(template), PROMPT)
    ids = encoder.encode(talk, ask=True).ids
    rendered = encoder.tokenizer.apply_chat_template(
        talk.messages(PROMPT), tokenize=False, add_generation_prompt=True
    )
    assert encoder.tokenizer.decode(list(ids)) == rendered


@given(talk=conversations)
def test_a_longer_conversation_begins_with_the_tokens_of_a_shorter_one(talk):
    encoder = ChatEncoder(tokenizer(), PROMPT)
    whole = encoder.encode(talk, ask=True)
    for turns in range(len(talk.turns) + 1):
        part = encoder.encode(talk.prefix(turns), ask=True)
        assert whole.ids[: len(part.ids)] == part.ids
        assert part.bounds == whole.bounds[: len(part.bounds)]


@given(talk=conversations)
def test_only_replies_and_their_end_token_are_the_agents(talk):
    encoder = ChatEncoder(tokenizer(), PROMPT)
    encoded = encoder.encode(talk, ask=False)
    chosen = [token for token, mine in zip(encoded.ids, encoded.is_agent, strict=True) if mine]
    text = "".join(turn.reply + "<|end|>" for turn in talk.turns)
    assert encoder.tokenizer.decode(chosen) == text


def test_sampled_tokens_are_kept_and_an_unfinished_reply_is_closed_unmasked():
    encoder = ChatEncoder(tokenizer(), PROMPT)
    ids = tuple(encoder.tokenizer("go to")["input_ids"])
    odd = (*ids[:1], *ids)  # not what the tokenizer would make of the text
    talk = conversation().add("whatever", "seen", odd)
    encoded = encoder.encode(talk, ask=True)
    start = encoded.bounds[0]
    assert encoded.ids[start : start + len(odd)] == odd
    assert encoded.ids[start + len(odd)] == encoder.end_id
    assert not encoded.is_agent[start + len(odd)]
    assert sum(encoded.is_agent) == len(odd)


def test_template_without_system_role_gets_the_prompt_in_the_first_message():
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    encoder = ChatEncoder(with_template(template), PROMPT)
    text = encoder.tokenizer.decode(list(encoder.encode(conversation(), ask=True).ids))
    assert text == f"<|user|>{PROMPT}\n\nYou see a mug.<|end|><|assistant|>"


@pytest.mark.parametrize(
    "template",
    [
        None,
        "{% for m in messages %}{{ m.content }}{{ loop.revindex }}<|end|>{% endfor %}",
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ",
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }",
        "{% if %}",
    ],
)
def test_unusable_templates_are_refused(template):
    with pytest.raises(ChatTemplateError):
        ChatEncoder(with_template(template), PROMPT)


def test_a_template_does_not_show_todays_date():
    dated = "{{ strftime_now('%d %b %Y') }}" + tokenizer().chat_template
    encoder = ChatEncoder(with_template(dated), PROMPT)
    text = encoder.tokenizer.decode(list(encoder.encode(conversation(), ask=True).ids))
    assert text.startswith("26 Jul 2024")


def test_prompts_by_name_and_by_file(tmp_path, monkeypatch):
    assert "Action:" in load_prompt("alfworld")
    own = tmp_path / "own.md"
    own.write_text(" mine \n")
    assert load_prompt(str(own)) == "mine"
    for name in ("nothing", "You are at home. " * 99):
        with pytest.raises(HPLGymError, match="alfworld, brief"):
            load_prompt(name)
    assert prompt_identity("brief") == "brief"
    before = prompt_identity(str(own))
    own.write_text("another")
    assert prompt_identity(str(own)) != before
    monkeypatch.chdir(tmp_path)
    Path("brief").write_text("no prompt of ours")
    assert prompt_identity("brief") == "brief"
    own.write_bytes(b"caf\xe9")
    with pytest.raises(HPLGymError, match="not UTF-8"):
        load_prompt(str(own))
