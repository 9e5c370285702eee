# The developer's commands; `just` alone lists them.

python := env_var_or_default("PYTHON", "python3")

_list:
    @just --list

# Format the code.
fmt:
    {{python}} -m ruff format chatmail tests bench
    {{python}} -m ruff check --fix-only chatmail tests bench

# Style, types, import contracts.
lint:
    {{python}} -m ruff format --check chatmail tests bench
    {{python}} -m ruff check --output-format concise chatmail tests bench
    {{python}} -m mypy
    lint-imports

# Unit tests: memory ports, no sockets beyond loopback, seconds.
unit *ARGS:
    {{python}} -m pytest tests/unit --random-order {{ARGS}}

# End-to-end tests: the installed program, real clients.
e2e *ARGS:
    {{python}} -m pytest tests/e2e {{ARGS}}

# All that has to hold: what CI runs.
check: lint unit e2e
