from pathlib import Path

import pytest
from hypothesis import given
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

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


MOVES_SYSTEM = (  # to the last message, with a space before replies, as Mistral's does
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}[INST] "
    "{% if loop.last and system is defined %}{{ system }}\n\n{% endif %}{{ m.content }}[/INST]"
    "{% else %} {{ m.content }}<|end|>{% endif %}{% endfor %}"
)
IGNORES_SYSTEM = (  # as the first Phi-3's does
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}<|end|><|assistant|>"
    "{% elif m.role == 'assistant' %}{{ m.content }}<|end|>{% endif %}{% endfor %}"
)
SPACES_BOTH_SIDES = (  # as Llama 2's does
    "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }} <|end|>"
    "{% else %}[{{ m.role }}] {{ m.content }} [/]{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (MOVES_SYSTEM, f"[INST] {PROMPT}\n\nYou see a mug.[/INST] look<|end|>[INST] seen[/INST]"),
        (
            IGNORES_SYSTEM,
            f"<|user|>{PROMPT}\n\nYou see a mug.<|end|><|assistant|>look<|end|>"
            "<|user|>seen<|end|><|assistant|>",
        ),
        (
            SPACES_BOTH_SIDES,
            f"[system] {PROMPT} [/][user] You see a mug. [/] look <|end|>[user] seen [/]",
        ),
    ],
)
def test_the_prompt_goes_where_a_template_keeps_it_and_spaces_belong_to_replies(template, text):
    encoder = ChatEncoder(with_template(template), PROMPT)
    encoded = encoder.encode(conversation(("look", "seen")), ask=True)
    assert encoder.tokenizer.decode(list(encoded.ids)) == text
    reply = encoded.ids[encoded.bounds[0] : encoded.bounds[1]]
    before, _, after = text.partition("look")
    spaced = before[len(before.rstrip(" ")) :] + "look" + after[: after.index("<")] + "<|end|>"
    assert encoder.tokenizer.decode(list(reply)) == spaced
    assert encoder.decode(reply) == "look"


@pytest.mark.parametrize("template", [CHATML, SPACES_BOTH_SIDES])
def test_tokenizers_that_begin_a_text_with_a_space_add_none_between_pieces(template):
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    words.decoder = decoders.Metaspace(prepend_scheme="first")
    letters = [CHATML, SPACES_BOTH_SIDES, PROMPT, "system user You see a mug. look"]
    words.train_from_iterator(letters, trainers.BpeTrainer(vocab_size=100))
    words.add_special_tokens(
        [AddedToken(f"<|{one}|>") for one in ("end", "system", "user", "assistant")]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|end|>", chat_template=template
    )
    encoder, talk = ChatEncoder(made, PROMPT), conversation(("look", "seen"))
    whole = made.apply_chat_template(talk.messages(PROMPT), tokenize=False)
    ids = encoder.encode(talk, ask=True).ids
    pieces = "".join(made.convert_ids_to_tokens(list(ids))).replace("▁", " ")
    assert pieces.strip().startswith(whole.strip())


def test_an_end_that_is_special_without_a_name_ends_replies():
    made = with_template(CHATML.replace("<|end|>", "<|close|>"))
    with pytest.raises(ChatTemplateError, match="special token"):
        ChatEncoder(made, PROMPT)
    made.add_tokens([AddedToken("<|close|>", special=True)])
    encoder = ChatEncoder(made, PROMPT)
    assert encoder.end_id not in made.all_special_ids
    assert encoder.decode((*made("look")["input_ids"], encoder.end_id)) == "look"


def test_a_reply_is_shown_as_it_was_sampled_up_to_its_first_special_token():
    made = with_template(CHATML)
    made.clean_up_tokenization_spaces = True
    said = "Action: SELECT a FROM t WHERE b = 'who ?' AND c != ' , x'"
    encoder = ChatEncoder(made, PROMPT)
    ids = tuple(made(said)["input_ids"])
    assert encoder.decode((*ids, encoder.end_id)) == said
    pad = made.convert_tokens_to_ids("<|pad|>")
    assert encoder.decode((*ids, pad, *ids, encoder.end_id)) == said
    assert encoder.decode((pad, *ids, encoder.end_id)) == said


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
    dated = "\n{{ strftime_now('%d %b %Y') }}" + tokenizer().chat_template
    encoder = ChatEncoder(with_template(dated), PROMPT)
    text = encoder.tokenizer.decode(list(encoder.encode(conversation(), ask=True).ids))
    assert text.startswith("\n26 Jul 2024")


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
