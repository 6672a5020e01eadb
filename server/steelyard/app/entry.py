"""The console script `steelyard`: there after a bare installation, when it names the extras to install."""

import os
import sys

_EXTRAS = "pip install 'steelyard[server,cli,embedded]'"


def main() -> None:
    """Run the command line; exit with status 1 and one clear line where an extra is not installed."""
    # We start programs and never go on in a forked copy: without this grpcio remarks on each program started.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        from steelyard.app.cli import main as command_line
    except ModuleNotFoundError as error:
        # A missing module of our own is a broken installation, and its traceback is the message.
        if (error.name or "steelyard").partition(".")[0] == "steelyard":
            raise
        sys.exit(f"steelyard: the commands need '{error.name}', which is not installed: {_EXTRAS}")
    command_line()
