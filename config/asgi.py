"""The `stream` process: Server-Sent Events and nothing else.

It is an application of its own and no Django handler: a stream is open for minutes, and Django's
synchronous middleware would hold a thread for each.
"""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from config.streams import application  # noqa: E402 - It needs the settings.

__all__ = ["application"]
