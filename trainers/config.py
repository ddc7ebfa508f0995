"""The settings of a run: one YAML file, one section a stage, ``section.key=value`` overrides it."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from hpl_gym.agents.chat import load_prompt, prompt_identity
from hpl_gym.core import HPLGymError
from hpl_gym.trainers.sections import (
    EnvConfig,
    EvalConfig,
    ExpertsConfig,
    ExploreConfig,
    PairsConfig,
    RftConfig,
    Section,
    SftConfig,
    TrainConfig,
)


class ConfigError(HPLGymError):
    """A setting is unknown or out of range, or a configuration file cannot be read."""


class Config(Section):
    """All settings of a run.

    Attributes:
        seed: Seed of everything random, below 2**32.
        prompt: A shipped prompt's name or a text file.
        max_new_tokens: Longest reply in tokens.
        device: A torch device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ...
        backend: What runs language models when they play: ``transformers``, ``vllm`` (its offline
            engine), or ``openai`` (vLLM's server at OPENAI_BASE_URL).
    """

    seed: int = Field(0, ge=0, lt=2**32)
    prompt: str = "alfworld"
    max_new_tokens: int = Field(96, ge=1)
    device: str = "cpu"
    backend: Literal["transformers", "vllm", "openai"] = "transformers"
    env: EnvConfig = EnvConfig()
    experts: ExpertsConfig = ExpertsConfig()
    sft: SftConfig = SftConfig()
    rft: RftConfig = RftConfig()
    explore: ExploreConfig = ExploreConfig()
    pairs: PairsConfig = PairsConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str) -> str:
        if not re.fullmatch(r"cpu|(cuda|mps|xpu|hpu|npu|mtia)(:\d+)?", device):
            raise ValueError(f"there is no device {device!r}, use cpu, cuda, cuda:1 or mps")
        return device

    @property
    def playing(self) -> dict[str, Any]:
        """What decides a language model's replies, besides its weights and the environment."""
        settings = {
            "prompt": prompt_identity(self.prompt),
            "max_new_tokens": self.max_new_tokens,
            "backend": self.backend,
        }
        if self.backend == "transformers" and self.device != "cpu":
            settings["precision"] = "bfloat16"  # double on a CPU
        return settings


PRESETS = Path(__file__).parent / "configs"
METHODS = PRESETS / "methods.yaml"
REPRODUCE = PRESETS / "reproduce.yaml"
_OTHER = {METHODS, REPRODUCE}


def method(name: str) -> list[str]:
    """Return the settings by which a method differs from the run's own, as overrides.

    Raises:
        ConfigError: There is no such method.
    """
    methods = _methods()
    if name not in methods:
        raise ConfigError(f"There is no method {name!r}: use one of {', '.join(methods)}.")
    return [f"{key}={json.dumps(value)}" for key, value in methods[name].items()]


def method_names() -> tuple[str, ...]:
    """Return the methods of `hpl train`, baselines and ablations."""
    return tuple(_methods())


def _methods() -> dict[str, dict[str, Any]]:
    methods: dict[str, dict[str, Any]] = yaml.safe_load(METHODS.read_text(encoding="utf-8"))
    return methods


def load_config(source: str | Path, overrides: list[str] | None = None) -> Config:
    """Read settings.

    Args:
        source: A YAML file, or the name of a shipped one (``quickstart``, ``real``, ``webshop``,
            ``intercode-sql``, ``paper``, ``paper-webshop``, ``paper-intercode-sql``).
        overrides: ``section.key=value`` texts, values in YAML.

    Raises:
        ConfigError: A file that cannot be read, an unknown key, or a value out of range.
    """
    path = PRESETS / f"{source}.yaml"
    if not path.is_file() or path in _OTHER:
        path = Path(source)
    if not path.is_file():
        names = ", ".join(
            sorted(preset.stem for preset in PRESETS.glob("*.yaml") if preset not in _OTHER)
        )
        raise ConfigError(
            f"There is no configuration {str(source)!r}: name a YAML file or one of {names}."
        )
    values = _parse(path.read_bytes(), str(path)) or {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} has no settings: write them as `section: {{key: value}}`.")
    overridden = [_override(values, override) for override in overrides or []]
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_mistake(error, path.name, overridden)) from error


def save_config(config: Config, path: Path) -> None:
    """Write settings as YAML, whole or not at all; the folder is made if need be.

    Raises:
        HPLGymError: There is no such prompt.
    """
    load_prompt(config.prompt)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


class _Loader(yaml.SafeLoader):
    """Refuses a key that is set twice, of which YAML would keep the last; a date is a text."""

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        **yaml.SafeLoader.yaml_constructors,
        "tag:yaml.org,2002:timestamp": yaml.SafeLoader.construct_yaml_str,
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value]
        names = [key.value for key in keys]
        for place, key in enumerate(keys):
            if key.value in names[:place]:
                problem = f"{key.value!r} is set a second time, keep one"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        return node


def _parse(text: str | bytes, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError is a number such as 0x_
        why = str(error).splitlines()[0]
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
            why = f"{error.problem} (line {error.problem_mark.line + 1})"
        raise ConfigError(f"{where} is not YAML: {why}.") from error


def _override(values: dict[str, Any], override: str) -> str:
    """Set what `override` says in `values`; return the setting's name."""
    name, equals, text = override.partition("=")
    name = name.strip()
    *sections, key = name.split(".")
    if not equals or not name.isprintable() or not all((*sections, key)):
        raise ConfigError(f"{override!r} is no setting: write section.key=value.")
    value = _parse(text, f"The value in {override!r}")
    if value is None and text.strip().lower() not in {"null", "~"}:
        raise ConfigError(f"{override!r} has no value: write one behind the =, or null for none.")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
        if not isinstance(values, dict):
            raise ConfigError(f"{name!r} is no setting: {section!r} has no keys below it.")
    values[key] = value
    return name


def _mistake(error: ValidationError, file: str, overridden: list[str]) -> str:
    """Say what is wrong with the first wrong setting, and where it comes from."""
    first = error.errors()[0]
    place = [str(one) for one in first["loc"]]
    name = ".".join(place)
    own = any(f"{name}.".startswith(f"{one}.") or one.startswith(f"{name}.") for one in overridden)
    origin = "on the command line" if own else f"in {file}"
    if first["type"] == "tuple_type":
        return f"Setting {name!r} {origin} is a list: write it in brackets, as {name}='[a, b]'."
    if first["type"] != "extra_forbidden":
        return f"Setting {name!r} {origin}: {first['msg'].removeprefix('Value error, ')}."
    known: Any = Config
    for section in place[:-1]:
        known = known.model_fields[section].annotation
    mend = f"use one of {', '.join(known.model_fields)}."
    if near := difflib.get_close_matches(place[-1], known.model_fields, 1):
        mend = f"did you mean {'.'.join([*place[:-1], *near])!r}?"
    return f"There is no setting {name!r}, given {origin}: {mend}"
