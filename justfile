# The developer's commands; `just` alone lists them.

python := if path_exists(".venv/bin/python") == "true" { justfile_directory() / ".venv/bin/python" } else { "python3" }
packages := "chromium curl faketime fetchmail interimap iproute2 isync mutt opendkim opendkim-tools postfix postgresql strace"

_list:
    @just --list

# Of PostgreSQL, Postfix and OpenDKIM the tests use the programs alone, for private servers in
# temporary folders: installing them starts no service and configures none.
# System packages that the tests use (Debian; skips what is there).
setup:
    #!/usr/bin/env bash
    set -euo pipefail
    missing=()
    for package in {{packages}}; do
      dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && exit 0
    as_root=""; [ "$(id -u)" -eq 0 ] || as_root="sudo"
    $as_root apt-get update -qq
    policy=/usr/sbin/policy-rc.d  # asked before a package starts its service (invoke-rc.d)
    if [ ! -e "$policy" ]; then
      printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
      $as_root chmod 755 "$policy"
      trap '$as_root rm -f "$policy"' EXIT
    fi
    echo "postfix postfix/main_mailer_type select No configuration" | $as_root debconf-set-selections
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

# Format the code.
fmt:
    {{python}} -m ruff format chatmail tests bench
    {{python}} -m ruff check --fix-only chatmail tests bench

# Style, types, import contracts.
lint:
    {{python}} -m ruff format --check chatmail tests bench
    {{python}} -m ruff check --output-format concise chatmail tests bench
    {{python}} -m mypy
    {{python}} -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

# Unit tests: memory ports and loopback, random order, seconds.
unit *ARGS:
    {{python}} -m pytest tests/unit -n auto --maxprocesses 4 --random-order {{ARGS}}

# Property tests with new examples, many of them: what they find becomes a vector.
explore *ARGS:
    HYPOTHESIS_PROFILE=explore {{python}} -m pytest tests/unit --timeout 600 -k "cut or any or total or mutat or random or round" {{ARGS}}

# Coverage-guided fuzzing by atheris, for hours: `just fuzz`, `just fuzz gate`, `just fuzz gate 600`.
fuzz TARGET="all" SECONDS="3600":
    {{python}} -m tests.fuzz {{TARGET}} --seconds {{SECONDS}}

# The same inputs at every run, about a minute: seeds, and what grows out of them in that time.
fuzz-short:
    {{python}} -m tests.fuzz all --seconds 2 --runs 3000 --jobs {{num_cpus()}} --steady

# Files run side by side, save those that measure (marked `alone`). 5 is pytest's word for "no test
# was chosen".
# End-to-end tests: the installed program, real sockets, real clients.
e2e *ARGS:
    {{python}} -m pytest tests/e2e --durations=25 -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not alone" {{ARGS}} || [ $? -eq 5 ]
    {{python}} -m pytest tests/e2e --durations=25 -m alone {{ARGS}} || [ $? -eq 5 ]

# The same on PostgreSQL: each relay gets a fresh database of a private server.
e2e-postgresql *ARGS:
    CHATMAIL_TEST_DATABASE=postgresql {{python}} -m pytest tests/e2e --durations=25 -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not alone" {{ARGS}} || [ $? -eq 5 ]
    CHATMAIL_TEST_DATABASE=postgresql {{python}} -m pytest tests/e2e --durations=25 -m alone {{ARGS}} || [ $? -eq 5 ]

# Of those, the ones that lean on the store most: what `check` has time for.
e2e-postgresql-store:
    CHATMAIL_TEST_DATABASE=postgresql {{python}} -m pytest --durations=25 -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder tests/e2e/test_cores.py tests/e2e/test_lifecycle.py tests/e2e/test_durability.py tests/e2e/test_imap_store.py tests/e2e/test_imap_idle.py tests/e2e/test_imap_append.py tests/e2e/test_imap_qresync.py tests/e2e/test_smtp_accounts.py tests/e2e/test_federation_literal.py tests/e2e/test_federation_faults.py

# A demo relay on loopback from this checkout.
run *ARGS:
    {{python}} -m chatmail serve --demo {{ARGS}}

# Micro-benchmarks of parser, gate, store and streams; they print, they do not judge.
bench:
    for script in bench/*.py; do echo "== $script"; {{python}} -m "bench.$(basename "$script" .py)"; done

# All that has to hold: what CI runs.
check: lint unit fuzz-short e2e e2e-postgresql-store
