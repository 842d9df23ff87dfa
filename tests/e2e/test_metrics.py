"""What /metrics counts while an image is pulled."""

from harness import faults, images, origin, sluice


def grown(before, after, prefix):
    """How much the series whose names begin with `prefix` have grown together, labels or not."""
    return sum(value - before.get(name, 0) for name, value in after.items() if name.startswith(prefix))
