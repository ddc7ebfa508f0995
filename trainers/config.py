"""The settings of a run: one YAML file, one section a stage, ``section.key=value`` overrides it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

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
        seed: Seed of everything random.
        prompt: A shipped prompt's name or a text file.
        max_new_tokens: Longest reply in tokens.
        device: A torch device.
        backend: What runs language models when they play: ``transformers``, ``vllm`` (its offline
            engine), or ``openai`` (vLLM's server at OPENAI_BASE_URL).
    """

    seed: int = Field(0, ge=0)
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


PRESETS = Path(__file__).parent / "configs"
METHODS = PRESETS / "methods.yaml"
REPRODUCE = PRESETS / "reproduce.yaml"
_OTHER = {METHODS, REPRODUCE}


def method(name: str) -> list[str]:
    """Return the settings by which a method differs from the run's own, as overrides.

    Raises:
        ConfigError: There is no such method.
    """
    methods = yaml.safe_load(METHODS.read_text(encoding="utf-8"))
    if name not in methods:
        raise ConfigError(f"There is no method {name!r}: use one of {', '.join(methods)}.")
    return [f"{key}={json.dumps(value)}" for key, value in methods[name].items()]


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
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if not isinstance(values, dict):
            raise ConfigError(f"{path} has no settings: write them as `section: {{key: value}}`.")
        for override in overrides or []:
            _override(values, override)
        return Config.model_validate(values)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"Setting {where!r} in {path.name}: {first['msg']}.") from error


def save_config(config: Config, path: Path) -> None:
    """Write settings as YAML, whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _override(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"{override!r} is no setting: write section.key=value.")
    *sections, key = name.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{name!r} is no setting: {section!r} has no keys below it.")
    values[key] = yaml.safe_load(text)
