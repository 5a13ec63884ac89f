"""Voices that were added as samples: cleaned (`sample`), encoded (`adding`), and kept in a folder (`folder`)."""
