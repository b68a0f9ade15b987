// What the prediction owes to each token, and what the gradient of the loss says.

/** The attribution of the prediction after the shown token. */
function showInfluence(data, shown) {
  const values = triangleRow(data.attribution.values, shown);
  const isEmpty = Number.isNaN(values[0]);
  d3.select("#influence-text").text(isEmpty ? fullContext(data) : influenceText(data, shown));
  d3.select("#influence").attr("hidden", isEmpty ? "" : null);
  const order = isEmpty ? [] : descending(values.map(Math.abs));
  const rows = order.map((t) => ({ id: data.ids[t], label: `${t}: `, value: values[t], text: signed(values[t]) }));
  const most = isEmpty ? 1 : Math.abs(values[order[0]]) || 1;
  const columns = ["position: token", "nats", "− and +"];
  barTable(data, "#influence", rows, { columns, domain: [-most, most] });
}

/** What an attribution is, and of which prediction. */
function influenceText(data, shown) {
  const following = followingToken(data, shown);
  const about =
    following === null
      ? `the likeliest next token, “${tokenText(data, data.likeliest)}”,`
      : `“${tokenText(data, following)}”, which came next,`;
  return (
    `How much the log-probability of ${about} owes to each token up to position ${shown}: the slope as that token's ` +
    "embedding is scaled (gradient times input). Above 0, the token makes the prediction likelier; below 0, less so."
  );
}

/** Why the last position of a full context has no attribution. */
function fullContext(data) {
  return `Not computed: the prompt fills the context of ${data.model.context_length} tokens, which leaves no place for
    a next one. Choose an earlier token.`;
}

/** The gradient of the prompt's loss at the shown token. */
function showGradient(data, shown) {
  const { gradient } = data;
  const isKnown = gradient !== null && shown < gradient.lengths.shape[1];
  d3.select("#gradient-text").text(isKnown ? gradientText(data, shown) : noGradient(data));
  d3.selectAll("#gradients, #slopes").attr("hidden", isKnown ? null : "");
  if (!isKnown) return;
  const places = d3.range(data.model.n_layers + 1);
  const lengths = places.map((i) => at(gradient.lengths, i, shown));
  drawSlopes(data, shown, lengths);
  lineChart("#gradients", lengths, {
    labels: streamLabels(data),
    title: "gradient (nats per unit)",
    description: `Length of the gradient at position ${shown}, before block 0 and after each block: ${lengths
      .map(significant)
      .join(", ")}`,
  });
}

/** What the numbers of the gradient are. */
function gradientText(data, shown) {
  return (
    `The prompt's loss is ${significant(data.gradient.loss)} nats a token: the mean surprise at tokens 1 to ` +
    `${data.ids.length - 1}. Its gradient with respect to the residual stream at position ${shown} says where a ` +
    "small change matters: its length is how fast the loss can change there. The slope is how the loss changes as " +
    "what the block adds at this position is scaled up: below 0, the block lowers the loss of the tokens that follow."
  );
}

/** Why a token has no gradient. */
function noGradient(data) {
  if (data.gradient === null) return "None: a prompt of one token has nothing to predict, and so no loss.";
  return "None at the last token: what follows it is unknown, so that it takes no part in the loss. Choose another.";
}

/** A row for each place of the stream: the gradient's length there, and the slope of the block before it. */
function drawSlopes(data, shown, lengths) {
  const table = d3.select("#slopes");
  drawHead(table, [
    { text: "place", kind: "" },
    { text: "length of the gradient, nats per unit", kind: "" },
    { text: "slope of the block, nats", kind: "" },
  ]);
  const rows = lengths.map((length, i) => [
    i === 0 ? "before block 0" : `after block ${i - 1}`,
    significant(length),
    i === 0 ? "" : signed(at(data.gradient.slopes, i - 1, shown)),
  ]);
  const body = table.selectAll("tbody").data([0]).join("tbody");
  const lines = body.selectAll("tr").data(rows).join((enter) => {
    const row = enter.append("tr");
    row.append("th").attr("scope", "row");
    return row;
  });
  lines.select("th").text((d) => d[0]);
  lines.selectAll("td").data((d) => d.slice(1)).join("td").text((d) => d);
}
