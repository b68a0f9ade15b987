// The residual stream of the shown token through the blocks, and the MLP of the chosen block.

const INNER = { norm1: "LayerNorm 1 gives", att: "attention adds", norm2: "LayerNorm 2 gives", ff: "the MLP adds" };
const START = { tok_emb: "token embedding", pos_emb: "position embedding", drop_emb: "their sum, into block 0" };

/** What a step is, from the path of its module: {text, block or null, isInner}. */
function described(name) {
  if (name in START) return { text: START[name], block: null, isInner: name !== "drop_emb" };
  const [, block, inner] = name.split(".");
  if (inner) return { text: `block ${block}: ${INNER[inner]}`, block: Number(block), isInner: true };
  return { text: `stream after block ${block}`, block: Number(block), isInner: false };
}

/** Draw the path: the stream after every block, and the inner steps of the chosen one. */
function showPath(data, state, shown) {
  const { names, lengths } = data.steps;
  const steps = names.map((name, s) => ({ ...described(name), name, s, length: at(lengths, s, shown) }));
  const stream = steps.filter((step) => !step.isInner);
  drawPathTable(data, shown, steps.filter((d) => !d.isInner || d.block === null || d.block === state.block));
  d3.select("#path-caption").text(
    `Position ${shown}. The steps inside block ${state.block} are shown; choose another with the block's menu.`,
  );
  lineChart("#lengths", stream.map((d) => d.length), {
    labels: streamLabels(data),
    title: "length (L2 norm)",
    description: `Length of the residual stream at position ${shown} after each block: ${stream
      .map((d) => significant(d.length))
      .join(", ")}`,
  });
}

/** The places of the residual stream on an axis: before the first block, and after each. */
function streamLabels(data) {
  return ["start", ...d3.range(data.model.n_layers).map(String)];
}

/** A row for each step: what it is, the length of its vector, and its channels if the page has them. */
function drawPathTable(data, shown, steps) {
  const { vectors } = data.steps;
  const table = d3.select("#path");
  const channels = vectors ? [{ text: `${data.model.emb_dim} channels`, kind: "channels" }] : [];
  drawHead(table, [{ text: "step", kind: "" }, { text: "length", kind: "number" }, ...channels]);
  const body = table.selectAll("tbody").data([0]).join("tbody");
  const rows = body.selectAll("tr").data(steps, (d) => d.name).join(newPathRow).order();
  rows.classed("inner", (d) => d.isInner).attr("data-step", (d) => d.name);
  rows.select("th").text((d) => d.text);
  rows.select("td.number").text((d) => significant(d.length));
  if (vectors) rows.select("img").attr("src", (d) => stripPicture(at(vectors, d.s, shown)));
  else rows.select("td.strip").remove();
}

/** The cells of a new row of the path. */
function newPathRow(enter) {
  const row = enter.append("tr");
  row.append("th").attr("scope", "row");
  row.append("td").attr("class", "number");
  row.append("td").attr("class", "strip").append("img").attr("alt", "");
  return row;
}

/** The MLP of the chosen block at the shown token. */
function showMlp(data, state, shown) {
  const { units, values, active } = data.mlp;
  const of = at(values, state.block, shown);
  const width = 4 * data.model.emb_dim;
  d3.select("#mlp-text").text(
    `Block ${state.block} (trf_blocks.${state.block}.ff), position ${shown}: ${at(active, state.block, shown)} of ` +
      `its ${counted(width, "hidden unit")} are above 0. The MLP adds their weighted sum to the stream.`,
  );
  const strip = d3.select("#mlp-strip").attr("class", "strip").selectAll("img").data(units ? [] : [of]).join("img");
  strip.attr("alt", `activations of all ${width} units, blue above 0, orange below`).attr("src", stripPicture);
  const order = descending(of.map(Math.abs));
  const rows = order.map((i) => ({
    label: `unit ${units ? at(units, state.block, shown)[i] : i}`,
    value: of[i],
    text: signed(of[i]),
  }));
  const most = Math.max(Math.abs(of[order[0]]), 1e-9);
  const least = of.some((x) => x < 0) ? -Math.min(most, 0.2) : 0; // GELU is above -0.17
  barTable(data, "#units", rows, { columns: ["unit", "activation", "0 in between"], domain: [least, most] });
}
