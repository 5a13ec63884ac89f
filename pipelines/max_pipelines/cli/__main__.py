"""`python -m max_pipelines.cli`: the same as `maxpipe`."""

import sys

from . import main

sys.exit(main())
