"""The model that every runtime of the lab serves, so that what each of them counts can be compared.

Imported by servers in environments of their own, so it needs nothing.
"""

import time

FAILS, REFUSED = -1.0, -2.0


class ClientFault(Exception):
    """What was sent is wrong."""


def answer(x: float) -> float:
    """Twice x, after x milliseconds if that is over 100.

    Raises:
        RuntimeError: for FAILS, as a broken model does.
        ClientFault: for REFUSED.
    """
    if x == FAILS:
        raise RuntimeError("the model failed")
    if x == REFUSED:
        raise ClientFault("the model refuses this")
    if x > 100:
        time.sleep(x / 1000)
    return 2 * x
