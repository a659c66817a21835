"""Check whether the user's files outside the project have changed; runs only if an earlier stage has read some."""

from biopsy.core.outside import look_again
from biopsy.core.stage import run_stage


def outside() -> None:
    """Record the current state of every path in data/outside.yaml."""
    for missing in look_again():
        print(f"outside: {missing} is not on this machine; what was made of it is kept.")


if __name__ == "__main__":
    run_stage(outside)
