"""Wrappers: snapshots over any stack, transcripts, Thought / Action."""

from hpl_gym.wrappers.react import ReActWrapper, ThoughtAction, parse_reply
from hpl_gym.wrappers.snapshot import SnapshotWrapper, WrappedSnapshot
from hpl_gym.wrappers.transcript import Conversation, TranscriptWrapper, Turn

__all__ = [
    "Conversation",
    "ReActWrapper",
    "SnapshotWrapper",
    "ThoughtAction",
    "TranscriptWrapper",
    "Turn",
    "WrappedSnapshot",
    "parse_reply",
]
