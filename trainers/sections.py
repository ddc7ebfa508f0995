"""The sections of a run's settings, one a stage."""

from __future__ import annotations

import re
from typing import Any, Literal

import gymnasium
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hpl_gym.core import HPLGymError, TextEnv

BENCHMARKS = {
    "alfworld": "HPL/ALFWorld-v0",
    "webshop": "HPL/WebShop-v0",
    "intercode-sql": "HPL/InterCodeSQL-v0",
}
"""Registered ids, by the names of the benchmarks on the command line."""


class Section(BaseModel):
    """Settings that belong together; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EnvConfig(Section):
    """Which environment is played.

    Attributes:
        id: Registered id.
        kwargs: Keyword arguments of the environment.
        max_turns: Turn limit; None takes the registered one.
    """

    id: str = "HPL/ALFWorld-v0"
    kwargs: dict[str, Any] = {}
    max_turns: int | None = Field(None, ge=1)

    @field_validator("id")
    @classmethod
    def _is_the_registered_one(cls, value: str) -> str:
        name = value.rpartition(":")[2]
        whole = [one for one in gymnasium.registry if one == name or one.startswith(f"{name}-v")]
        if value.startswith(("HPL/", "hpl_gym:")) and whole and value not in whole:
            raise ValueError(f"write it as {whole[-1]!r}")
        return value

    @property
    def backend(self) -> str:
        """What the environment runs on here, such as ``native`` or ``mariadb 10.11.14``."""
        return _text_env(self._made()).backend

    def origin(self, *splits: str) -> dict[str, Any]:
        """Return what decides the episodes of splits beside these settings.

        That is the `backend`, and of splits that are read from files a digest of these.

        Raises:
            HPLGymError: ``id`` or ``kwargs`` are wrong, or a split is not there.
        """
        backend = self.backend
        data = {split: self.make(split)[0].data_digest for split in splits}
        held = {split: found for split, found in data.items() if found}
        return {"env_backend": backend} | ({"env_data": held} if held else {})

    def make(self, split: str) -> tuple[TextEnv, int]:
        """Return the bare environment, set to `split`, and the turn limit.

        Raises:
            HPLGymError: ``id`` or ``kwargs`` are wrong.
        """
        env = self._made(split=split)
        assert env.spec is not None
        return _text_env(env), self.max_turns or env.spec.max_episode_steps or 2**31

    def _made(self, **more: Any) -> gymnasium.Env[Any, Any]:
        try:
            return gymnasium.make(self.id, disable_env_checker=True, **more, **self.kwargs)
        except (TypeError, ModuleNotFoundError, gymnasium.error.Error) as error:
            what = str(error).partition(" was raised from the environment creator")[0]
            raise HPLGymError(f"The settings env.id and env.kwargs: {what}") from error


def _text_env(env: gymnasium.Env[Any, Any]) -> TextEnv:
    if not isinstance(env.unwrapped, TextEnv):
        raise HPLGymError(f"The setting env.id: {type(env.unwrapped).__name__} is no TextEnv.")
    return env.unwrapped


class ExpertsConfig(Section):
    """Collection of expert trajectories.

    Attributes:
        split: Split the tasks come from.
        count: Tasks to play, drawn over the whole split; None plays all.
        teacher: A chat model that plays, by its name at the server that OPENAI_BASE_URL and
            OPENAI_API_KEY mean; None lets the scripted expert play.
        mode: ``informed`` scripted experts know where things are, ``search`` ones only what they
            see.
        noisy: Share of the tasks that are played with slips; only behaviour cloning uses these.
        slips: Share of the turns with a slip in such a task.
        concurrency: Tasks at a time; changes nothing but time.
    """

    split: str = "train"
    count: int | None = Field(None, ge=1)
    teacher: str | None = None
    mode: Literal["informed", "search"] = "search"
    noisy: float = Field(0.0, ge=0, le=1)
    slips: float = Field(0.3, ge=0, le=1)
    concurrency: int = Field(16, ge=1)


class TinyConfig(Section):
    """Size of the model that is made on the spot when ``sft.model`` is ``tiny``.

    Attributes:
        vocabulary: Most tokens of the tokenizer trained on the transcripts.
        layers: Transformer blocks.
        width: Hidden size.
        heads: Attention heads.
        kv_heads: Key / value heads.
        epochs: Passes of language modelling over whole transcripts before cloning.
        context: Weight in it of the tokens that are not the agent's.
        lr: Peak learning rate of AdamW in both, for embeddings, biases and norms.
        muon_lr: Peak learning rate of Muon in both, for the other matrices.
    """

    vocabulary: int = Field(2048, ge=300)
    layers: int = Field(4, ge=1)
    width: int = Field(128, ge=8)
    heads: int = Field(4, ge=1)
    kv_heads: int = Field(4, ge=1)
    epochs: int = Field(2, ge=0)
    context: float = Field(0.3, ge=0, le=1)
    lr: float = Field(1e-2, gt=0)
    muon_lr: float = Field(0.02, gt=0)

    @model_validator(mode="after")
    def _heads_fit(self) -> TinyConfig:
        if self.heads % self.kv_heads or self.width < 2 * self.heads:
            raise ValueError("heads must be a multiple of kv_heads, and width at least 2 * heads")
        if self.width // self.heads % 2:
            raise ValueError("width // heads must be even, for rotary embeddings turn pairs")
        return self


class TuningConfig(Section):
    """How a model is trained; the base of the sections that train one.

    Attributes:
        lr: Peak learning rate of AdamW.
        batch: Trajectories a step.
        epochs: Passes over the data.
        warmup: Share of the steps with a rising learning rate; a cosine follows.
        max_length: Longest sequence in tokens; what is longer is left out and counted.
        pack_tokens: Most tokens of a token tree of several pairs or trajectories, the unit of
            computation; decides memory and time, not the result.
        save_steps: Steps between checkpoints, from which a stopped training goes on.
        args: More `transformers.TrainingArguments`, such as ``bf16``, ``gradient_checkpointing`` or
            ``report_to``; ``deepspeed`` takes a file or one of ``zero1``, ``zero2``, ``zero3``.
        lora: Arguments of `peft.LoraConfig`; None trains all parameters.
    """

    lr: float = Field(1e-5, gt=0)
    batch: int = Field(32, ge=1)
    epochs: int = Field(3, ge=1)
    warmup: float = Field(0.1, ge=0, le=1)
    max_length: int = Field(6000, ge=16)
    pack_tokens: int = Field(8192, ge=16)
    save_steps: int = Field(100, ge=1)
    args: dict[str, Any] = {}
    lora: dict[str, Any] | None = None


class SftConfig(TuningConfig):
    """Behaviour cloning (stage 0).

    Attributes:
        model: A model folder or hub name, or ``tiny`` to make one from the transcripts.
        tiny: The made model's size and learning rates; `lr` and the optimiser's ``args`` are not
            for it.
    """

    model: str = "tiny"
    tiny: TinyConfig = TinyConfig()

    @model_validator(mode="after")
    def _tiny_has_its_own_optimizer(self) -> SftConfig:
        given = {name for name in self.args if re.match("optim|adam_|weight_decay", name)}
        if self.lr != type(self).model_fields["lr"].default:
            given.add("lr")
        if self.model == "tiny" and given:
            raise ValueError(
                f"{min(given)} has no effect on sft.model=tiny, whose optimizer is set by "
                "sft.tiny.lr and sft.tiny.muon_lr"
            )
        return self


class RftConfig(TuningConfig):
    """Rejection-sampling fine-tuning: the policy is cloned again from what it solved itself.

    Attributes:
        count: Training tasks that the policy plays, drawn over the whole split; None plays all.
        samples: Episodes of each.
        temperature: Sampling temperature.
        concurrency: Tasks at a time; changes nothing but time and memory.
    """

    count: int | None = Field(None, ge=1)
    samples: int = Field(5, ge=1)
    temperature: float = Field(1.0, gt=0)
    concurrency: int = Field(16, ge=1)


SegmenterName = Literal["fixed-n", "fixed-k", "uncertainty", "semantic", "single"]


class ExploreConfig(Section):
    """Exploration by the reference policy (stage 1).

    Attributes:
        count: Expert trajectories to explore from, drawn over all; None takes all.
        segmenters: How trajectories are cut into action groups, any number of ways at a time;
            ``single`` makes a group of every turn, which is IPR's step level.
        n: Number of groups of ``fixed-n``.
        k: Turns a group of ``fixed-k``.
        percentile: Where ``uncertainty`` cuts: above this percentile of the entropies over all
            explored steps.
        semantic: The model that ``semantic`` asks, by its name at the server that OPENAI_BASE_URL
            and OPENAI_API_KEY mean; None cuts by rules, without a model.
        rollouts: M, the rollouts that value one state.
        temperature: Sampling temperature of the branches; greedy ones err where the policy does
            when it is evaluated.
        value_temperature: Sampling temperature of the value rollouts.
        concurrency: Expert trajectories explored at a time, each with a rollout for every step;
            changes nothing but time and memory.
    """

    count: int | None = Field(None, ge=1)
    segmenters: tuple[SegmenterName, ...] = Field(("fixed-n",), min_length=1)
    n: int = Field(3, ge=1)
    k: int = Field(3, ge=1)
    percentile: float = Field(80, ge=0, le=100)
    semantic: str | None = None
    rollouts: int = Field(5, ge=1)
    temperature: float = Field(0.0, ge=0)
    value_temperature: float = Field(1.0, gt=0)
    concurrency: int = Field(8, ge=1)

    @model_validator(mode="after")
    def _asks_only_for_a_segmenter(self) -> ExploreConfig:
        if self.semantic and "semantic" not in self.segmenters:
            raise ValueError(
                "explore.semantic names a model for a segmenter that explore.segmenters does not "
                "have: add 'semantic' there, or set explore.semantic=null"
            )
        return self


class PairsConfig(Section):
    """Selection of preference pairs.

    Attributes:
        min_gap: A pair is kept when the winner's reward exceeds the loser's by more than this.
        lengths: Lower bounds of the three group lengths, in turns: 0 and two larger ones.
        gaps: Upper bounds of the three reward gaps, easiest first: 1 and two smaller ones.
    """

    min_gap: float = Field(0.01, ge=0)
    lengths: tuple[int, int, int] = (0, 3, 6)
    gaps: tuple[float, float, float] = (1.0, 0.7, 0.4)

    @model_validator(mode="after")
    def _covers_every_pair(self) -> PairsConfig:
        first, second, third = self.lengths
        widest, wide, narrow = self.gaps
        if not (first == 0 < second < third and widest == 1 > wide > narrow > 0):
            raise ValueError("lengths must rise from 0 and gaps fall from 1, or pairs are lost")
        return self


class TrainConfig(TuningConfig):
    """Offline optimisation (stage 2); a step has `batch` expert trajectories with all their data.

    Attributes:
        beta: The DPO losses' temperature.
        curriculum: ``hpl``, or an ablation of it.
        bc: Weight of the behaviour-cloning loss.
        trajectory: Weight of the trajectory-level DPO loss.
        step: Weight of the step-level DPO loss.
        group: Weight of the group-level DPO loss.
        segmenter: Whose groups are trained on; None takes the first of ``explore.segmenters``.
        phases: Whether the policy as it is after every phase is dropped, kept in
            ``phases/<number>/model``, or kept and evaluated.
    """

    lr: float = Field(3e-6, gt=0)
    epochs: int = Field(1, ge=1)
    beta: float = Field(0.3, gt=0)
    curriculum: Literal["hpl", "static", "length-only", "difficulty-only"] = "hpl"
    bc: float = Field(1.0, ge=0)
    trajectory: float = Field(1.0, ge=0)
    step: float = Field(1.0, ge=0)
    group: float = Field(1.0, ge=0)
    segmenter: SegmenterName | None = None
    phases: Literal["drop", "keep", "evaluate"] = "drop"


class EvalConfig(Section):
    """Evaluation.

    Attributes:
        splits: Splits to play.
        count: Tasks of each split, always the same ones; None plays all.
        temperature: Sampling temperature; 0 is greedy.
        concurrency: Episodes at a time.
    """

    splits: tuple[str, ...] = Field(("valid_seen",), min_length=1)
    count: int | None = Field(None, ge=1)
    temperature: float = Field(0.0, ge=0)
    concurrency: int = Field(64, ge=1)


INDIFFERENT = ("concurrency", "save_steps", "phases")
"""Settings that change no stage's result."""


def decisive(settings: Section) -> dict[str, Any]:
    """Return the settings of a section that decide its stage's result."""
    values = settings.model_dump(mode="json")
    return {name: value for name, value in values.items() if name not in INDIFFERENT}
