"""Adapters, which change the model for single sequences of a batch: LoRA and soft prompts, as peft saves them."""

from .step import adapted_step
from .table import BARE, AdapterTable, Chosen

__all__ = ["BARE", "AdapterTable", "Chosen", "adapted_step"]
