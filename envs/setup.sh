#!/bin/bash
# Make .venv what envs/requirements.lock says, whatever state it is in. Quick if there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

lock=envs/requirements.lock
finished=.venv/finished

state() {
    .venv/bin/python envs/check.py "$lock" "$finished" >/dev/null 2>&1 && echo right && return
    [ $? = 1 ] && echo outdated || echo broken
}

[ "$(state)" = right ] && exit 0

python=$(command -v "${PYTHON:-python3.11}" || command -v python3 || true)
if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
    echo "error: Python 3.11 is needed and was not found; install it, or say where it is: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi

echo "setting up .venv from $lock (once; some minutes)" >&2
# Two `make` at once must not install into each other.
exec 9>.venv.lock
if command -v flock >/dev/null; then flock 9; fi
case "$(state)" in
    right) exit 0 ;;
    broken) "$python" -m venv --clear .venv ;;
esac
rm -f "$finished"
if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$lock"; then
    echo "error: pip could not install $lock (see above); without a route to PyPI, set PIP_INDEX_URL to a mirror" >&2
    exit 1
fi
touch "$finished"
if [ "$(state)" != right ]; then
    echo "error: .venv is still not what $lock says; remove .venv and run make again" >&2
    exit 1
fi
