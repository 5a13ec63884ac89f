"""The Wyoming protocol, as Home Assistant speaks it: text in, sound out, over TCP, inside the face's process."""
