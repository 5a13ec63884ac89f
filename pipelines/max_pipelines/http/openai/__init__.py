"""OpenAI's text endpoints: `/v1/chat/completions` and `/v1/completions`.

Source: OpenAI's published API reference; the fields that others have added are named as vLLM and TGI name them.
"""
