// Predictions of the next token: the logit lens after each block, and the distribution under the sliders.

/** The token after position t, or null at the end of the prompt. */
function followingToken(data, t) {
  return t + 1 < data.ids.length ? data.ids[t + 1] : null;
}

/** The likeliest tokens after each block, and what each block makes of the token that came next. */
function showLens(data, shown) {
  const following = followingToken(data, shown);
  d3.select("#lens-caption").text(`The token after position ${shown}: the likeliest first, with their probabilities`);
  const table = d3.select("#lens");
  const next = following === null ? [] : [{ text: "what came next", kind: "next" }];
  drawHead(table, [{ text: "after block", kind: "" }, { text: "likeliest next tokens", kind: "" }, ...next]);
  const body = table.selectAll("tbody").data([0]).join("tbody");
  const rows = body.selectAll("tr").data(d3.range(data.model.n_layers)).join(newLensRow);
  rows.select("th").text((b) => String(b));
  const items = rows.select("ol").selectAll("li").data((b) => lensItems(data, b, shown)).join(newLensItem);
  items.attr("data-id", (d) => d.id);
  showToken(data, items.select(".name-token"));
  items.select(".share").text((d) => ` ${percent(d.probability)}`);
  rows.select("td.next").text((b) => (following === null ? "" : lensChance(data, b, shown)));
  rows.select("td.next").attr("hidden", following === null ? "" : null);
}

/** The likeliest tokens after a block. */
function lensItems(data, block, shown) {
  const probabilities = at(data.lens.probabilities, block, shown);
  return Array.from(at(data.lens.tokens, block, shown), (id, i) => ({ id, probability: probabilities[i] }));
}

/** The probability and rank, after a block, of the token that came next. */
function lensChance(data, block, shown) {
  const { probability, rank } = data.lens.next;
  return `${percent(at(probability, block, shown))}, rank ${at(rank, block, shown).toLocaleString("en")}`;
}

/** The cells of a new row of the logit lens. */
function newLensRow(enter) {
  const row = enter.append("tr");
  row.append("th").attr("scope", "row");
  row.append("td").append("ol");
  row.append("td").attr("class", "next");
  return row;
}

/** A new token of the logit lens. */
function newLensItem(enter) {
  const item = enter.append("li");
  item.append("span").attr("class", "name-token");
  item.append("span").attr("class", "share");
  return item;
}

/** Set the sliders' ends once, and call changed() as they move. */
function buildSliders(data, changed) {
  d3.select("#top-k").attr("max", data.candidates.logits.shape[1]);
  d3.selectAll(".sliders input").on("input", changed);
  d3.select("#reset").on("click", () => {
    resetSliders(data);
    changed();
  });
  resetSliders(data);
}

/** The model's own distribution: temperature 1, and no filter. */
function resetSliders(data) {
  d3.select("#temperature").property("value", data.temperatures.indexOf(1));
  d3.select("#top-k").property("value", data.candidates.logits.shape[1]);
  d3.select("#top-p").property("value", 100);
}

/** The settings of the sliders; a top-k of all tokens is none. */
function samplingSettings(data) {
  const value = (name) => Number(document.getElementById(name).value);
  const k = value("top-k");
  return {
    stop: value("temperature"),
    temperature: data.temperatures[value("temperature")],
    topK: k >= data.candidates.logits.shape[1] ? null : k,
    topP: value("top-p") / 100,
  };
}

/** Show the settings beside the sliders, and to a screen reader as their values. */
function showSettings({ temperature, topK, topP }) {
  const texts = {
    temperature: temperature === 0 ? "0: the likeliest" : temperature.toFixed(2),
    "top-k": topK === null ? "off: all" : String(topK),
    "top-p": topP === 1 ? "off: 1" : topP.toFixed(2),
  };
  for (const [name, text] of Object.entries(texts)) {
    d3.select(`#${name}`).attr("aria-valuetext", text);
    d3.select(`#${name}-value`).text(text);
  }
}

/** The distribution after the shown token, under the sliders; returns its likeliest token {id, p}. */
function showNext(data, shown) {
  const settings = samplingSettings(data);
  showSettings(settings);
  const { ids, logits, rest } = data.candidates;
  const own = ids.shape.length === 1 ? ids.values : at(ids, shown);
  const others = rest ? at(rest, shown, settings.stop) : -Infinity;
  const found = distribution(at(logits, shown), others, settings);
  const following = followingToken(data, shown);
  const rows = descending(found.probabilities).map((i) => ({
    id: own[i],
    value: found.probabilities[i],
    text: percent(found.probabilities[i]),
    isActual: own[i] === following,
  }));
  if (rest) rows.push(restRow(data, found));
  const columns = ["token", "probability", "of 0 to 100%"];
  barTable(data, "#distribution", rows, { columns, domain: [0, 1] });
  d3.select("#next-text").text(nextText(data, shown, rows));
  d3.select("#kept").text(keptText(data, found));
  return rows[0];
}

/** The row of the tokens that the page does not have; it stays in sight. */
function restRow(data, found) {
  return {
    label: `the other ${data.candidates.left_out.toLocaleString("en")}`,
    value: found.rest,
    text: percent(found.rest),
    isActual: true,
  };
}

/** What came next, and how likely these settings make it. */
function nextText(data, shown, rows) {
  const following = followingToken(data, shown);
  if (following === null) return `After position ${shown}, the end of the prompt: what would the model write?`;
  const row = rows.find((d) => d.id === following);
  const text = `After position ${shown} came “${tokenText(data, following)}”, highlighted below`;
  if (!row) return `${text} if it were among the tokens that the page has.`;
  return `${text}: ${row.text} with these settings.`;
}

/** How many tokens the settings keep. */
function keptText(data, found) {
  const n = found.probabilities.reduce((sum, p) => sum + (p > 0 ? 1 : 0), 0);
  const all = found.probabilities.length + data.candidates.left_out;
  const more = found.rest > 0 ? " and some of those that the page does not have" : "";
  const about = found.isOpen ? " Top-p ends among those, so that the probabilities are rounded up a little." : "";
  return `${counted(n, "token")} of ${all.toLocaleString("en")}${more} can be sampled.${about}`;
}
