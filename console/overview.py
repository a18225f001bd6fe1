"""The console's first page."""


def build(*, span: str, user: object) -> dict[str, str]:
    return {"span": span}
