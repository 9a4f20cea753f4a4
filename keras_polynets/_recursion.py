"""Room on Python's stack for Keras, which walks graphs by recursion."""

import contextlib
import sys


@contextlib.contextmanager
def recursion_to(depth):
    """Lets Keras walk a graph of that depth.

    Args:
        depth: Integer, how many more frames than usual there may be.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + depth)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
