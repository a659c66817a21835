"""`python -m biopsy.cli`."""

from biopsy.cli import main

if __name__ == "__main__":
    main()
