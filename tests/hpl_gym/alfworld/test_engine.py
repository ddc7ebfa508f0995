import pickle
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpl_gym.alfworld.engine import NativeEngine
from hpl_gym.core import DataError, HPLGymError
from tests.hpl_gym.alfworld.house import ON_A_SHELF, house
from tests.hpl_gym.alfworld.walks import chosen, other_dialect

# What TextWorld says in the small house (`test_textworld.py` goes the same way on both engines).
TOUR = {
    "look": "You are in the middle of a room. Looking quickly around you, you see nothing.",
    "go to desk 1": "You arrive at desk 1. On the desk 1, you see a apple 2, and a spoon 1.",
    "examine desk 2": "On the desk 2, you see a apple 2, and a desklamp 2.",
    "take apple 2 from desk 1": "You pick up the apple 2 from the desk 1.",
    "inventory": "You are carrying: a apple 2.",
    "go to desk 2": "Nothing happens.",
    "examine apple 2": "There's nothing special about apple 2.",
    "put apple 2 in/on desk 2": "You move the apple 2 to the desk 2.",
    " look ": "You are facing the desk 2, desk 1, and drawer 1. Next to it, you see a apple 2.",
    "examine  spoon 1": "Nothing happens.",
    "examine spoon 1": "Nothing happens.",
    "use desklamp 2": "You turn on the desklamp 2.",
    "use desklamp 2\n": "You turn on the desklamp 2.",
    "use desklamp 1": "You turn on the desklamp 1.",
    "open drawer 1": "You open the drawer 1. The drawer 1 is open. In it, you see a desklamp 1, "
    "and a knife 1.",
    "open drawer 1 ": "Nothing happens.",
    "take desklamp 1 from drawer 1": "Nothing happens.",
    "take knife 1 from drawer 1": "You pick up the knife 1 from the drawer 1.",
    "slice apple 2 with knife 1": "You sliced the apple 2 with the knife 1.",
    "slice spoon 1 with knife 1": "Nothing happens.",
    "move knife 1 to drawer 1": "You move the knife 1 to the drawer 1.",
    "close drawer 1": "You close the drawer 1.",
    "examine drawer 1": "The drawer 1 is closed.",
    "take apple 2 from desk 2": "You pick up the apple 2 from the desk 2.",
    " examine apple 2": "This is a sliced apple 2.",
    "go to microwave 1": "You arrive at microwave 1. The microwave 1 is open. In it, you see a "
    "mug 1.",
    "heat apple 2 with microwave 1": "You heat the apple 2 using the microwave 1.",
    "examine apple 2 ": "This is a hot sliced apple 2.",
    "go to sinkbasin 1": "You arrive at sinkbasin 1. On the sinkbasin 1, you see nothing.",
    "clean apple 2 with sink 1": "Nothing happens.",
    "clean apple 2 with sinkbasin 1": "You clean the apple 2 using the sinkbasin 1.",
    "\texamine apple 2": "This is a hot and clean sliced apple 2.",
    "go to fridge 1": "You arrive at fridge 1. The fridge 1 is closed.",
    "cool apple 2 with fridge 1": "You cool the apple 2 using the fridge 1.",
    "examine apple 2\n": "This is a cool and clean sliced apple 2.",
    "put apple 2 in/on fridge 1": "Nothing happens.",
    "open fridge 1": "You open the fridge 1. The fridge 1 is open. In it, you see a apple 1.",
    "put apple 2 in fridge 1": "Nothing happens.",
    "move apple 2 to fridge 1": "You move the apple 2 to the fridge 1.",
    "take apple 1 from fridge 1": "You pick up the apple 1 from the fridge 1.",
    "examine apple 1": "This is a hot apple 1.",
    "cool apple 1 with fridge 1": "You cool the apple 1 using the fridge 1.",
    "examine apple 1 ": "This is a cold apple 1.",
    "go to safe 1": "Nothing happens.",
    "go to shelf 1": "You arrive at shelf 1. On the shelf 1, you see a butterknife 1, and a mug 2.",
    "": "Nothing happens.",
    "LOOK": "Nothing happens.",
    "take mug 2 from shelf 1": "Nothing happens.",
    "put apple 1 in/on shelf 1": "You move the apple 1 to the shelf 1.",
}


def test_a_tour_of_the_house() -> None:
    engine = NativeEngine(house())
    outcome = engine.start()
    assert outcome.observation == (
        "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly "
        "around you, you see a desk 2, a desk 1, a drawer 1, a fridge 1, a microwave 1, a shelf 1, "
        "a sink 1, and a sinkbasin 1.\n\nYour task is to: put some apple on shelf."
    )
    assert engine.instruction == "put some apple on shelf."
    for command, text in TOUR.items():
        assert not outcome.terminated
        outcome = engine.step(outcome.state, command)
        assert (command, outcome.observation) == (command, text)
        assert outcome.valid == (text != "Nothing happens.")
    assert (outcome.terminated, outcome.success, outcome.reward) == (True, True, 1.0)


def test_what_can_be_done() -> None:
    engine = NativeEngine(house())
    state = engine.start().state
    assert engine.admissible(state) == (
        *("go to desk 1", "go to desk 2"),
        *(f"go to {name} 1" for name in ("drawer", "fridge", "microwave", "shelf", "sink")),
        *("go to sinkbasin 1", "help", "inventory", "look"),
    )
    state = engine.step(state, "go to desk 2").state
    here = engine.admissible(state)
    assert {c for c in here if not c.startswith("go to")} == {
        *("examine desk 1", "examine desk 2", "examine drawer 1", "help", "inventory", "look"),
        *("open drawer 1", "take apple 2 from desk 1", "take apple 2 from desk 2"),
        *("take spoon 1 from desk 1", "use desklamp 1", "use desklamp 2"),
    }
    assert not {"go to desk 1", "go to desk 2", "go to drawer 1"} & set(here)


def test_where_things_are() -> None:
    engine = NativeEngine(house())
    state = engine.step(engine.start().state, "go to desk 1").state
    assert engine.locations(state) == {
        "apple 1": "fridge 1",
        "apple 2": "desk 2",
        "book 1": "safe 1",
        "butterknife 1": "shelf 1",
        "desklamp 1": "drawer 1",
        "desklamp 2": "desk 2",
        "knife 1": "drawer 1",
        "mug 1": "microwave 1",
        "mug 2": "shelf 1",
        "spoon 1": "desk 1",
    }
    state = engine.step(state, "take apple 2 from desk 2").state
    assert engine.locations(state)["apple 2"] == ""


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), old=st.booleans(), dialect=st.sampled_from(("put", "move")))
def test_admissible_commands_are_those_that_are_understood(
    seed: int, old: bool, dialect: str
) -> None:
    engine = NativeEngine(house("(isSliced Spoon_bar_1)", old=old), dialect)
    rng, state = random.Random(seed), engine.start().state
    for _ in range(40):
        admissible = engine.admissible(state)
        assert list(admissible) == sorted(set(admissible))
        for command in admissible:
            assert engine.step(state, command).valid
            assert engine.step(state, other_dialect(command)).valid
            assert not engine.step(state, f"{command} now").valid
        command = chosen(rng, admissible, engine)
        outcome = engine.step(state, command)
        both = {*admissible, *map(other_dialect, admissible)}
        assert outcome.valid == (command.strip() in both)
        assert engine.step(state, command) == outcome
        assert pickle.loads(pickle.dumps(outcome)) == outcome
        assert hash(outcome.state) == hash(pickle.loads(pickle.dumps(outcome.state)))
        if not outcome.valid:
            assert outcome.state == state
        state = outcome.state


@pytest.mark.parametrize("old", [False, True])
def test_dialects(old: bool) -> None:
    says = {"move": ("move spoon 1 to desk 1", "You move the spoon 1 to the desk 1.")}
    says["put"] = ("put spoon 1 in/on desk 1", "You put the spoon 1 in/on the desk 1.")
    says["game"] = says["put" if old else "move"]
    for dialect, (command, text) in says.items():
        engine = NativeEngine(house(old=old), dialect)
        state = engine.start().state
        for before in ("go to desk 1", "take spoon 1 from desk 1"):
            state = engine.step(state, before).state
        offered = [c for c in engine.admissible(state) if "spoon 1" in c and c != "examine spoon 1"]
        assert command in offered
        assert not [c for c in offered if c.split()[0] != command.split()[0]]
        for understood in (says["move"][0], says["put"][0]):
            assert engine.step(state, understood).observation == text
        assert ("help" in engine.admissible(state)) != old
    with pytest.raises(HPLGymError, match="no dialect 'drop'"):
        NativeEngine(house(), "drop")


def test_help_speaks_the_dialect() -> None:
    texts = {dialect: NativeEngine(house(), dialect) for dialect in ("game", "move", "put")}
    shown = {d: e.step(e.start().state, "help").observation for d, e in texts.items()}
    assert shown["game"] == shown["move"]
    assert "move (object) to (receptacle):" in shown["move"]
    assert "put (object) in/on (receptacle):" in shown["put"]
    assert shown["put"].startswith("Available commands:\n")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("Next to it", "Beside it"),
        ("You open the {r.name}.", "You open {r.name}."),
        ('"take {o} from {r}"', '"grab {o} from {r}"'),
        ('"move {o} to {r}"', '"drop {o} at {r}"'),
        ("You arrive at {r.name}.", "You arrive at {r.id}."),
        ("put some apple on shelf", "put [apple] on shelf"),
        ("#examineReceptacle.feedback#", ""),
    ],
)
def test_an_unknown_grammar_is_refused(wrong: str, right: str) -> None:
    game = house()
    assert wrong in game.grammar
    with pytest.raises(DataError, match=r"grammar is of a version .* engine='textworld'"):
        NativeEngine(type(game)(game.task, game.domain, game.grammar.replace(wrong, right), ""))


def test_an_unknown_domain_is_refused() -> None:
    game = house()
    for wrong, right in (("(isClean ?o)", "(isHot ?o)"), ("location, ?r", "location ?r")):
        assert wrong in game.domain
        domain = game.domain.replace(wrong, right)
        with pytest.raises(DataError, match=r"domain is of a version .* engine='textworld'"):
            NativeEngine(type(game)(game.task, domain, game.grammar, game.problem))
    commented = game.domain.replace("(:action look", "; a comment (\n\n (:action   LOOK")
    assert NativeEngine(type(game)(game.task, commented, game.grammar, game.problem))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: "", "not one closed expression"),
        (lambda text: text[:-1], "not one closed expression"),
        (lambda text: text + ")", "closes nothing"),
        (lambda text: text.replace(":init", ":start"), "lacks :objects, :init or :goal"),
        (lambda text: text.replace("(opened", "(ajar"), "no fact of the domain"),
        (lambda text: text.replace("(opened ", "(opened Mug_bar_1 "), "no fact of the domain"),
        (lambda text: text.replace("(opened Microwave_bar_1)", "(opened Oven_bar_1)"), "no fact"),
        (lambda text: text.replace("(opened Microwave_bar_1)", "opened"), "no fact"),
        (lambda text: text.replace("(atLocation agent1 loc_bar_9)", ""), "not in one place"),
        (lambda text: text.replace("(opened", "(holdsAny agent1) (opened"), "object in hand"),
        (lambda text: text.replace("ShelfType))))", "WallType))))"), "occurs in no fact"),
        (lambda text: text.replace("(objectType ?o", "(isOn ?o) (objectType ?o"), "not understood"),
        (lambda text: re.sub(r"\(:goal .*", "(:goal (soon)))", text, flags=re.DOTALL), "unusual"),
        (lambda text: text.replace("?o - object", "?o - objekt"), "is broken"),
        (lambda text: text.replace("(:objects", "(:objects (agent1)"), "is broken"),
    ],
)
def test_a_broken_problem_is_a_data_error(change, says: str) -> None:
    game = house()
    problem = change(game.problem)
    assert problem != game.problem
    with pytest.raises(DataError, match=says):
        NativeEngine(type(game)(game.task, game.domain, game.grammar, problem))


def test_a_goal_of_many_variables_keeps_them_apart() -> None:
    names = ["?x0", "?x1", "?o1", *(f"?x{n}" for n in range(3, 12)), "?o"]
    typed = " ".join(f"{name} - object" for name in names)
    goal = f"(exists ({typed}) (and (objectType ?o1 AppleType) (objectType ?o MugType)))"
    for text in (goal, goal.replace("?o1", "?first")):
        engine = NativeEngine(house(text))
        assert engine.step(engine.start().state, "look").success


def test_a_game_that_is_solved_at_the_start_ends_with_the_first_turn() -> None:
    engine = NativeEngine(house(f"(or {ON_A_SHELF} (opened Microwave_bar_1))"))
    assert not engine.start().terminated
    assert engine.step(engine.start().state, "dance").success
