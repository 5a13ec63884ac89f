"""Hugging Face's text-generation HTTP API: `/`, `/generate`, `/generate_stream`, `/models/…`, `/tokenize`, `/info`.

Source: the API's published document, and text-generation-inference 3, whose messages, headers and events these are.
"""
