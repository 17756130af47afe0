"""Units of measurement (placeholder until the table lands in the next commit)."""


def canonical(unit: str) -> str:
    """Return the UCUM code of a unit as people write it. Raises ValueError with a suggestion."""
    return unit
