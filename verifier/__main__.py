"""``python -m verifier`` and the installed command ``verifier``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; says which extra is missing when it is not installed."""
    try:
        from verifier.cli.main import main as command  # noqa: PLC0415 - to tell what is missing
    except ModuleNotFoundError as error:
        sys.exit(
            f"verifier: {error.name} is not installed; install the extra: "
            "pip install 'device-attestation[verifier]'"
        )
    command()


if __name__ == "__main__":
    main()
