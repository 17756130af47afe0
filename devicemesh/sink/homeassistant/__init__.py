"""MQTT discovery of Home Assistant, beside the topics of docs/mqtt.md; see docs/home-assistant.md.

Its words stay in this folder. `classes`, `entities` and `messages` are pure; `told` is a file.
"""
