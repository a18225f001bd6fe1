from django.apps import AppConfig


class UnsafeConfig(AppConfig):
    name = "tests.unsafe"
    label = "unsafe"
