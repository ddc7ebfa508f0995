"""What a training would take on a cluster: memory and time on paper, from what small runs measure.

    python benchmarks/training_estimate.py
    python benchmarks/training_estimate.py --tokens 160e6 --gpus 8 --utilisation 0.35

Measured here, on the CPU, in one layer of the model's own width: the bytes that a token leaves
behind for the backward pass, with gradient checkpointing and without. The rest is arithmetic: 16
bytes a parameter for bfloat16 weights and gradients and AdamW's three copies in single precision,
shared out by ZeRO-3; 8 floating-point operations a parameter and token (2 forward, 2 again for
checkpointing, 4 backward). `--tokens` is the sum over all phases; `--utilisation` is assumed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from transformers import Qwen2Config, Qwen2ForCausalLM

from hpl_gym.trainers.examples import Example
from hpl_gym.trainers.packing import Tree, pack
from hpl_gym.trainers.scorer import LOGITS_AT_A_TIME, score_trees

TOKENS = 61  # no width is a multiple of it, so what has this size has a place for every token
VOCABULARY = 152_064


@dataclass(frozen=True)
class Shape:
    """A model's size, as Qwen2.5 has it."""

    width: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    tied: bool

    @property
    def parameters(self) -> int:
        """How many parameters there are."""
        keys = self.width // self.heads * self.key_heads
        attention = 2 * self.width * self.width + 2 * self.width * keys + self.width + 2 * keys
        layer = attention + 3 * self.width * self.inner + 2 * self.width
        return self.layers * layer + (2 - self.tied) * VOCABULARY * self.width + self.width


SHAPES = {
    "0.5B": Shape(896, 4864, 24, 14, 2, True),
    "1.5B": Shape(1536, 8960, 28, 12, 2, True),
    "7B": Shape(3584, 18_944, 28, 28, 4, False),
}


def saved(shape: Shape, *, layers: int, checkpointing: bool) -> float:
    """Return the bytes that a token leaves for the backward pass in a model of few layers."""
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=64,
            hidden_size=shape.width,
            intermediate_size=shape.inner,
            num_hidden_layers=layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.key_heads,
        )
    ).train()
    score_trees(model)
    if checkpointing:
        model.gradient_checkpointing_enable()
    tree = Tree()
    tree.add([Example(tuple(range(TOKENS)), (1.0,) * TOKENS)])
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if TOKENS in tensor.shape:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        total = model(packed=pack(tree)).sum()
        size = sum(kept.values()) / TOKENS  # before the graph is gone, so no address is used twice
    assert total.requires_grad
    return size


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=float, default=1e8, help="tokens of all phases")
    parser.add_argument("--pack", type=int, default=8192, help="train.pack_tokens")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--tflops", type=float, default=989, help="a GPU's peak in bfloat16")
    parser.add_argument("--utilisation", type=float, default=0.35, help="share of it reached")
    options = parser.parse_args()
    table = Table(title=f"{options.gpus} GPUs, ZeRO-3, trees of {options.pack:,} tokens a GPU")
    for column in ("", *SHAPES):
        table.add_column(column, justify="right" if column else "left")
    columns = []
    for shape in SHAPES.values():
        one, two = (saved(shape, layers=count, checkpointing=True) for count in (1, 2))
        whole, more = (saved(shape, layers=count, checkpointing=False) for count in (1, 2))
        kept, inside = two - one, more - whole
        states = 16 * shape.parameters / options.gpus
        layer = 2 * 4 * shape.width * (shape.width + shape.inner)  # two, gathered and fetched ahead
        activations = options.pack * (shape.layers * kept + inside)
        logits = LOGITS_AT_A_TIME * (4 + 4 + 2)
        flops = 8 * shape.parameters * options.tokens
        seconds = flops / (options.gpus * options.tflops * 1e12 * options.utilisation)
        columns.append(
            (
                f"{shape.parameters / 1e9:.2f} G",
                f"{inside / 1024:.0f} KiB",
                f"{kept / 1024:.1f} KiB",
                f"{states / 1e9:.1f} GB",
                f"{activations / 1e9:.1f} GB",
                f"{(layer + logits) / 1e9:.1f} GB",
                f"{(states + activations + layer + logits) / 1e9:.1f} GB",
                f"{seconds / 3600:.2f} h",
            )
        )
    names = (
        "parameters",
        "saved a token and layer (measured)",
        "the same, checkpointed (measured)",
        "weights, gradients, AdamW, a GPU",
        "activations, a GPU",
        "gathered layers and logits, a GPU",
        "in all, a GPU",
        f"{options.tokens:,.0f} tokens at {options.utilisation:.0%} of {options.tflops:g} TFLOPS",
    )
    for row in zip(names, *columns, strict=True):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
