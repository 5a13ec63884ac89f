"""The face for clients that exist already: HTTP and WebSocket, translated to `AsyncClient` and back, and no more."""
