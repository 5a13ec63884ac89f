"""`python -m tests.faults.simulation SEED [SEED …]`: play worlds again, and see what was wrong with them."""

from __future__ import annotations

import sys

from .world import simulate

for text in sys.argv[1:]:
    world = simulate(int(text))
    print(f"seed {text}: {world.faultable} messages could be lost, {world.crashes} workers died, nothing was wrong")
