"""The command line, called in this process."""

import pytest

from hpl_gym.trainers import cli


def hpl(*arguments):
    """Run the command line; return its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["hpl", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    return stopped.value.code or 0
