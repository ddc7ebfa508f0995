"""A small house with everything in it that is rare in real games."""

import importlib.util
import json
import re
from pathlib import Path

from hpl_gym.alfworld.games import Game
from hpl_gym.core import Task

TASK = Task("test/house", "train", "pick_and_place_simple")
PUT_SPEECH = {
    "move {o} to {r}": "put {o} in/on {r}",
    "You move the {o.name} to the {r.name}.": "You put the {o.name} in/on the {r.name}.",
    "You arrive at {r.name}.": "You arrive at {lend.name}.",
}
RECEPTACLES = {
    "Desk_bar_1": "loc_bar_1",
    "Desk_bar_2": "loc_bar_1",
    "Drawer_bar_1": "loc_bar_1",
    "Fridge_bar_1": "loc_bar_2",
    "Microwave_bar_1": "loc_bar_3",
    "Sink_bar_1_bar_SinkBasin": "loc_bar_4",
    "Sink_bar_1": "loc_bar_4",
    "Shelf_bar_1": "loc_bar_5",
    "Safe_bar_1": None,
}
OBJECTS = {
    "Apple_bar_1": ("Desk_bar_1", "Desk_bar_2"),
    "Apple_bar_2": ("Fridge_bar_1",),
    "Knife_bar_1": ("Drawer_bar_1",),
    "ButterKnife_bar_1": ("Shelf_bar_1",),
    "Mug_bar_1": ("Shelf_bar_1",),
    "Mug_bar_2": ("Microwave_bar_1",),
    "Spoon_bar_1": ("Desk_bar_2",),
    "DeskLamp_bar_1": ("Desk_bar_1",),
    "DeskLamp_bar_2": ("Drawer_bar_1",),
    "Book_bar_1": ("Safe_bar_1",),
    "Window_bar_1": (),
}
ON_A_SHELF = """(exists (?r - receptacle) (exists (?o - object) (and
    (inReceptacle ?o ?r) (objectType ?o AppleType) (receptacleType ?r ShelfType))))"""


def kind(entity: str) -> str:
    name = entity.split("_bar_")[0]
    return f"{name}{'Basin' if 'Basin' in entity else ''}Type"


def house(
    goal: str = ON_A_SHELF, *, extra: str = "", start: str = "loc_bar_9", old: bool = False
) -> Game:
    """Return the house as a game.

    Args:
        goal: The goal formula.
        extra: More initial facts.
        start: Where the agent starts.
        old: Use the domain and grammar from before alfworld 0.4.
    """
    spec = importlib.util.find_spec("alfworld")  # importing it sets ALFWORLD_DATA
    assert spec is not None
    data = Path(str(spec.origin)).parent / "data"
    domain = (data / "alfred.pddl").read_text(encoding="utf-8")
    grammar = (data / "alfred.twl2").read_text(encoding="utf-8")
    grammar = grammar.replace("UNKNOWN GOAL", "put some apple on shelf")
    if old:
        domain = re.sub(r"\(:action help.*?\)\s+\)\s+\)", "", domain, flags=re.DOTALL)
        domain = domain.replace(";(receptacleType ?r SinkType)", "(receptacleType ?r SinkType)")
        grammar = grammar[: grammar.index("action help")]
        for new, before in PUT_SPEECH.items():
            grammar = grammar.replace(new, before)
    kinds = sorted({kind(entity) for entity in OBJECTS})
    places = sorted({kind(entity) for entity in RECEPTACLES})
    locations = sorted({place for place in RECEPTACLES.values() if place} | {start})
    food = [entity for entity in OBJECTS if kind(entity) == "AppleType"]
    ware = [e for e in OBJECTS if kind(e) in ("AppleType", "MugType", "SpoonType", "KnifeType")]
    fixed = ("DeskLampType", "WindowType")
    facts = [
        f"(atLocation agent1 {start})",
        *(f"(receptacleType {entity} {kind(entity)})" for entity in RECEPTACLES),
        *(f"(receptacleAtLocation {e} {place})" for e, place in RECEPTACLES.items() if place),
        *(f"(objectType {entity} {kind(entity)})" for entity in OBJECTS),
        *(f"(inReceptacle {e} {place})" for e, places in OBJECTS.items() for place in places),
        *(
            f"(objectAtLocation {entity} {RECEPTACLES[place] or 'loc_bar_9'})"
            for entity, held_in in OBJECTS.items()
            for place in held_in
        ),
        *(f"(canContain {place} {thing})" for place in places for thing in kinds),
        *(f"(pickupable {entity})" for entity in OBJECTS if kind(entity) not in fixed),
        *(f"(toggleable {entity})" for entity in OBJECTS if kind(entity) == "DeskLampType"),
        *(f"(openable {e})" for e in ("Drawer_bar_1", "Fridge_bar_1", "Microwave_bar_1")),
        "(opened Microwave_bar_1)",
        *(f"(sliceable {entity})" for entity in food),
        *(f"(cleanable {entity}) (coolable {entity})" for entity in ware),
        *(f"(heatable {entity})" for entity in food),
        "(isReceptacleObject Mug_bar_1) (inReceptacleObject Spoon_bar_1 Mug_bar_1)",
        "(isCool Apple_bar_2) (isHot Apple_bar_2)",
        extra,
    ]
    problem = f"""
    (define (problem house) (:domain alfred)
      (:objects agent1 - agent {" ".join(OBJECTS)} - object {" ".join(RECEPTACLES)} - receptacle
        {" ".join({*locations, "loc_bar_9"})} - location
        {" ".join(kinds)} - otype {" ".join(places)} - rtype ; types last
      )
      (:init {" ".join(facts)})
      (:goal {goal}))"""
    return Game(TASK, domain, grammar, problem)


def write_house(root: Path, task_id: str, **content: object) -> Path:
    """Write the house as a game file of the benchmark's layout and return the file's path.

    Args:
        root: The folder of the splits.
        task_id: Split, task folder and trial folder.
        content: What to change in the file; None takes a key out.
    """
    game = house()
    data = {
        "pddl_domain": game.domain,
        "grammar": game.grammar,
        "pddl_problem": game.problem,
        "solvable": True,
        **content,
    }
    path = root / task_id / "game.tw-pddl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))
    (path.parent / "traj_data.json").write_text("{}")
    return path
