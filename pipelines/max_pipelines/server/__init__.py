"""The server: a dispatcher that owns every request, and a supervisor that owns every worker.

`dispatcher` and `supervisor` are logic without I/O, `handle(event, now) -> actions`; `shell` is the thin loop of
sockets, processes and clocks around them.
"""
