"""Generators that do as they are told, in place of a project's own."""

import threading

from campaigns.generators import Content

calls: list[dict] = []
gate = threading.Event()


def friendly(brief, campaign):
    calls.append(dict(brief))
    return Content("Dear {{ name }}", external_name="spring", language="de")


def broken(brief, campaign):
    calls.append(dict(brief))
    raise RuntimeError("the model is away")


def strange(brief, campaign):
    return Content("Dear {{ nmae }}")


def silent(brief, campaign):
    return "Hello"


def slow(brief, campaign):
    assert gate.wait(10)
    return Content("At last, {{ name }}")
