"""What Home Assistant itself makes of discovery messages; run by a Python that has it, with a job on stdin.

The job is {"messages": [a discovery message, ...], "renders": [[template, variables], ...]}; the answer is
{"wrong": [[key, what], ...], "rendered": [text, ...]}. Release 2024.3.3 has the schemas of each platform and the
templates, and no discovery of devices yet: what that does to a message is done here.
"""

import asyncio
import importlib
import json
import sys

import voluptuous
from homeassistant.core import HomeAssistant
from homeassistant.helpers.template import Template

SHARED = ("availability", "availability_mode", "state_topic", "command_topic", "qos")


def wrong(message: dict) -> list[list[str]]:
    """The components that it would not take."""
    found = []
    for key, component in message["components"].items():
        config = dict(component)
        platform = config.pop("platform")
        if not config:
            continue  # one that is taken back
        config |= {"device": message["device"], "origin": message["origin"]}
        config |= {name: message[name] for name in SHARED if name in message and name not in config}
        module = importlib.import_module(f"homeassistant.components.mqtt.{platform}")
        try:
            module.DISCOVERY_SCHEMA(config)
        except voluptuous.Invalid as error:
            found.append([key, str(error)])
    return found


async def main() -> None:
    """Answer one job."""
    job = json.load(sys.stdin)
    hass = HomeAssistant("/nonexistent")
    rendered = [
        str(Template(text, hass).async_render(said, parse_result=False)) for text, said in job["renders"]
    ]
    found = [one for message in job["messages"] for one in wrong(message)]
    json.dump({"wrong": found, "rendered": rendered}, sys.stdout)


asyncio.run(main())
