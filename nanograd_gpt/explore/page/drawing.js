// Drawings: bars in a table, strips of channels, triangles of attention weights, lines over blocks.

const DARK = matchMedia("(prefers-color-scheme: dark)");

/** The colours of a picture's pixels, whose opacity is the size: those of the style sheet. */
function pictureColours() {
  return DARK.matches
    ? { positive: [86, 180, 233], negative: [240, 134, 58] }
    : { positive: [0, 114, 178], negative: [194, 84, 0] };
}

/** A canvas of width x height pixels, each {kind, opacity} from pixel(x, y), as an image's address. */
function picture(width, height, pixel) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const colours = pictureColours();
  for (let i = 0; i < width * height; i += 1) {
    const { kind, opacity } = pixel(i % width, Math.floor(i / width));
    image.data.set([...colours[kind], Math.round(255 * opacity)], 4 * i);
  }
  context.putImageData(image, 0, 0);
  return canvas.toDataURL();
}

/** The opacity that stands for an attention weight. */
function weightOpacity(weight) {
  return Math.sqrt(weight);
}

/** The attention weights of a head: a row for each position that looks. */
function trianglePicture(triangle, T) {
  return picture(T, T, (x, y) => ({
    kind: "positive",
    opacity: x > y ? 0 : weightOpacity(triangle[(y * (y + 1)) / 2 + x]),
  }));
}

/** Values as a row of cells; the strongest colour is the largest of them. */
function stripPicture(values) {
  const most = values.reduce((a, b) => Math.max(a, Math.abs(b)), 0) || 1;
  return picture(values.length, 1, (x) => ({
    kind: values[x] < 0 ? "negative" : "positive",
    opacity: Math.abs(values[x]) / most,
  }));
}

/** The bar of a row {value, text}, in a cell as wide as `domain`. */
function drawBar(cell, row, domain) {
  const x = d3.scaleLinear().domain(domain).range([0, 100]).clamp(true);
  const svg = cell.selectAll("svg").data([row]).join("svg").attr("aria-hidden", "true");
  svg
    .selectAll("rect")
    .data([row])
    .join("rect")
    .attr("class", row.value < 0 ? "negative" : "positive")
    .attr("x", `${x(Math.min(0, row.value))}%`)
    .attr("width", `${Math.abs(x(row.value) - x(0))}%`)
    .attr("height", "100%");
  const zero = svg.selectAll("line").data([0]).join("line").attr("class", "zero");
  zero.attr("x1", `${x(0)}%`).attr("x2", `${x(0)}%`).attr("y1", 0).attr("y2", "100%");
}

/** Header cells of a table, each {text, kind}. */
function drawHead(table, columns) {
  const head = table.selectAll("thead").data([0]).join("thead");
  const row = head.selectAll("tr").data([0]).join("tr");
  row
    .selectAll("th")
    .data(columns)
    .join("th")
    .attr("scope", "col")
    .attr("class", (d) => d.kind)
    .text((d) => d.text);
}

const FIRST = 12; // rows of a table before its button is pressed

/**
 * A table of rows with bars, and a button for the rows after the first ones.
 *
 * rows: [{id, label, value, text, isActual}], of which id or label names the row; columns: the three headings.
 */
function barTable(data, selector, rows, { columns, domain }) {
  const table = d3.select(selector);
  drawHead(table, [
    { text: columns[0], kind: "name" },
    { text: columns[1], kind: "number" },
    { text: columns[2], kind: "" },
  ]);
  const isOpen = table.classed("open");
  const shown = isOpen ? rows : rows.filter((row, i) => i < FIRST || row.isActual);
  const body = table.selectAll("tbody").data([0]).join("tbody");
  const lines = body.selectAll("tr").data(shown).join(newBarRow);
  lines.classed("actual", (d) => Boolean(d.isActual)).attr("data-value", (d) => d.value);
  lines.attr("data-id", (d) => (d.id === undefined ? null : d.id));
  lines.select("th .label").text((d) => d.label || "");
  lines.each(function label(row) {
    const token = d3.select(this).select("th .name-token");
    if (row.id === undefined) token.attr("class", "name-token").attr("title", null).text("");
    else showToken(data, token.datum(row));
  });
  lines.select("td.number").text((d) => d.text);
  lines.each(function bar(row) {
    drawBar(d3.select(this).select("td.drawn"), row, domain);
  });
  moreButton(table, rows.length - FIRST, isOpen);
}

/** The cells of a new row of a table of bars. */
function newBarRow(enter) {
  const row = enter.append("tr");
  const name = row.append("th").attr("scope", "row").attr("class", "name");
  name.append("span").attr("class", "label");
  name.append("span").attr("class", "name-token");
  row.append("td").attr("class", "number");
  row.append("td").attr("class", "drawn");
  return row;
}

/** The button under a table that shows the rows after the first ones, and hides them again. */
function moreButton(table, n, isOpen) {
  const place = d3.select(table.node().parentNode);
  const name = `more-${table.attr("id")}`;
  const button = place.selectAll(`#${name}`).data(n > 0 ? [0] : []).join("button");
  button
    .attr("type", "button")
    .attr("id", name)
    .attr("class", "more")
    .attr("aria-expanded", String(isOpen))
    .attr("aria-controls", table.attr("id"))
    .text(isOpen ? `Show the first ${FIRST} rows` : `Show ${counted(n, "more row")}`)
    .on("click", () => {
      table.classed("open", !isOpen);
      table.dispatch("more", { bubbles: true });
    });
}

const CHART = { height: 190, left: 66, right: 16, top: 14, bottom: 42 };

/** A line over the places of the residual stream; labels: a text for each; title: of the y axis, with its unit. */
function lineChart(selector, values, { labels, title, description }) {
  const place = d3.select(selector);
  const width = Math.min(560, place.node().clientWidth || 320);
  const { height, left, right, top, bottom } = CHART;
  const x = d3.scalePoint().domain(d3.range(labels.length)).range([left, width - right]).padding(0.3);
  const y = d3.scaleLinear().domain([0, Math.max(...values) || 1]).nice(4).range([height - bottom, top]);
  const svg = place.selectAll("svg").data([0]).join("svg");
  svg.attr("width", width).attr("height", height).attr("role", "img").attr("aria-label", description);
  const every = Math.ceil((labels.length * 24) / (width - left - right));
  const ticks = d3.range(labels.length).filter((i) => i % every === 0);
  const bottomAxis = d3.axisBottom(x).tickValues(ticks).tickFormat((i) => labels[i]);
  part(svg, "g.x").attr("transform", `translate(0,${height - bottom})`).call(bottomAxis);
  part(svg, "g.y").attr("transform", `translate(${left},0)`).call(d3.axisLeft(y).ticks(4).tickFormat(shortNumber));
  svg.selectAll(".tick text").attr("font-size", null);
  const line = d3.line().x((d, i) => x(i)).y((d) => y(d));
  part(svg, "path.line").attr("d", line(Array.from(values)));
  const dots = svg.selectAll("circle").data(Array.from(values)).join("circle").attr("class", "dot").attr("r", 3.5);
  dots.attr("cx", (d, i) => x(i)).attr("cy", (d) => y(d));
  part(svg, "text.x-title").attr("x", width - right).attr("y", height - 4).attr("text-anchor", "end")
    .text("after block (start: before block 0)");
  part(svg, "text.y-title").attr("transform", `translate(13,${height - bottom}) rotate(-90)`).text(title);
}

/** A tick of an axis, which has few digits, in few characters. */
function shortNumber(x) {
  const rounded = Number(x.toPrecision(6));
  return rounded !== 0 && Math.abs(rounded) < 0.01 ? rounded.toExponential() : String(rounded);
}

/** The one child "name.class" of a selection, appended at first. */
function part(parent, name) {
  const [tag, kind] = name.split(".");
  return parent.selectAll(name).data([0]).join(tag).attr("class", kind);
}
