"""Sub-commands of `hpl`, one a file."""
