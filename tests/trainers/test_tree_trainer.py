"""The trainer over packed trees: its loss is the composite loss, however the data are packed."""

import json
import random

import pytest
import torch
from transformers import Starcoder2Config, Starcoder2ForCausalLM, TrainingArguments

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.curriculum import CURRICULA
from hpl_gym.trainers.examples import Example, collate, score
from hpl_gym.trainers.losses import bc_loss, dpo_loss, dpo_margins, hpl_loss
from hpl_gym.trainers.plan import TERMS, Item, Packs, fits, make_plan
from hpl_gym.trainers.records import Stage
from hpl_gym.trainers.scorer import score_trees
from hpl_gym.trainers.tree_trainer import TreeTrainer

PHASES = CURRICULA["hpl"]
WEIGHTS = dict.fromkeys(TERMS, 1.0)


def new_model():
    torch.manual_seed(0)
    return Starcoder2ForCausalLM(
        Starcoder2Config(
            vocab_size=7,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            sliding_window=None,
            embedding_dropout=0.0,
            residual_dropout=0.0,
            attention_dropout=0.0,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).double()


def some_items(experts=5):
    rng = random.Random(1)
    items = []
    for number in range(experts):
        path = tuple(rng.choices(range(7), k=14))
        whole = Example(path, (0.0, 0.0) + (1.0,) * 12)
        items.append(Item("bc", f"e{number}", (whole,)))
        for term, at, cell in (
            ("trajectory", 2, (0, 0)),
            ("step", 6, (0, 0)),
            ("group", 4, (1, 1)),
            ("group", 8, (2, 1 + number % 3)),
        ):
            weights = (0.0,) * at + (1.0,) * (14 - at)
            loser = Example(path[:at] + tuple(rng.choices(range(7), k=14 - at)), weights)
            references = (-rng.random() * 20, -rng.random() * 20)
            items.append(
                Item(term, f"e{number}", (Example(path, weights), loser), references, cell)
            )
    return items


def trainer_of(folder, items, pack_tokens=10_000, batch=2, **arguments):
    packs = Packs(make_plan(items, WEIGHTS, PHASES, batch, 1, random.Random(0)), pack_tokens)
    model = new_model()
    score_trees(model)
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=packs.accumulation,
        num_train_epochs=1,
        remove_unused_columns=False,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        learning_rate=1e-2,
        **arguments,
    )
    folder.mkdir(exist_ok=True)
    return TreeTrainer(model, args, packs, 0.3, Stage(folder, {})), packs


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_mean_of_a_phase_is_the_composite_loss(tmp_path):
    items, model = some_items(), new_model()
    trainer, packs = trainer_of(tmp_path, items, pack_tokens=80)
    plan = make_plan(items, WEIGHTS, PHASES, 2, 1, random.Random(0))
    phases = [step.phase for step in plan]
    assert phases == [1] * 3 + [2] * 3 + [3] * 3
    turns = packs.accumulation
    assert turns > 1
    losses = [
        trainer.compute_loss(trainer.model, {"pack": packs[index]}).item() / turns
        for index in range(len(packs))
    ]
    for number, phase in enumerate(PHASES):
        terms = {term: [] for term in TERMS}
        for item in items:
            if item.term != "group" or item.cell in phase:
                values = [score(model, collate([one])) for one in item.sequences]
                known = torch.tensor(item.references, dtype=torch.float64).split(1)
                terms[item.term].append(
                    bc_loss(*values)
                    if item.term == "bc"
                    else dpo_loss(dpo_margins(*values, *known), 0.3)
                )
        expected = hpl_loss({term: torch.cat(own) for term, own in terms.items()}, WEIGHTS)
        got = sum(losses[number * 3 * turns : (number + 1) * 3 * turns]) / 3
        assert got == pytest.approx(expected.item(), rel=1e-9)


def test_training_does_not_depend_on_the_packing(tmp_path):
    items, found = some_items(), []
    for name, size in (("few", 10_000), ("many", 30)):
        trainer, packs = trainer_of(tmp_path / name, items, pack_tokens=size)
        assert trainer.train().global_step == 9
        found.append((metrics_of(tmp_path / name), trainer.model.state_dict(), packs))
    (few, one, packs), (many, other, split) = found
    assert packs.tokens < split.tokens < split.asked == packs.asked
    for ours, theirs in zip(few, many, strict=True):
        for key in ours:
            if "tokens" not in key:
                assert ours[key] == pytest.approx(theirs[key], rel=1e-6, abs=1e-9), key
    assert sum(one["bc/loss"] for one in few[-3:]) < sum(one["bc/loss"] for one in few[:3])
    for key, weight in one.items():
        assert torch.allclose(weight, other[key], rtol=1e-6, atol=1e-8), key


def test_the_reference_itself_has_no_margin(tmp_path):
    model = new_model()
    items = [
        Item(
            one.term,
            one.expert,
            one.sequences,
            tuple(score(model, collate([each])).item() for each in one.sequences)
            if one.references
            else (),
            one.cell,
        )
        for one in some_items(2)
    ]
    trainer, _ = trainer_of(tmp_path, items)
    trainer.train()
    first = metrics_of(tmp_path)[0]
    for term in TERMS[1:]:
        assert first[f"{term}/loss"] == pytest.approx(torch.tensor(2.0).log().item())
        assert first[f"{term}/fall"] == pytest.approx(0, abs=1e-5)
    assert 0 < first["tokens_saved"] < 1


def test_a_loss_that_is_no_number_is_named(tmp_path):
    items = some_items(2)
    items[1] = Item("trajectory", "e0", items[1].sequences, (float("nan"), 0.0))
    trainer, _ = trainer_of(tmp_path, items)
    with pytest.raises(HPLGymError, match="trajectory loss of expert trajectory 'e0' is nan"):
        trainer.train()


def test_a_killed_training_goes_on_with_the_same_losses(tmp_path):
    whole, _ = trainer_of(tmp_path / "whole", some_items())
    whole.train()
    begun, _ = trainer_of(tmp_path / "begun", some_items())
    begun.args.save_strategy, begun.args.save_steps = "steps", 4
    begun.state.save_steps = 4

    class StopError(Exception):
        pass

    inner = begun.training_step

    def step(*arguments, **keywords):
        if begun.state.global_step == 6:
            raise StopError
        return inner(*arguments, **keywords)

    begun.training_step = step
    with pytest.raises(StopError):
        begun.train()
    again, _ = trainer_of(tmp_path / "begun", some_items())
    again.train(resume_from_checkpoint=str(tmp_path / "begun" / "checkpoint-4"))
    losses = {one["step"]: one["loss"] for one in metrics_of(tmp_path / "whole")}
    resumed = {one["step"]: one["loss"] for one in metrics_of(tmp_path / "begun")}
    assert resumed == losses


def test_items_that_cannot_fit():
    item = some_items(1)[1]
    assert fits(item, 14)
    assert not fits(item, 13)


def test_phases_without_groups_train_on_the_other_terms():
    items = [one for one in some_items() if one.term != "group"]
    plan = make_plan(items, WEIGHTS | {"step": 0.0}, PHASES, 2, 2, random.Random(0))
    assert [step.phase for step in plan] == [1] * 6 + [2] * 6 + [3] * 6
    assert {item.term for step in plan for item, _ in step.items} == {"bc", "trajectory"}
