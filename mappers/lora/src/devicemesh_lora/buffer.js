// Buffer (that of Node.js, as far as codecs use it) and TextDecoder. Only for codecs that name one of them.
(function () {
  'use strict';
  const HEX = '0123456789abcdef';
  const SIXTY_FOUR = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

  function toUtf8(text) {
    const made = [];
    for (const one of text) {
      const code = one.codePointAt(0);
      if (code < 0x80) made.push(code);
      else if (code < 0x800) made.push(0xc0 | code >> 6, 0x80 | code & 63);
      else if (code < 0x10000) made.push(0xe0 | code >> 12, 0x80 | code >> 6 & 63, 0x80 | code & 63);
      else made.push(0xf0 | code >> 18, 0x80 | code >> 12 & 63, 0x80 | code >> 6 & 63, 0x80 | code & 63);
    }
    return made;
  }

  function fromUtf8(bytes) {
    let text = '';
    for (let i = 0; i < bytes.length;) {
      const first = bytes[i];
      const more = first < 0x80 ? 0 : first >> 5 === 6 ? 1 : first >> 4 === 14 ? 2 : first >> 3 === 30 ? 3 : -1;
      let code = more === 0 ? first : first & 63 >> more;
      let good = more >= 0 && i + more < bytes.length;
      for (let k = 1; good && k <= more; k++) {
        good = bytes[i + k] >> 6 === 2;
        code = code << 6 | bytes[i + k] & 63;
      }
      good = good && code <= 0x10ffff;
      text += good ? String.fromCodePoint(code) : '\ufffd';
      i += good ? more + 1 : 1;
    }
    return text;
  }

  function fromBase64(text) {
    const made = [];
    let held = 0, bits = 0;
    for (const one of text.replace(/-/g, '+').replace(/_/g, '/')) {
      const at = SIXTY_FOUR.indexOf(one);
      if (at < 0) continue;
      held = held << 6 | at;
      bits += 6;
      if (bits >= 8) made.push(held >> (bits -= 8) & 255);
    }
    return made;
  }

  function toBase64(bytes) {
    let text = '';
    for (let i = 0; i < bytes.length; i += 3) {
      const held = bytes[i] << 16 | (bytes[i + 1] || 0) << 8 | (bytes[i + 2] || 0);
      for (let k = 0; k < 4; k++) text += k > bytes.length - i ? '=' : SIXTY_FOUR[held >> 18 - 6 * k & 63];
    }
    return text;
  }

  function fromText(text, encoding) {
    const how = String(encoding || 'utf8').toLowerCase();
    if (how === 'hex') return (text.match(/^([0-9a-f]{2})*/i)[0].match(/../g) || []).map((two) => parseInt(two, 16));
    if (how === 'base64' || how === 'base64url') return fromBase64(text);
    if (how === 'ascii' || how === 'latin1' || how === 'binary') return Array.from(text, (one) => one.charCodeAt(0) & 255);
    return toUtf8(text);
  }

  class Buffer extends Uint8Array {
    static from(what, encoding) {
      const bytes = typeof what === 'string' ? fromText(what, encoding) : what instanceof ArrayBuffer ? new Uint8Array(what) : what;
      const made = new Buffer(bytes.length);
      for (let i = 0; i < bytes.length; i++) made[i] = bytes[i];
      return made;
    }
    static alloc(size, fill) { return new Buffer(size).fill(fill || 0); }
    static allocUnsafe(size) { return new Buffer(size); }
    static isBuffer(what) { return what instanceof Buffer; }
    static byteLength(text, encoding) { return fromText(text, encoding).length; }
    static concat(list) {
      const made = new Buffer(list.reduce((size, one) => size + one.length, 0));
      let at = 0;
      for (const one of list) { made.set(one, at); at += one.length; }
      return made;
    }
    slice(from, to) { return this.subarray(from, to); }
    toString(encoding, from, to) {
      const part = this.subarray(from || 0, to === undefined ? this.length : to);
      const how = String(encoding || 'utf8').toLowerCase();
      let text = '';
      if (how === 'hex') for (const one of part) text += HEX[one >> 4] + HEX[one & 15];
      else if (how === 'base64') text = toBase64(part);
      else if (how === 'ascii' || how === 'latin1' || how === 'binary') for (const one of part) text += String.fromCharCode(how === 'ascii' ? one & 127 : one);
      else text = fromUtf8(part);
      return text;
    }
    toJSON() { return { type: 'Buffer', data: Array.from(this) }; }
    equals(other) { return this.length === other.length && this.every((one, i) => one === other[i]); }
    view() { return new DataView(this.buffer, this.byteOffset, this.byteLength); }
    readUIntBE(at, size) { let made = 0; for (let i = 0; i < size; i++) made = made * 256 + this[at + i]; return made; }
    readUIntLE(at, size) { let made = 0; for (let i = size; i--;) made = made * 256 + this[at + i]; return made; }
    readIntBE(at, size) { const made = this.readUIntBE(at, size), half = 2 ** (8 * size - 1); return made < half ? made : made - 2 * half; }
    readIntLE(at, size) { const made = this.readUIntLE(at, size), half = 2 ** (8 * size - 1); return made < half ? made : made - 2 * half; }
  }

  const KINDS = { UInt8: 'Uint8', Int8: 'Int8', UInt16: 'Uint16', Int16: 'Int16', UInt32: 'Uint32', Int32: 'Int32', Float: 'Float32', Double: 'Float64', BigInt64: 'BigInt64', BigUInt64: 'BigUint64' };
  for (const kind of Object.keys(KINDS)) {
    const size = /8$/.test(kind) ? 1 : Number((/\d+/.exec(KINDS[kind]) || [])[0]) / 8;
    for (const order of size === 1 ? [''] : ['LE', 'BE']) {
      const read = 'get' + KINDS[kind], write = 'set' + KINDS[kind], little = order === 'LE';
      const reads = function (at) { return this.view()[read](at || 0, little); };
      const writes = function (value, at) { this.view()[write](at || 0, value, little); return (at || 0) + size; };
      for (const name of [kind, kind.replace('UInt', 'Uint')]) {
        Buffer.prototype['read' + name + order] = reads;
        Buffer.prototype['write' + name + order] = writes;
      }
    }
  }

  globalThis.Buffer = Buffer;
  globalThis.TextDecoder = class TextDecoder {
    constructor(label) { this.encoding = String(label || 'utf-8').toLowerCase(); }
    decode(bytes) {
      if (bytes === undefined) return '';
      const held = bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : new Uint8Array(bytes.buffer || bytes, bytes.byteOffset || 0, bytes.byteLength || bytes.length);
      return /^utf-?8$/.test(this.encoding) ? fromUtf8(held) : Buffer.from(held).toString('latin1');
    }
  };
  globalThis.TextEncoder = class TextEncoder {
    encode(text) { return new Uint8Array(toUtf8(String(text))); }
  };
})()
