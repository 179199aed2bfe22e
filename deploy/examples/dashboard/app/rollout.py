"""Which keys walpurge purges while it is rolled out."""


def bucket(value):
    """A value's place in a rollout, from 0 to 99: the 64-bit FNV-1a hash of its bytes, modulo 100.

    walpurge computes the same, so that both have the same values in the rollout.
    """
    found = 0xCBF29CE484222325
    for byte in value.encode():
        found = (found ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return found % 100


def in_rollout(value, percent):
    """Whether walpurge purges this value."""
    return bucket(value) < percent
