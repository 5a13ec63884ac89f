"""`python -m max_pipelines.cli`: the same as `maxpipe`."""

import sys

from ..command import script

sys.exit(script())
