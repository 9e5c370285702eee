"""Chatmail relay: a mail server for end-to-end encrypted chat."""

__version__ = "0.1.0"
