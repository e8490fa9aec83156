#!/bin/bash
# Make .venv what envs/requirements.lock says, whatever state it is in. Quick where nothing is to do.
set -euo pipefail
cd "$(dirname "$0")/.."

lock=envs/requirements.lock
python=$(command -v "${PYTHON:-python3.11}" || command -v python3 || true)
if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
    echo "error: Python 3.11 is needed and ${PYTHON:-python3.11} is not it; install it, or name it: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi

# A package that is missing or of another version shows in its metadata: no import is needed to see it.
complete() {
    [ -x .venv/bin/python ] && .venv/bin/python - "$lock" 2>/dev/null <<'EOP'
import importlib.metadata, sys

for line in open(sys.argv[1]):
    name, equals, version = line.split("#")[0].strip().partition("==")
    if equals and importlib.metadata.version(name).split("+")[0] != version:
        sys.exit(1)
sys.exit(not __import__("os").path.exists(".venv/complete"))
EOP
}

complete && exit 0

echo "setting up .venv from $lock (once; some minutes)" >&2
# Two `make` at once must not install into each other.
exec 9>.venv.lock
command -v flock >/dev/null && flock 9
complete && exit 0
# Installing over a healthy environment only adds what changed; anything else starts afresh.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --clear .venv
fi
rm -f .venv/complete
if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$lock"; then
    echo "error: pip could not install $lock (see above); with no route to PyPI, set PIP_INDEX_URL to a mirror" >&2
    exit 1
fi
touch .venv/complete
complete || { echo "error: .venv is still not what $lock says; remove .venv and run make again" >&2; exit 1; }
