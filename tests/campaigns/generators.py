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


def framed(brief, campaign):
    buttons = {2: "https://shop.example/{{ order }}"}
    return Content("Dear {{ name }}", header="Order {{ order }}", buttons=buttons)


def crooked(brief, campaign):
    return Content("Dear {{ name }}", buttons={0: "https://shop.example/{{ order }}/more"})
