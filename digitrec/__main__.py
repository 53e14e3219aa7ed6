"""The command, as `digitrec` and as `python -m digitrec`: a signal ends it in time while it is still being imported."""

from digitrec.process import prepare_process


def main() -> None:
    """The console script."""
    prepare_process()
    from digitrec.cli import main as run

    run()


if __name__ == "__main__":
    main()
