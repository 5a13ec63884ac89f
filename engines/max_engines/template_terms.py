"""What both sides of the process that fills in chat templates agree on. Imports nothing."""

from __future__ import annotations

SHIELD = "\ufdd1"  # stands inside what is not to become a special token; no text has this character
GOES_ON = "\ufdd0 "  # stands behind a message that the model is to go on with; nor has any this one

MAX_TEMPLATE = 2**17  # characters; the longest published ones have 20,000
MAX_TEXT = 2**22  # characters of a conversation, before and after
RENDER_S = 2.0  # of the processor's time; a template of a published model takes less than 0.01 s
MEMORY = 2**29  # bytes; Python and Jinja take 2**25, the largest conversation a few times its own length
