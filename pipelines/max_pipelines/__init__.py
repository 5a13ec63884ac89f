"""maxpipe."""
