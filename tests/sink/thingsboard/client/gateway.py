"""A gateway by ThingsBoard's own client; prints what it got as JSON. `python gateway.py PORT`."""

import json
import sys
import time

from tb_gateway_mqtt import TBGatewayMqttClient


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


got = {}
gateway = TBGatewayMqttClient("127.0.0.1", int(sys.argv[1]), "token")


def called(client, content):
    got["call"] = content
    client.gw_send_rpc_reply("pump-1", content["data"]["id"], {"success": True})


gateway.gw_set_server_side_rpc_request_handler(called)
gateway.connect()
until(lambda: gateway.is_connected() and gateway.rate_limits_received)
got["payload"] = gateway.max_payload_size
gateway.gw_connect_device("pump-1", "pump")
gateway.gw_subscribe_to_all_device_attributes("pump-1", lambda content, *_: got.update(edited=content))
sent = gateway.gw_send_telemetry("pump-1", {"ts": 1795000000000, "values": {"speed": 1198.5, "mode": "auto"}})
told = gateway.gw_send_attributes("pump-1", {"fw": "a"})
got["codes"] = [sent.get(), told.get()]
until(lambda: "edited" in got and "call" in got)
gateway.gw_request_shared_attributes("pump-1", ["speed", "mode"], lambda content, _: got.update(some=content))
gateway.gw_request_shared_attributes("pump-1", ["speed"], lambda content, _: got.update(one=content))
until(lambda: "some" in got and "one" in got)
gateway.gw_disconnect_device("pump-1").get()
gateway.disconnect()
print(json.dumps(got))
