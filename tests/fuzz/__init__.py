"""Coverage-guided fuzzing: one file per target below `targets`, its seeds below `seeds`.

A target is a module with

    check(data)   does with any octets what a peer, a file or an operator could make the program
                  do, and raises AssertionError when the outcome is wrong;
    VECTORS       inputs to begin with, made of the vectors of the unit tests;
    WORDS         optional: octets that belong to the language of the target.

`python -m tests.fuzz` runs targets under atheris. `tests/unit/fuzz` replays every seed without it.
"""
