"""`GET /openapi.json`: the paths, bodies and answers of the face, for tools that read OpenAPI 3.1."""
