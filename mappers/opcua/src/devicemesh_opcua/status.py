"""What a server's StatusCode means (Part 4, 7.39; codes of Part 6, A.2). Pure."""

from __future__ import annotations

from devicemesh.mapper import PointError, Quality

SEVERITY = 30
"""Bits below it are the code's details; above: 0 good, 1 uncertain, 2 bad."""
OVERFLOW = 0x480
"""InfoType DataValue with its overflow bit: the server's queue was full, older values are lost."""

GOOD = 0
BAD_DECODING_ERROR = 0x80070000
BAD_TIMEOUT = 0x800A0000
BAD_TOO_MANY_OPERATIONS = 0x80100000
BAD_NODE_ID_UNKNOWN = 0x80340000
BAD_NOT_WRITABLE = 0x803B0000
BAD_TYPE_MISMATCH = 0x80740000
BAD_NO_SUBSCRIPTION = 0x80790000
BAD_TOO_MANY_PUBLISH_REQUESTS = 0x80780000
BAD_TOO_MANY_MONITORED_ITEMS = 0x80DB0000
BAD_WRITE_NOT_SUPPORTED = 0x80730000

TOO_MUCH = frozenset({0x80100000, 0x80080000, 0x80B80000, 0x80B90000})
"""BadTooManyOperations, BadEncodingLimitsExceeded, BadRequestTooLarge, BadResponseTooLarge: half may do."""
PASSING = frozenset({
    0x80030000, 0x80040000, 0x80320000, 0x808B0000, 0x808D0000, 0x80AF0000, 0x80E90000, 0x80EE0000,
})  # fmt: skip
"""What may be gone later: BadOutOfMemory, BadResourceUnavailable, BadWaitingForInitialData, BadDeviceFailure,
BadOutOfService, BadInvalidState, BadLocked, BadServerTooBusy. A desired value is then written again."""
NAMES: dict[int, tuple[str, str, Quality]] = {
    0x80020000: ("BadInternalError", "the server failed", Quality.BAD),
    0x80030000: ("BadOutOfMemory", "the server has no memory left", Quality.REFUSED),
    0x80040000: ("BadResourceUnavailable", "the server has no room for it now", Quality.REFUSED),
    0x80050000: ("BadCommunicationError", "it can't reach the device behind it", Quality.NO_ANSWER),
    0x80060000: ("BadEncodingError", "it can't encode the value", Quality.BAD),
    0x80080000: ("BadEncodingLimitsExceeded", "the answer would be too long", Quality.REFUSED),
    0x800A0000: ("BadTimeout", "it did not get the value in time", Quality.NO_ANSWER),
    0x800B0000: ("BadServiceUnsupported", "it does not know this service", Quality.REFUSED),
    0x80100000: ("BadTooManyOperations", "too many at once", Quality.REFUSED),
    0x801F0000: ("BadUserAccessDenied", "this user may not", Quality.REFUSED),
    0x80310000: ("BadNoCommunication", "it can't reach the device behind it", Quality.NO_ANSWER),
    0x80320000: ("BadWaitingForInitialData", "it has no value yet", Quality.PENDING),
    0x80330000: ("BadNodeIdInvalid", "this is no NodeId to it", Quality.BAD_ADDRESS),
    0x80340000: ("BadNodeIdUnknown", "it has no such node", Quality.BAD_ADDRESS),
    0x80350000: ("BadAttributeIdInvalid", "the node has no such attribute", Quality.BAD_ADDRESS),
    0x80360000: ("BadIndexRangeInvalid", "this is no index range", Quality.BAD_ADDRESS),
    0x80370000: ("BadIndexRangeNoData", "the array is not that long", Quality.BAD_ADDRESS),
    0x803A0000: ("BadNotReadable", "the node can't be read", Quality.REFUSED),
    0x803B0000: ("BadNotWritable", "the node can't be written", Quality.REFUSED),
    0x803C0000: ("BadOutOfRange", "the value is out of the node's range", Quality.REFUSED),
    0x803D0000: ("BadNotSupported", "it does not support this", Quality.REFUSED),
    0x803E0000: ("BadNotFound", "it finds nothing there", Quality.BAD_ADDRESS),
    0x80410000: ("BadMonitoringModeInvalid", "it can't monitor this way", Quality.REFUSED),
    0x80430000: ("BadMonitoredItemFilterInvalid", "it can't filter this value", Quality.REFUSED),
    0x80440000: ("BadMonitoredItemFilterUnsupported", "it can't filter", Quality.REFUSED),
    0x80450000: ("BadFilterNotAllowed", "it can't filter this value", Quality.REFUSED),
    0x806F0000: ("BadNoMatch", "there is no node of that name", Quality.BAD_ADDRESS),
    0x80730000: ("BadWriteNotSupported", "it can't write a timestamp or a status", Quality.REFUSED),
    0x80740000: ("BadTypeMismatch", "the value is of another type than the node", Quality.REFUSED),
    0x80890000: ("BadConfigurationError", "the server is misconfigured", Quality.BAD),
    0x808A0000: ("BadNotConnected", "what is behind it is not connected", Quality.NO_ANSWER),
    0x808B0000: ("BadDeviceFailure", "the device behind it has failed", Quality.BAD),
    0x808C0000: ("BadSensorFailure", "the sensor has failed", Quality.BAD),
    0x808D0000: ("BadOutOfService", "the source is out of service", Quality.BAD),
    0x808E0000: ("BadDeadbandFilterInvalid", "it can't filter with this deadband", Quality.REFUSED),
    0x80AF0000: ("BadInvalidState", "not in the state that it is in", Quality.REFUSED),
    0x80E90000: ("BadLocked", "somebody else has locked it", Quality.REFUSED),
    0x80EE0000: ("BadServerTooBusy", "the server is busy", Quality.REFUSED),
    0x80DB0000: ("BadTooManyMonitoredItems", "it monitors no more items", Quality.REFUSED),
    0x80AB0000: ("BadInvalidArgument", "an argument is wrong", Quality.REFUSED),
}
"""Name, what it means to a person, and the quality of such a value."""


def quality(status: int) -> Quality:
    """The quality of a value that bears this status."""
    if status >> SEVERITY == 0:
        return Quality.GOOD
    if status >> SEVERITY == 1:
        return Quality.UNCERTAIN
    known = NAMES.get(status & 0xFFFF0000)
    return known[2] if known else Quality.BAD


def text(status: int) -> str:
    """`BadNodeIdUnknown: it has no such node`; a code without a name stays a number."""
    known = NAMES.get(status & 0xFFFF0000)
    return f"{known[0]}: {known[1]}" if known else f"status 0x{status:08X}"


def number(word: str) -> int:
    """The code of a name as `text` tells it. Raises ValueError."""
    if word == "Good":
        return 0
    for code, known in NAMES.items():
        if known[0] == word:
            return code
    if not word.startswith("status 0x"):
        raise ValueError("write Good, a name like BadSensorFailure, or `status 0x` and the code")
    return int(word.removeprefix("status "), 16) & 0xFFFFFFFF


def error(link: str, status: int) -> PointError:
    """Why a value is bad, with the quality's word as its reason."""
    again_s = 0.0 if status & 0xFFFF0000 in PASSING else None
    reason = quality(status).word.rpartition(".")[2]
    return PointError(f"{link} says {text(status)}", reason=reason, again_s=again_s)
