"""What the commands in scripts/ share; nothing in here is run by itself."""

import os
import sys

# `python scripts/x.py` puts scripts/ first on the path, where our tabulate.py would hide the PyPI
# package of the same name from pandas, torch and nncf. Installed packages come first from here on.
_SCRIPTS = os.path.realpath(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.sort(key=lambda place: bool(place) and os.path.realpath(place) == _SCRIPTS)
