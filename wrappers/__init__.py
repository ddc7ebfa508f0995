"""Wrappers: snapshots over any stack, transcripts, Thought / Action."""
