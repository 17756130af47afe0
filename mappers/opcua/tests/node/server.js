// A server of other people: node-opcua. Prints its port, then lives until its input ends.
"use strict";
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const {
  DataType, OPCUACertificateManager, OPCUAServer, StatusCodes, VariantArrayType, nodesets,
} = require("node-opcua");

async function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "opcua-peer-"));
  const manager = new OPCUACertificateManager({ rootFolder: folder, automaticallyAcceptUnknownCertificate: true });
  await manager.initialize();
  const server = new OPCUAServer({
    nodeset_filename: [nodesets.standard, path.join(__dirname, "types.xml")],
    port: 0, host: "127.0.0.1", hostname: "127.0.0.1", serverCertificateManager: manager,
    userManager: { isValidUser: (user, password) => user === "anna" && password === "s3cret" },
  });
  await server.initialize();
  const namespace = server.engine.addressSpace.registerNamespace("urn:plant");
  const objects = server.engine.addressSpace.rootFolder.objects;
  const space = server.engine.addressSpace;
  space.installAlarmsAndConditionsService();
  const pump = namespace.addObject({
    organizedBy: objects, browseName: "Pump", nodeId: "s=Pump", eventSourceOf: objects.server, eventNotifier: 1,
  });
  const add = (name, dataType, value, more = {}) => namespace.addVariable({
    componentOf: pump, browseName: name, nodeId: `s=Pump.${name}`, dataType, minimumSamplingInterval: 10,
    value: { dataType, value, ...more },
  });
  const count = add("Count", DataType.Double, 0);
  add("Speed", DataType.Float, 1.5);
  add("Big", DataType.UInt64, [1, 2], { arrayType: VariantArrayType.Scalar }); // 2^32 + 2
  add("Name", DataType.String, "mesh");
  add("List", DataType.Int32, new Int32Array([10, 20, 30]), { arrayType: VariantArrayType.Array });
  add("Broken", DataType.Double, 1).setValueFromSource(
    { dataType: DataType.Double, value: 1 }, StatusCodes.BadSensorFailure);
  const level = namespace.addAnalogDataItem({
    componentOf: pump, browseName: "Level", nodeId: "s=Pump.Level", dataType: "Double",
    engineeringUnitsRange: { low: 0, high: 200 }, instrumentRange: { low: 0, high: 200 },
    value: { dataType: DataType.Double, value: 50 },
  });
  namespace.instantiateExclusiveLimitAlarm("ExclusiveLimitAlarmType", {
    browseName: "TooFull", conditionName: "TooFull", conditionSource: pump, inputNode: level,
    highHighLimit: 190, highLimit: 150, lowLimit: -10, lowLowLimit: -20,
  });
  space.installHistoricalDataNode(count, { maxOnlineValues: 1000 });
  const arithmetic = namespace.addMethod(pump, {
    browseName: "Add", nodeId: "s=Pump.Add",
    inputArguments: [{ name: "a", dataType: DataType.Double }, { name: "b", dataType: DataType.UInt32 }],
    outputArguments: [{ name: "sum", dataType: DataType.Double }],
  });
  arithmetic.bindMethod(([a, b], context, done) => done(null, {
    statusCode: b.value > 100 ? StatusCodes.BadOutOfRange : StatusCodes.Good,
    outputArguments: [{ dataType: DataType.Double, value: a.value + b.value }],
  }));
  const mode = namespace.addEnumerationType({ browseName: "Mode", enumeration: ["Off", "Manual", "Auto"] });
  namespace.addVariable({
    componentOf: pump, browseName: "Mode", nodeId: "s=Pump.Mode", dataType: mode,
    value: { dataType: DataType.Int32, value: 2 },
  });
  const types = space.getNamespaceIndex("urn:types");
  const way = space.findDataType("Way", types);
  const spots = [{ x: 1, y: 2 }, { x: 3, y: 4 }];
  const structures = (name, dataType, value, more) => namespace.addVariable({
    componentOf: pump, browseName: name, nodeId: `s=Pump.${name}`, dataType, ...more,
    value: { dataType: DataType.ExtensionObject, value, arrayType: Array.isArray(value) ? VariantArrayType.Array : 0 },
  });
  structures("Way", way, space.constructExtensionObject(way, { name: "w", spots, last: spots[0], laps: 3 }));
  const spot = space.findDataType("Spot", types);
  structures("Spots", spot, spots.map((one) => space.constructExtensionObject(spot, one)), { valueRank: 1 });
  structures("Range", "Range", space.constructExtensionObject(space.findDataType("Range"), { low: 1, high: 2 }));
  namespace.addMethod(pump, {
    browseName: "Turn", nodeId: "s=Pump.Turn",
    inputArguments: [{ name: "way", dataType: way.nodeId }],
    outputArguments: [{ name: "way", dataType: way.nodeId }, { name: "spots", dataType: spot.nodeId, valueRank: 1 }],
  }).bindMethod(([given], context, done) => done(null, {
    statusCode: StatusCodes.Good,
    outputArguments: [
      { dataType: DataType.ExtensionObject, value: given.value },
      { dataType: DataType.ExtensionObject, arrayType: VariantArrayType.Array, value: given.value.spots },
    ],
  }));
  let turns = 0;
  setInterval(() => {
    turns += 1;
    count.setValueFromSource({ dataType: DataType.Double, value: turns });
  }, 150); // it samples every 50 ms
  await server.start();
  console.log(`PORT ${server.endpoints[0].port}`);
  process.stdin.resume();
  process.stdin.on("end", () => { fs.rmSync(folder, { recursive: true, force: true }); process.exit(0); });
}

main().catch((error) => { console.error(error); process.exit(1); });
