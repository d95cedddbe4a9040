"""What every client does here: each script calls these steps with what its library calls them.

A script gets the socket's path and the namespace, and ends with code 0 if everything was as with Redis."""

import sys

PATH = sys.argv[1]
NAMESPACE = sys.argv[2]
GOVERNED = NAMESPACE + ":user:1"


def same(actual, expected):
    """A client may give text or bytes."""

    def plain(value):
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, (list, tuple)):
            return [plain(each) for each in value]
        if isinstance(value, (set, frozenset)):
            return {plain(each) for each in value}
        if isinstance(value, dict):
            return {plain(key): plain(each) for key, each in value.items()}
        return value

    actual, expected = plain(actual), plain(expected)
    if actual != expected:
        sys.exit(f"{actual!r} instead of {expected!r}")
