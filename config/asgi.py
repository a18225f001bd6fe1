"""The `stream` process: Server-Sent Events and nothing else.

It is an application of its own and no Django handler: a stream is open for minutes, and Django's
synchronous middleware would hold a thread for each.
"""

import os

import django
from django.conf import settings
from django.utils.module_loading import import_string

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()
application = import_string(settings.SLIPWAY["STREAM"])
