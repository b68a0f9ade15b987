// Numbers and tokens as text.

/** A number to four significant digits. */
function significant(x) {
  if (x === 0) return "0";
  return x.toPrecision(4).replace("-", "−").replace("e−", "e-");
}

/** A number to four digits, with its sign. */
function signed(x) {
  return (x > 0 ? "+" : "") + significant(x);
}

/** A probability in percent, to four significant digits. */
function percent(p) {
  return p === 0 ? "0%" : `${significant(100 * p)}%`;
}

/** A number of things: "1 token", "2,000 tokens". */
function counted(n, noun) {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
}

/** The visible text of a token. */
function tokenText(data, id) {
  return data.texts[id][0];
}

/** A token for a screen reader, which would pass over the marks of spaces and line ends. */
function spokenToken(data, id) {
  const [text, isBytes] = data.texts[id];
  if (isBytes) return `part of a character, bytes ${text}`;
  return text.replaceAll("␣", " space ").replaceAll("↵", " new line ").replaceAll("⇥", " tab ").trim();
}

/** Show tokens in the selected elements, each element's datum being {id}. */
function showToken(data, selection) {
  selection
    .classed("token", true)
    .classed("bytes", (d) => data.texts[d.id][1])
    .attr("title", (d) => (data.texts[d.id][1] ? "part of a character: its bytes in hexadecimal" : null))
    .text((d) => tokenText(data, d.id));
}
