"""What can be measured of a voice without an ear: spectra, pitch, whose voice it is, what went wrong in an utterance.

All of it hears sound at 16 kHz (`RATE`), is numpy alone, and does not mind how loud a sound is unless it says so.
"""
