// A line {"decode": hex} becomes the payload as JSON, {"encode": payload} becomes hex.
const { get } = require("sparkplug-payload");
const codec = get("spBv1.0");
const plain = (key, value) =>
  value && value.low !== undefined ? String(BigInt.asIntN(64, (BigInt(value.high) << 32n) | BigInt(value.low >>> 0)))
  : value instanceof Uint8Array || (value && value.type === "Buffer") ? { hex: Buffer.from(value.data || value).toString("hex") }
  : value;
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const asked = JSON.parse(line);
  const answer = asked.decode !== undefined
    ? codec.decodePayload(Buffer.from(asked.decode, "hex"))
    : Buffer.from(codec.encodePayload(asked.encode)).toString("hex");
  console.log(JSON.stringify(answer, plain));
});
