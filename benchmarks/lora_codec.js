// A codec as device makers publish them: one of a probe for temperature and humidity with a second sensor.
function decodeUplink(input) {
  var port = input.fPort;
  var bytes = input.bytes;
  var data = {};
  if (port !== 2) {
    return { errors: ['unknown FPort'] };
  }
  var kind = bytes[6] & 0x7f;
  data.BatV = ((bytes[0] << 8 | bytes[1]) & 0x3fff) / 1000;
  data.Bat_status = bytes[0] >> 6;
  data.TempC_SHT = parseFloat((((bytes[2] << 24) >> 16 | bytes[3]) / 100).toFixed(2));
  data.Hum_SHT = parseFloat((((bytes[4] << 8 | bytes[5]) & 0xfff) / 10).toFixed(1));
  data.No_connect = bytes[6] & 0x80 ? 'Sensor no connection' : null;
  switch (kind) {
    case 0:
      data.Ext_sensor = 'No external sensor';
      break;
    case 1:
      data.Ext_sensor = 'Temperature Sensor';
      data.TempC_DS = parseFloat((((bytes[7] << 24) >> 16 | bytes[8]) / 100).toFixed(2));
      break;
    case 4:
      data.Work_mode = 'Interrupt Sensor send';
      data.Exti_pin_level = bytes[7] ? 'High' : 'Low';
      data.Exti_status = bytes[8] ? 'True' : 'False';
      break;
    case 5:
      data.Work_mode = 'Illumination Sensor';
      data.ILL_lx = bytes[7] << 8 | bytes[8];
      break;
    default:
      return { errors: ['unknown sensor'] };
  }
  return { data: data };
}
