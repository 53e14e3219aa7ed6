"""`python -m digitrec`: the command, where no console script is at hand."""

from digitrec.cli import main

if __name__ == "__main__":
    main()
