"""Brings a prior's files from a hub: `python -m worker.hub`, a process of its own.

Only there is anything connected to, and only there is huggingface_hub imported, whose settings are its environment's.
"""
