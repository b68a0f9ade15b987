// Attention: a picture of every head to choose from, and the chosen one with its weights.

/** Build the table of heads once: a row for each block, a button for each head. */
function buildHeads(data, choose) {
  const { n_layers: L, n_heads: H } = data.model;
  const table = d3.select("#heads").classed("many", H > 6);
  const head = table.append("thead").append("tr");
  head.append("td");
  head.selectAll("th").data(d3.range(H)).join("th").attr("scope", "col").text((h) => `${H > 6 ? "" : "Head "}${h}`);
  const rows = table.append("tbody").selectAll("tr").data(d3.range(L)).join("tr");
  rows.append("th").attr("scope", "row").text((b) => `Block ${b}`);
  const cells = rows.selectAll("td").data((b) => d3.range(H).map((h) => ({ block: b, head: h }))).join("td");
  const buttons = cells.append("button").attr("type", "button").on("click", (event, d) => choose(d));
  buttons.attr("aria-label", (d) => `Block ${d.block}, head ${d.head}`);
  buttons.append("img").attr("alt", "");
  drawHeads(data);
}

/** Draw the picture of every head, in the colours of light or dark mode. */
function drawHeads(data) {
  const source = (d) => trianglePicture(at(data.attention, d.block, d.head), data.ids.length);
  d3.selectAll("#heads img").attr("src", source);
}

/** Mark the chosen head, draw its weights, and list those of the shown token. */
function showAttention(data, state, shown, choose) {
  const isChosen = (d) => d.block === state.block && d.head === state.head;
  d3.selectAll("#heads button").attr("aria-pressed", (d) => String(isChosen(d)));
  d3.select("#h-head").text(`Block ${state.block}, head ${state.head} (trf_blocks.${state.block}.att)`);
  drawMatrix(data, state, shown, choose);
  const weights = triangleRow(at(data.attention, state.block, state.head), shown);
  const rows = descending(weights).map((t) => ({
    id: data.ids[t],
    label: `${t}: `,
    value: weights[t],
    text: significant(weights[t]),
  }));
  const columns = ["position: token", "weight", "of 0 to 1"];
  barTable(data, "#weights", rows, { columns, domain: [0, 1] });
}

const MATRIX = { left: 44, top: 44, right: 8, bottom: 4, most: 420 };

/** The weights of a head as a picture with axes of positions; a click in it chooses the row's token. */
function drawMatrix(data, state, shown, choose) {
  const T = data.ids.length;
  const place = d3.select("#matrix");
  const { left, top, right, bottom, most } = MATRIX;
  const side = Math.max(60, Math.min(most, (place.node().clientWidth || 320) - left - right));
  const svg = place.selectAll("svg").data([0]).join("svg").attr("role", "img");
  svg.attr("width", left + side + right).attr("height", top + side + bottom);
  svg.attr("aria-label", `Attention weights of block ${state.block}, head ${state.head}, ${T} by ${T} positions; the
    table beside it lists those of the chosen token`);
  const cell = side / T;
  part(svg, "image.cells")
    .attr("href", trianglePicture(at(data.attention, state.block, state.head), T))
    .attr("preserveAspectRatio", "none")
    .attr("x", left).attr("y", top).attr("width", side).attr("height", side);
  drawPositions(svg, T, side);
  part(svg, "rect.frame").attr("x", left).attr("y", top + shown * cell).attr("width", cell * (shown + 1))
    .attr("height", cell);
  svg.on("click", (event) => {
    const y = d3.pointer(event)[1] - top;
    if (y >= 0 && y < side) choose(Math.floor(y / cell));
  });
}

/** The axes of positions, above and on the left. */
function drawPositions(svg, T, side) {
  const { left, top } = MATRIX;
  const scale = d3.scaleLinear().domain([0, T]).range([0, side]);
  const every = Math.max(1, Math.ceil((T * 26) / side));
  const ticks = d3.range(0, T, every);
  const centred = scale.copy().domain([-0.5, T - 0.5]);
  const across = d3.axisTop(centred).tickValues(ticks).tickFormat(String);
  const down = d3.axisLeft(centred).tickValues(ticks).tickFormat(String);
  part(svg, "g.across").attr("transform", `translate(${left},${top})`).call(across);
  part(svg, "g.down").attr("transform", `translate(${left},${top})`).call(down);
  svg.selectAll("g").attr("font-size", null).attr("font-family", null);
  part(svg, "text.across-title").attr("x", left).attr("y", 14).text("looked at (position)");
  part(svg, "text.down-title").attr("transform", `translate(13,${top + Math.min(side, 120)}) rotate(-90)`)
    .text("looks (position)");
}
