"""`bearergate` and `python -m gateway`."""

from __future__ import annotations

from gateway.cli import app


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
