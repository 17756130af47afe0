// What a published codec expects around itself, and how it is called. Evaluated in front of each codec, in a
// context of its own. Gives back bind(own), and bind gives back call(way, input): JSON in, JSON or `-words` out.
(function () {
  'use strict';
  // kept here, as a codec may replace them
  const parse = JSON.parse, stringify = JSON.stringify, Time = Date, isArray = Array.isArray, string = String;
  const TooLarge = RangeError, Wrong = TypeError, names = Object.keys;
  const MOST = 65536;

  const silent = function () {};
  globalThis.console = { log: silent, info: silent, warn: silent, error: silent, debug: silent, trace: silent };
  globalThis.module = { exports: {} };
  globalThis.exports = globalThis.module.exports;
  globalThis.require = function (name) {
    const bare = string(name).replace(/^node:/, '');
    if (bare === 'buffer') return { Buffer: globalThis.Buffer };
    if (bare === 'util') return { TextDecoder: globalThis.TextDecoder };
    throw new Error("require('" + string(name) + "') is not there: a codec is one file");
  };

  // what was thrown, in words: anything can be
  function words(thrown) {
    try {
      if (thrown === null) return 'null'; // what the engine throws where there is no memory for an error
      if (thrown === undefined) return 'it throws undefined';
      if (typeof thrown === 'object' && thrown.message !== undefined) {
        const kind = string(thrown.name || 'Error');
        return (kind === 'Error' ? '' : kind + ': ') + string(thrown.message);
      }
      return typeof thrown === 'object' ? 'it throws ' + stringify(thrown) : string(thrown);
    } catch (other) {
      return 'it throws what can not be shown';
    }
  }

  function listed(some) {
    if (some === undefined || some === null) return [];
    const all = isArray(some) ? some : [some], made = [];
    for (let i = 0; i < all.length && i < 8; i++) made[i] = words(all[i]).slice(0, 300);
    return made;
  }

  function output(name, given) {
    if (given === undefined || given === null) throw new Wrong(name + ' gives back nothing');
    if (typeof given !== 'object') throw new Wrong(name + ' gives back a ' + typeof given + ', not an object');
    if (typeof given.then === 'function') throw new Wrong(name + ' gives back a promise: a codec can not wait');
    return given;
  }

  function decoded(own, way, input) {
    const name = way === 'decodeDownlink' ? way : 'decodeUplink';
    const given = output(name, own[name](input));
    const made = { data: given.data, warnings: listed(given.warnings), errors: listed(given.errors) };
    // {} is how some say that there is nothing in a payload; other keys are a mistake
    const keys = made.data === undefined && !made.warnings.length && !made.errors.length ? names(given) : [];
    if (keys.length && !('data' in given) && !('warnings' in given) && !('errors' in given)) {
      throw new Wrong(name + ' gives back no data: ' + keys.slice(0, 8).join(', '));
    }
    if (way === 'normalizeUplink' && !made.errors.length && made.data !== undefined) {
      if (!own.normalizeUplink) {
        made.normalizeErrors = ['the codec has no normalizeUplink'];
        return made;
      }
      try {
        const normal = output(way, own.normalizeUplink({ data: made.data, warnings: [], errors: [] }));
        made.normalized = normal.data;
        made.normalizeErrors = listed(normal.errors);
      } catch (thrown) {
        made.normalizeErrors = [words(thrown)];
      }
    }
    return made;
  }

  function encoded(own, way, input) {
    const given = output(way, own[way](input));
    const made = { warnings: listed(given.warnings), errors: listed(given.errors), fPort: given.fPort, bytes: [] };
    if (made.errors.length) return made;
    const bytes = given.bytes;
    if (bytes === undefined || bytes === null || typeof bytes.length !== 'number' || typeof bytes === 'string') {
      throw new Wrong(way + ' gives back no bytes');
    }
    if (bytes.length > 255) throw new TooLarge(way + ' gives back ' + bytes.length + ' bytes');
    for (let i = 0; i < bytes.length; i++) made.bytes[i] = bytes[i];
    return made;
  }

  return function bind(own) {
    const exported = globalThis.module && globalThis.module.exports;
    for (const name of names(own)) {
      if (!own[name] && exported && typeof exported[name] === 'function') own[name] = exported[name];
    }
    return function call(way, text) {
      try {
        const input = parse(text);
        if (!own[way] && way !== 'normalizeUplink') throw new Wrong('it has no ' + way);
        if (input.recvTime !== undefined) input.recvTime = new Time(input.recvTime);
        const codes = way === 'encodeDownlink' || way === 'encodeUplink';
        const made = stringify((codes ? encoded : decoded)(own, way, input));
        if (made.length > MOST) throw new TooLarge('it gives back ' + made.length + ' characters, ' + MOST + ' at most');
        return made; // as it is: a long string that is put together is a rope, which does not get out
      } catch (thrown) {
        return '-' + words(thrown).slice(0, 300);
      }
    };
  };
})()
