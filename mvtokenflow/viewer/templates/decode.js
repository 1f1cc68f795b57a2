// Reads format mvtf4d, version 1: a header (JSON) and a deflated stream of tables. See docs/viewer.md.
"use strict";

const FORMAT = "mvtf4d", VERSION = 1;
const BYTES = { u8: 1, u16: 2, u32: 4, f32: 4 };

/** Inflates base64 text to bytes. */
async function inflate(text) {
  const packed = atob(text.trim());
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Whole numbers of one column from its byte planes, differences to earlier rows added up. */
function readColumn(data, place, rows, size, difference) {
  const numbers = new Uint32Array(rows);
  for (let byte = 0; byte < size; byte++)
    for (let row = 0; row < rows; row++) numbers[row] |= data[place + byte * rows + row] << (8 * byte);
  const mask = size === 4 ? 0xffffffff : 2 ** (8 * size) - 1;
  if (difference)
    for (let row = difference; row < rows; row++) numbers[row] = (numbers[row] + numbers[row - difference]) & mask;
  return numbers;
}

/** One table as values (rows × width), row by row; packed quaternions become four numbers. */
function readSection(entry, data, place) {
  const { rows, width, type, low, step } = entry, size = BYTES[type];
  if (entry.name === "quats" && type === "u32") return unpackQuaternions(readColumn(data, place, rows, size, 0));
  const values = new Float32Array(rows * width);
  for (let column = 0; column < width; column++) {
    const numbers = readColumn(data, place + column * rows * size, rows, size, entry.difference || 0);
    const from = type === "f32" ? new Float32Array(numbers.buffer) : numbers;
    const first = low ? low[column] : 0, by = low ? step[column] : 1;
    for (let row = 0; row < rows; row++)
      values[row * width + column] = first + by * from[row];
  }
  return values;
}

/** Unit quaternions wxyz: two bits say which component is largest, ten bits each give the others. */
function unpackQuaternions(packed) {
  const quats = new Float32Array(4 * packed.length), root = Math.SQRT1_2;
  for (let row = 0; row < packed.length; row++) {
    const largest = packed[row] >>> 30;
    let rest = 1, shift = 20;
    for (let part = 0; part < 4; part++) {
      if (part === largest) continue;
      const value = (((packed[row] >>> shift) & 1023) / 1023 * 2 - 1) * root;
      quats[4 * row + part] = value;
      rest -= value * value;
      shift -= 10;
    }
    quats[4 * row + largest] = Math.sqrt(Math.max(0, rest));
  }
  return quats;
}

/** The data of one method: its header's entries, and tables by name. */
async function decodeField(header, text) {
  if (header.format !== FORMAT) throw new Error(`data of "${header.format}", not of ${FORMAT}`);
  if (header.version !== VERSION)
    throw new Error(`data of ${FORMAT} version ${header.version}; this page reads version ${VERSION}`);
  const data = await inflate(text), tables = {};
  const total = header.sections.reduce((sum, one) => sum + one.rows * one.width * BYTES[one.type], 0);
  if (total !== data.length) throw new Error(`data of ${data.length} bytes, the header says ${total}`);
  let place = 0;
  for (const entry of header.sections) {
    tables[entry.name] = readSection(entry, data, place);
    place += entry.rows * entry.width * BYTES[entry.type];
  }
  tables.scales = tables.log_scales.map(Math.exp);
  return prepareField(header, tables);
}

/** Facts that drawing needs besides the tables. */
function prepareField(header, tables) {
  const skinned = header.kind === "skinned", counts = skinned ? [header.count] : header.counts, starts = [0];
  for (const count of counts) starts.push(starts[starts.length - 1] + count);
  if (skinned) normaliseWeights(tables.weights, header.neighbours);
  const { low: colourLow = [0, 0, 0], step: colourStep = [0, 0, 0] } = header.sections.find((one) => one.name === "colours") || {};
  const size = header.extent > 1.5 || header.extent < 0.3 ? header.extent : 1;
  return { ...header, ...tables, nodes_count: header.nodes, skinned, counts, starts, size, colourLow, colourStep, frames: header.times.length };
}

function normaliseWeights(weights, neighbours) {
  for (let start = 0; start < weights.length; start += neighbours) {
    let sum = 0;
    for (let k = 0; k < neighbours; k++) sum += weights[start + k];
    for (let k = 0; k < neighbours; k++) weights[start + k] /= sum;
  }
}
