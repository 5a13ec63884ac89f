"""`python -m max_pipelines.cli`: the same as `maxpipe`."""

import sys

from . import script

sys.exit(script())
