"""Prompts, one Markdown file a benchmark."""
