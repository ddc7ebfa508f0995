"""Keys and values of the contexts seen so far: a trie, so that what contexts share is held once."""

from __future__ import annotations

from collections import OrderedDict

import torch

Ids = tuple[int, ...]


class _Node:
    """A piece of a context, after the pieces of its ancestors.

    Attributes:
        ids: Its token ids; only the root's are empty.
        states: Their keys and values, shape (layers, 2, heads, tokens, dim).
        parent: The piece before; None at the root.
        children: The pieces that follow, by their first token.
    """

    __slots__ = ("children", "ids", "parent", "states")

    def __init__(self, ids: Ids, states: torch.Tensor, parent: _Node | None) -> None:
        self.ids, self.states, self.parent = ids, states, parent
        self.children: dict[int, _Node] = {}


class Prefixes:
    """A trie of token ids with the keys and values of every token.

    Args:
        empty: Keys and values of no token, shape (layers, 2, heads, 0, dim).

    Attributes:
        nbytes: Bytes of all keys and values held.
    """

    def __init__(self, empty: torch.Tensor) -> None:
        self.nbytes = 0
        self._root = _Node((), empty, None)
        # By last use. A use of a node is one of its ancestors right after, so the first is a leaf.
        self._nodes: OrderedDict[_Node, None] = OrderedDict()

    def length(self, ids: Ids) -> int:
        """Return how many of the first tokens of `ids` are held."""
        return self._walk(ids)[1]

    def pieces(self, ids: Ids) -> list[torch.Tensor]:
        """Return the keys and values of the longest prefix of `ids` that is held, piece by piece.

        Each has the shape (layers, 2, heads, tokens, dim).
        """
        node, _, agree = self._walk(ids)
        self._use(node)
        surplus = len(node.ids) - agree
        pieces = []
        while node.parent is not None:
            pieces.append(node.states)
            node = node.parent
        if surplus:
            pieces[0] = pieces[0][:, :, :, :-surplus]
        return pieces[::-1]

    def add(self, ids: Ids, states: torch.Tensor) -> None:
        """Hold `ids`.

        Args:
            ids: A context from its beginning.
            states: Keys and values of its last tokens, of all that are not held yet or of more,
                shape (layers, 2, heads, tokens, dim). What is new is copied.
        """
        node, length, agree = self._walk(ids)
        if agree < len(node.ids):
            node = self._split(node, agree)
        if length < len(ids):
            new = states[:, :, :, states.shape[3] - (len(ids) - length) :].clone()
            node = self._insert(_Node(ids[length:], new, node))
        self._use(node)

    def shrink(self, nbytes: int) -> None:
        """Drop the leaves used least recently until at most `nbytes` are held."""
        while self.nbytes > nbytes:
            node, _ = self._nodes.popitem(last=False)
            assert node.parent is not None
            del node.parent.children[node.ids[0]]
            self.nbytes -= node.states.nbytes

    def _walk(self, ids: Ids) -> tuple[_Node, int, int]:
        """Return the last node along `ids`, and how many tokens agree in all and in that node."""
        node, length, agree = self._root, 0, 0
        while length < len(ids) and ids[length] in node.children:
            node = node.children[ids[length]]
            agree = common_length(node.ids, ids[length : length + len(node.ids)])
            length += agree
            if agree < len(node.ids):
                break
        return node, length, agree

    def _split(self, node: _Node, at: int) -> _Node:
        """Cut `node` in two after `at` tokens and return the first of the two."""
        # Clones, since a view would hold on to the whole piece when the other half is dropped.
        first = _Node(node.ids[:at], node.states[:, :, :, :at].clone(), node.parent)
        self._insert(first)
        self.nbytes -= node.states.nbytes
        node.ids, node.states = node.ids[at:], node.states[:, :, :, at:].clone()
        self.nbytes += node.states.nbytes
        node.parent, first.children[node.ids[0]] = first, node
        return first

    def _insert(self, node: _Node) -> _Node:
        assert node.parent is not None
        node.parent.children[node.ids[0]] = node
        self.nbytes += node.states.nbytes
        self._nodes[node] = None
        return node

    def _use(self, node: _Node) -> None:
        while node.parent is not None:
            self._nodes.move_to_end(node)
            node = node.parent


def common_length(one: Ids, other: Ids) -> int:
    """Return how many first tokens `one` and `other` share."""
    if one == other:
        return len(one)
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
