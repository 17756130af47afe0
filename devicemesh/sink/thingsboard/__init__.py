"""ThingsBoard: the runtime is one of its gateways, and speaks its MQTT gateway API. See docs/thingsboard.md.

What ThingsBoard does with a message is said where it matters; its source is what that was read from
(common/transport/mqtt, JsonConverter).
"""
