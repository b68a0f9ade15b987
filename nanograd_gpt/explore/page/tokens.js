// The prompt as a list of tokens, of which one is chosen: by pointer, arrow keys, or the buttons beside it.

/** Build the list once; choose(t) makes a token the chosen one, preview(t or null) shows one under a mouse. */
function buildTokens(data, choose, preview) {
  const list = d3.select("#tokens");
  const rows = data.ids.map((id, t) => ({ id, t }));
  const options = list.selectAll("div").data(rows).join("div").attr("role", "option");
  showToken(data, options);
  options.attr("id", (d) => `token-${d.t}`);
  options.attr("aria-label", (d) => `position ${d.t}: ${spokenToken(data, d.id)}`);
  options.on("click", (event, d) => choose(d.t));
  options.on("focus", (event, d) => choose(d.t));
  options.on("pointerenter", (event, d) => event.pointerType === "mouse" && preview(d.t));
  list.on("pointerleave", () => preview(null));
  list.on("keydown", (event) => followKey(event, data.ids.length, choose));
}

/** Move the choice, and the focus with it, by an arrow key, Home or End. */
function followKey(event, T, choose) {
  const current = Number(document.activeElement.id.replace("token-", ""));
  const targets = {
    ArrowLeft: current - 1,
    ArrowUp: current - 1,
    ArrowRight: current + 1,
    ArrowDown: current + 1,
    Home: 0,
    End: T - 1,
  };
  if (!(event.key in targets) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const t = Math.max(0, Math.min(T - 1, targets[event.key]));
  document.getElementById(`token-${t}`).focus();
  choose(t);
}

/** Show which token is chosen, which one is shown, and what the chosen head makes it look at. */
function showTokens(data, state, shown) {
  const weights = triangleRow(at(data.attention, state.block, state.head), shown);
  d3.select("#tokens")
    .selectAll("div")
    .attr("aria-selected", (d) => String(d.t === state.token))
    .attr("tabindex", (d) => (d.t === state.token ? 0 : -1))
    .classed("shown", (d) => d.t === shown)
    .style("--weight", (d) => (d.t <= shown ? weightOpacity(weights[d.t]) : 0));
  showToken(data, d3.select("#chosen").datum({ id: data.ids[shown] }));
  d3.select("#previous").property("disabled", state.token === 0);
  d3.select("#following").property("disabled", state.token === data.ids.length - 1);
}

/** What is known of the shown token: its id, and how likely it was. */
function showFacts(data, shown) {
  const facts = [
    ["Token", tokenText(data, data.ids[shown]), "fact-token"],
    ["Position, from 0", `${shown} of 0 to ${data.ids.length - 1}`, "fact-position"],
    ["Id in the vocabulary", data.ids[shown].toLocaleString("en"), "fact-id"],
    ...chanceFacts(data, shown),
  ];
  const pairs = d3.select("#facts").selectAll("div").data(facts).join("div");
  pairs.selectAll("dt").data((d) => [d]).join("dt").text((d) => d[0]);
  pairs.selectAll("dd").data((d) => [d]).join("dd").attr("id", (d) => d[2]).text((d) => d[1]);
  d3.select("#fact-token").classed("token", true);
}

/** The probability, rank and surprise of a token after those before it. */
function chanceFacts(data, t) {
  if (t === 0) return [["Probability", "none: the first token is given", "fact-probability"]];
  const p = data.next.probability.values[t - 1];
  const rank = data.next.rank.values[t - 1];
  return [
    ["Probability, given those before", percent(p), "fact-probability"],
    ["Rank of it", `${rank.toLocaleString("en")} of ${data.model.vocab_size.toLocaleString("en")}`, "fact-rank"],
    ["Surprise", `${significant(-Math.log(p))} nats`, "fact-surprise"],
  ];
}
