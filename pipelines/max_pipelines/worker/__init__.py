"""A worker: one pipeline on one device. `core` is its logic without I/O, `loop` the sockets and the clock."""
