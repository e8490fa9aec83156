"""What the commands in scripts/ share; nothing in here is run by itself."""

import os
import sys

# `python scripts/x.py` puts scripts/ first on the path, where our tabulate.py would hide the PyPI
# package of the same name from pandas and nncf. Installed packages come first from here on.
_SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if sys.path and sys.path[0] and os.path.realpath(sys.path[0]) == os.path.realpath(_SCRIPTS):
    sys.path.append(sys.path.pop(0))
