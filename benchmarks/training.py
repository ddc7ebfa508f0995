"""Training throughput on one set of preference pairs: TRL's DPOTrainer, and ours, packed and not.

    HPL_DATA=... hpl quickstart --games real     # or any run that has pairs
    python benchmarks/training.py --run runs/quickstart-real
    python benchmarks/training.py --run runs/quickstart-real --size 0.5b --device cuda

Every way trains one pass over the full HPL mix (trajectory, step and group pairs of all segmenters
explored; ours the behaviour-cloning term as well, which TRL's trainer has not), each in a process
of its own, one optimiser step in all. TRL's runs its reference model in every step, as it does by
default; ours scores the pairs once before training, timed apart.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM, TrainingArguments

from hpl_gym.agents.chat import ChatEncoder, load_prompt
from hpl_gym.agents.language_model import load_model, load_tokenizer
from hpl_gym.trainers.config import Config, load_config
from hpl_gym.trainers.examples import collate, example, score
from hpl_gym.trainers.experts import clean_experts
from hpl_gym.trainers.losses import bc_loss, dpo_loss, dpo_margins
from hpl_gym.trainers.packing import Tree, pack
from hpl_gym.trainers.plan import Item, Packs, Step
from hpl_gym.trainers.records import Stage, finished_manifest
from hpl_gym.trainers.reference import pair_items, pair_records
from hpl_gym.trainers.scorer import score_trees
from hpl_gym.trainers.trajectory import to_conversation
from hpl_gym.trainers.tree_trainer import TreeTrainer

SIZES = {  # width, inner width, layers, heads, key heads: Qwen2.5's
    "0.5b": (896, 4864, 24, 14, 2),
    "1.5b": (1536, 8960, 28, 12, 2),
}
VOCABULARY = 151_936
TRL, ALONE = "TRL DPOTrainer", "ours, a sequence at a time"


def items_of(config: Config, run: Path, experts: int | None) -> list[Item]:
    """Return the pairs of the run, and its explored expert trajectories to clone."""
    finished_manifest(run / "pairs", f"pairs --run {run}")
    encoder = ChatEncoder(load_tokenizer(run / "sft" / "model"), load_prompt(config.prompt))
    talks = {
        one["key"]: to_conversation(one, config.env.id)
        for one in clean_experts(run / "experts" / "trajectories.jsonl")
    }
    explored = finished_manifest(run / "explore", "explore")["config"]["explore"]
    rows = [row for name in explored["segmenters"] for row in pair_records(run, name)]
    rows = list({row["key"]: row for row in rows}.values())
    chosen = sorted({row["expert"] for row in rows})[:experts]
    rows = [row for row in rows if row["expert"] in chosen]
    pairs = [replace(one, references=(-1.0, -1.0)) for one in pair_items(rows, encoder, talks)]
    clones = [Item("bc", key, (example(encoder, talks[key]),)) for key in chosen]
    return sorted([*clones, *pairs], key=lambda item: item.expert)


def model_of(run: Path, size: str, device: str) -> PreTrainedModel:
    """Return the run's policy, or one of random weights."""
    if size == "run":
        return load_model(run / "sft" / "model", device, torch.float32)[0]
    width, inner, layers, heads, key_heads = SIZES[size]
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config).to(device)


class Peak:
    """The most memory in use while the block runs, over that before it, in MB."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self.megabytes = 0.0

    def _now(self) -> float:
        if self._cuda:
            return torch.cuda.memory_allocated() / 2**20
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def __enter__(self) -> Peak:
        self._before, self._over = self._now(), threading.Event()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        self._watch = threading.Thread(target=self._sample)
        self._watch.start()
        return self

    def _sample(self) -> None:
        while not self._over.wait(0.01):
            self.megabytes = max(self.megabytes, self._now() - self._before)

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._watch.join()
        if self._cuda:
            most = torch.cuda.max_memory_allocated() / 2**20
            self.megabytes = most - self._before


def arguments(folder: str, device: str, accumulation: int) -> dict[str, Any]:
    """Return what both trainers are told."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": 1,
        "learning_rate": 1e-6,
        "use_cpu": device == "cpu",
        "bf16": device == "cuda",
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "remove_unused_columns": False,
    }


def with_trl(items: Sequence[Item], run: Path, size: str, device: str, folder: str) -> Counter[str]:
    """Train with TRL on the pairs as texts."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    tokenizer = load_tokenizer(run / "sft" / "model")
    rows, tokens = [], 0
    for item in items:
        if item.term == "bc":
            continue
        winner, loser = item.sequences
        start = winner.weights.index(1.0)
        texts = (winner.ids[:start], winner.ids[start:], loser.ids[start:])
        names = ("prompt", "chosen", "rejected")
        rows.append({n: tokenizer.decode(list(t)) for n, t in zip(names, texts, strict=True)})
        tokens += len(winner.ids) + len(loser.ids)
    args = DPOConfig(
        **arguments(folder, device, len(rows)) | {"gradient_checkpointing": False},
        beta=0.3,
        max_length=None,
    )
    policy, reference = (model_of(run, size, device) for _ in range(2))
    for one in (policy, reference):
        one.config._name_or_path = "policy"
    trainer = DPOTrainer(
        policy, reference, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    with Peak(device) as peak:
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
    return Counter(tokens=tokens, reference=tokens, seconds=seconds, memory=peak.megabytes)


def one_by_one(items: Sequence[Item], run: Path, size: str, device: str) -> Counter[str]:
    """Train with our losses, each sequence by itself."""
    model = model_of(run, size, device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    tokens = 0
    with Peak(device) as peak:
        begun = time.perf_counter()
        for item in items:
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                values = [score(model, collate([one], model.device)) for one in item.sequences]
            known = values[0].new_tensor(item.references).split(1)
            loss = (
                bc_loss(*values)
                if item.term == "bc"
                else dpo_loss(dpo_margins(*values, *known), 0.3)
            )
            loss.sum().backward()
            tokens += sum(len(one.ids) for one in item.sequences)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds = time.perf_counter() - begun
    return Counter(tokens=tokens, seconds=seconds, memory=peak.megabytes)


def packed(
    items: Sequence[Item], run: Path, size: str, device: str, folder: str, pack_tokens: int
) -> Counter[str]:
    """Train with our trainer on token trees, after scoring them once as the reference."""
    packs = Packs([Step(1, tuple((item, 1.0) for item in items))], pack_tokens)
    model = model_of(run, size, device)
    score_trees(model)
    begun = time.perf_counter()
    known = 0
    with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        for place in range(len(packs)):
            tree = Tree()
            for item, _ in packs[place].items:
                if item.references:
                    tree.add(item.sequences)
            if len(tree):
                model(packed=pack(tree).to(model.device))
                known += len(tree)
    scored = time.perf_counter() - begun
    args = TrainingArguments(**arguments(folder, device, packs.accumulation))
    trainer = TreeTrainer(model, args, packs, 0.3, Stage(Path(folder), {}))
    with Peak(device) as peak:
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
    return Counter(
        tokens=packs.tokens,
        reference=known,
        seconds=seconds,
        reference_seconds=scored,
        memory=peak.megabytes,
        parameters=model.num_parameters(),
    )


def measure(way: str, items: Sequence[Item], run: Path, size: str, device: str) -> Counter[str]:
    """Train in one way, in this process; the number of tokens a tree stands for ours, packed."""
    with tempfile.TemporaryDirectory() as folder:
        if way == TRL:
            return with_trl(items, run, size, device, folder)
        if way == ALONE:
            return one_by_one(items, run, size, device)
        return packed(items, run, size, device, folder, int(way))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart-real"))
    parser.add_argument("--experts", type=int, help="expert trajectories; default all explored")
    parser.add_argument("--size", choices=("run", *SIZES), default="run")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pack", type=int, nargs="+", default=[2048, 8192], help="tokens a tree")
    parser.add_argument("--tflops", type=float, default=989, help="the GPU's peak in bfloat16")
    options = parser.parse_args()
    config = load_config(options.run / "config.yaml")
    items = items_of(config, options.run, options.experts)
    terms = Counter(item.term for item in items)
    results = {}
    spawn = multiprocessing.get_context("spawn")
    for way in (TRL, ALONE, *map(str, options.pack)):
        with ProcessPoolExecutor(1, spawn) as process:
            results[way] = process.submit(
                measure, way, items, options.run, options.size, options.device
            ).result()
    out, theirs = Console(), results[TRL]
    counts = ", ".join(f"{count} {term}" for term, count in terms.items())
    table = Table(title=f"One pass over {counts} ({options.size}, {options.device})")
    columns = ("", "tokens", "fewer", "s", "faster", "tokens/s", "peak memory, MB", "less")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    for way, found in results.items():
        table.add_row(
            way if way in (TRL, ALONE) else f"ours, trees of {int(way):,}",
            f"{found['tokens']:,}",
            f"{theirs['tokens'] / found['tokens']:.2f}",
            f"{found['seconds']:.1f}",
            f"{theirs['seconds'] / found['seconds']:.2f}",
            f"{found['tokens'] / found['seconds']:,.0f}",
            f"{found['memory']:,.0f}",
            f"{theirs['memory'] / found['memory']:.2f}",
        )
    out.print(table)
    ours = results[str(options.pack[-1])]
    both = ours["seconds"] + ours["reference_seconds"]
    out.print(
        f"Reference: TRL's scores {theirs['reference']:,} tokens in every pass; ours "
        f"{ours['reference']:,} once, in {ours['reference_seconds']:.1f} s. With that, ours is "
        f"{theirs['seconds'] / both:.2f} times faster in a first pass."
    )
    if options.device == "cuda":
        flops = 6 * ours["parameters"] * ours["tokens"] / ours["seconds"]
        out.print(f"Model FLOPs utilisation, packed: {flops / options.tflops / 1e12:.1%}")
    print(json.dumps({way: dict(found) for way, found in results.items()}))


if __name__ == "__main__":
    main()
