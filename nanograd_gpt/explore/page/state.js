// What is chosen, and the page that follows from it.

/** Read the data, build what stays, and show what is chosen; the address may name it: #token=3&block=1&head=2. */
function start() {
  const data = readData();
  const state = stateFromAddress(data);
  const show = () => showAll(data, state, update);
  function update(change) {
    const hasChanged = Object.entries(change).some(([name, value]) => state[name] !== value);
    if (!hasChanged) return;
    Object.assign(state, change);
    show();
    if (!("hovered" in change)) keepInAddress(state);
  }
  buildTokens(data, (token) => update({ token }), (hovered) => update({ hovered }));
  buildChooser(data, state, update);
  buildHeads(data, update);
  buildSliders(data, show);
  d3.select("main").on("more", show);
  addEventListener("hashchange", () => update(stateFromAddress(data)));
  DARK.addEventListener("change", () => {
    drawHeads(data);
    show();
  });
  new ResizeObserver(show).observe(document.querySelector(".sections"));
  show();
}

/** The choice in the address, where it is one; else the last token and the first head. */
function stateFromAddress(data) {
  const given = new URLSearchParams(location.hash.slice(1));
  const number = (name, most, otherwise) => {
    const value = given.has(name) ? Number(given.get(name)) : NaN;
    return Number.isInteger(value) && value >= 0 && value <= most ? value : otherwise;
  };
  return {
    token: number("token", data.ids.length - 1, data.ids.length - 1),
    hovered: null,
    block: number("block", data.model.n_layers - 1, 0),
    head: number("head", data.model.n_heads - 1, 0),
  };
}

/** Put the choice into the address, so that a link leads to it. */
function keepInAddress({ token, block, head }) {
  if (location.protocol.startsWith("about")) return; // in a frame without an address
  history.replaceState(null, "", `#token=${token}&block=${block}&head=${head}`);
}

/** The buttons and menus beside the token. */
function buildChooser(data, state, update) {
  const T = data.ids.length;
  d3.select("#previous").on("click", () => update({ token: Math.max(0, state.token - 1) }));
  d3.select("#following").on("click", () => update({ token: Math.min(T - 1, state.token + 1) }));
  for (const [name, n] of [["block", data.model.n_layers], ["head", data.model.n_heads]]) {
    const menu = d3.select(`#${name}`);
    menu.selectAll("option").data(d3.range(n)).join("option").attr("value", String).text(String);
    menu.on("change", (event) => update({ [name]: Number(event.target.value) }));
  }
}

/** Show everything for the token under the mouse, or else the chosen one. */
function showAll(data, state, update) {
  const shown = state.hovered === null ? state.token : state.hovered;
  d3.select("#block").property("value", String(state.block));
  d3.select("#head").property("value", String(state.head));
  showTokens(data, state, shown);
  showFacts(data, shown);
  showAttention(data, state, shown, (token) => update({ token }));
  showPath(data, state, shown);
  showMlp(data, state, shown);
  showLens(data, shown);
  const likeliest = showNext(data, shown);
  showInfluence(data, shown);
  showGradient(data, shown);
  announce(data, state, likeliest);
}

/** Tell a screen reader what has changed; a token that a mouse passes over is not chosen. */
function announce(data, state, likeliest) {
  if (state.hovered !== null && state.hovered !== state.token) return;
  const text =
    `Position ${state.token}, ${spokenToken(data, data.ids[state.token])}. Block ${state.block}, head ${state.head}. ` +
    `Likeliest next token: ${spokenToken(data, likeliest.id)}, ${likeliest.text}.`;
  const status = document.getElementById("status");
  if (status.textContent !== text) status.textContent = text;
}
