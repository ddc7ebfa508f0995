import json
from pathlib import Path

import pytest

from hpl_gym.core import HPLGymError
from hpl_gym.trainers.config import Config, ConfigError, load_config, save_config
from hpl_gym.trainers.sections import EnvConfig, Section


def test_settings_from_file_and_overrides(tmp_path):
    config = load_config("paper", ["sft.lr=1e-4", "eval.splits=[valid_seen]", "train.beta=0.1"])
    assert (config.sft.lr, config.train.beta, config.eval.splits) == (1e-4, 0.1, ("valid_seen",))
    save_config(config, tmp_path / "own.yaml")
    assert load_config(tmp_path / "own.yaml") == config


@pytest.mark.parametrize("name", ["quickstart", "real", "paper"])
def test_shipped_settings_are_valid(name):
    load_config(name)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("sft.epochs=0", "'sft.epochs' on the command line"),
        ("sft.epochs=many", "'sft.epochs' on the command line"),
        ("pairs.lengths=[2, 4, 6]", "'pairs' on the command line: lengths must rise"),
        ("nonsense", "section.key=value"),
        ("=3", "section.key=value"),
        ("a\udce4=3", "section.key=value"),
        ("prompt.x=1", "no keys below"),
        ("experts.cuont=3", "no setting 'experts.cuont', .* did you mean 'experts.count'"),
        ("sft.tiny.height=3", "no setting 'sft.tiny.height', .* use one of vocabulary, layers"),
        ("experts.count=[1", r"The value in 'experts.count=\[1' is not YAML"),
        ("prompt=a\udce4b", "The value in 'prompt=a.* is not YAML"),
        ("experts.count=0x_", "The value in 'experts.count=0x_' is not YAML"),
        ("sft.tiny={width: 64, width: 128}", "'width' is set a second time"),
        ("experts.count=", "has no value.* or null"),
        ("experts.count=#3", "has no value.* or null"),
        ("seed=2001-99-99", "'seed' on the command line"),
        ("seed=4294967296", "'seed' on the command line"),
        ("device=foo", "'device' on the command line: there is no device 'foo'"),
        ("eval.splits=[]", "eval.splits"),
        ("sft.tiny.heads=3", "multiple of kv_heads"),
        ("sft.tiny={heads: 100, kv_heads: 100}", "at least 2"),
        ("sft.tiny.width=12", "must be even"),
        ("env.id=HPL/WebShop", "'env.id' on the command line: write it as 'HPL/WebShop-v0'"),
        ("env.id=hpl_gym:HPL/WebShop-v0", "'env.id' .* write it as 'HPL/WebShop-v0'"),
    ],
)
def test_bad_settings_are_named(override, text):
    with pytest.raises(ConfigError, match=text):
        load_config("quickstart", [override])


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "mps"])
def test_devices(device):
    assert load_config("quickstart", [f"device={device}", "experts.count=null"]).device == device


def test_an_entry_of_a_mapping_that_was_none(tmp_path):
    save_config(load_config("quickstart"), tmp_path / "own.yaml")
    assert load_config(tmp_path / "own.yaml", ["train.lora.r=4"]).train.lora == {"r": 4}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a: [1", "mine.yaml is not YAML"),
        ("experts: {count: 1}\nseed: 1\nexperts: {}\n", "mine.yaml .*'experts' .*second .*line 3"),
        ("experts: {cuont: 1}", "'experts.cuont', given in mine.yaml"),
        ("seed: 2001-99-99", "'seed' in mine.yaml"),
    ],
)
def test_a_bad_file_is_named(content, text, tmp_path):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ConfigError, match=text):
        load_config(tmp_path / "mine.yaml", ["train.beta=0.1"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="quickstart"):
        load_config(tmp_path / "no.yaml")


def test_a_run_does_not_begin_with_a_prompt_that_is_not_there(tmp_path):
    for prompt in ("nix", tmp_path):
        with pytest.raises(HPLGymError, match="no prompt"):
            save_config(load_config("quickstart", [f"prompt={prompt}"]), tmp_path / "own.yaml")
    assert not list(tmp_path.iterdir())


def test_an_environment_of_a_module_that_is_not_there():
    with pytest.raises(HPLGymError, match="nowhere"):
        EnvConfig(id="nowhere:My-v0").make("train")


def test_the_page_of_settings_has_every_one_with_its_default():
    page = (Path(__file__).parents[2] / "docs/settings.md").read_text(encoding="utf-8")

    def settings(section, prefix=""):
        for name, field in type(section).model_fields.items():
            value = getattr(section, name)
            if isinstance(value, Section):
                yield from settings(value, f"{prefix}{name}.")
            else:
                default = field.get_default(call_default_factory=True)
                yield f"| `{prefix}{name}` | `{json.dumps(default)}` |"

    lines = list(settings(Config()))
    assert len(lines) > 70
    assert [line for line in lines if line not in page] == []
    assert page.count("\n| `") == len(lines)
