// The data of the page: JSON with arrays in base64, as explore/payload.py writes them.

/** An array {shape, type, data} with its values decoded. */
function decoded(array) {
  const bytes = Uint8Array.from(atob(array.data), (character) => character.charCodeAt(0));
  const Kind = array.type === "float32" ? Float32Array : Int32Array;
  return { shape: array.shape, values: new Kind(bytes.buffer) };
}

/** The data with every array in it decoded. */
function readData() {
  const revive = (key, value) => (value && value.shape && value.type ? decoded(value) : value);
  return JSON.parse(document.getElementById("data").textContent, revive);
}

/** What an array holds at its leading indices: a number, or a view of the last axis. */
function at(array, ...indices) {
  const { shape, values } = array;
  const index = indices.reduce((sum, i, axis) => sum * shape[axis] + i, 0);
  if (indices.length === shape.length) return values[index];
  const last = shape[shape.length - 1];
  return values.subarray(index * last, (index + 1) * last);
}

/** Row t of a lower triangle that is kept row by row: its t + 1 values. */
function triangleRow(triangle, t) {
  return triangle.subarray((t * (t + 1)) / 2, ((t + 1) * (t + 2)) / 2);
}
