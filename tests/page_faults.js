// Returns the faults of a page: text that is under 11 px, of low contrast (WCAG AA), overlapping or cut, and scrolling
// sideways.  A figure by matplotlib draws text as outlines in <g id="text_1">, of 100 units to the font's size.
() => {
  "use strict";
  const MIN_SIZE = 11;
  const faults = [];
  const probe = document.createElement("style");
  probe.textContent = "* { pointer-events: auto !important }"; // so that elementsFromPoint finds all that is drawn
  document.head.append(probe);

  // -- text and where it is --
  const isShown = (element) =>
    element.checkVisibility({ opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true });

  const isForScreenReaders = (element) => {
    for (let e = element; e && e !== document.body; e = e.parentElement) {
      const box = e.getBoundingClientRect();
      const style = getComputedStyle(e);
      const clips = style.overflow !== "visible" || style.clipPath !== "none" || style.clip !== "auto";
      if (clips && (box.width <= 1 || box.height <= 1 || style.clipPath === "inset(50%)")) return true;
    }
    return false;
  };

  const scaleOf = (element) => {
    const matrix = element.getScreenCTM();
    return Math.sqrt(Math.abs(matrix.a * matrix.d - matrix.b * matrix.c));
  };

  const textsOfDocument = () => {
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      const element = node.parentElement;
      if (!node.data.trim() || !element || element.closest("script, style, title, desc, option, noscript")) continue;
      if (!isShown(element) || isForScreenReaders(element)) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      const boxes = [...range.getClientRects()].filter((box) => box.width > 0.5 && box.height > 0.5);
      const size = parseFloat(getComputedStyle(element).fontSize);
      const svg = element.closest("svg");
      found.push({ element, boxes, svg, words: node.data.trim(), size: svg ? size * scaleOf(element) : size });
    }
    return found;
  };

  const outlinedTexts = () =>
    [...document.querySelectorAll('svg g[id*="text_"]')].flatMap((element) => {
      const glyph = element.querySelector("use, path");
      const scaled = glyph && glyph.closest('g[transform*="scale("]');
      if (!scaled || !isShown(element)) return [];
      const box = element.getBoundingClientRect();
      const words = `outlines in ${element.id}`;
      return [{ element: scaled, boxes: [box], svg: element.closest("svg"), words, size: 100 * scaleOf(scaled) }];
    });

  // -- colours --
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = "rgba(0, 0, 0, 0)";
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return { r, g, b, a: a / 255 };
  };
  const over = (front, back) => {
    const mix = (x, y) => front.a * x + (1 - front.a) * y;
    return { r: mix(front.r, back.r), g: mix(front.g, back.g), b: mix(front.b, back.b), a: 1 };
  };
  const luminance = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const withOpacity = (colour, element, until) => {
    let a = colour.a;
    for (let e = element; e && e !== until; e = e.parentElement) a *= parseFloat(getComputedStyle(e).opacity);
    return { ...colour, a };
  };
  const paintOf = (element) => {
    const style = getComputedStyle(element);
    if (!(element instanceof SVGElement) || element.tagName === "svg") {
      return withOpacity(rgba(style.backgroundColor), element);
    }
    if (style.fill === "none" || style.fill.startsWith("url")) return { r: 0, g: 0, b: 0, a: 0 };
    const fill = rgba(style.fill);
    return withOpacity({ ...fill, a: fill.a * parseFloat(style.fillOpacity) }, element);
  };
  const pageColour = rgba(matchMedia("(prefers-color-scheme: dark)").matches ? "#121212" : "#ffffff");
  const isText = (element) => element.closest("text, tspan, use") || element.closest('g[id*="text_"]');

  const behind = ({ element, svg }, box) => {
    const x = box.left + box.width / 2;
    const y = box.top + box.height / 2;
    const stack = document.elementsFromPoint(x, y).filter((e) => !(svg && isText(e)));
    const own = stack.findIndex((e) => e === element || e.contains(element));
    const isBelow = (e) => !(e.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_PRECEDING);
    const under = svg ? stack.filter(isBelow) : stack.slice(Math.max(own, 0));
    return under.reverse().reduce((back, e) => over(paintOf(e), back), pageColour);
  };

  const colourOf = ({ element, svg }) => {
    const style = getComputedStyle(element);
    const colour = rgba(svg ? style.fill : style.color);
    const a = svg ? colour.a * parseFloat(style.fillOpacity) : colour.a;
    return withOpacity({ ...colour, a }, element);
  };

  // -- faults --
  const say = (what, { words }) => faults.push(`${what}: ${JSON.stringify(words.slice(0, 60))}`);

  const checkSize = (text) => {
    if (text.size < MIN_SIZE - 0.05) say(`text of ${text.size.toFixed(1)} px`, text);
  };

  const checkContrast = (text) => {
    text.element.scrollIntoView({ block: "center", inline: "center" });
    const box = text.svg ? text.element.getBoundingClientRect() : lineOf(text.element, text);
    if (!box) return;
    const back = behind(text, box);
    const ratio = contrast(over(colourOf(text), back), back);
    const bold = parseInt(getComputedStyle(text.element).fontWeight, 10) >= 700;
    const least = text.size >= 24 || (bold && text.size >= 18.66) ? 3 : 4.5;
    if (ratio < least - 0.005) say(`contrast of ${ratio.toFixed(2)}, ${least} are needed`, text);
  };

  const lineOf = (element, { words }) => {
    const node = [...element.childNodes].find((n) => n.nodeType === Node.TEXT_NODE && n.data.trim() === words);
    const range = document.createRange();
    range.selectNodeContents(node || element);
    return [...range.getClientRects()].find((box) => box.width > 0.5 && box.height > 0.5);
  };

  const checkCut = (text) => {
    for (const box of text.boxes) {
      for (let e = text.element; e && e !== document.documentElement; e = e.parentElement) {
        const style = getComputedStyle(e);
        const outer = e.getBoundingClientRect();
        const hides = (overflow) => overflow === "hidden" || overflow === "clip";
        const sideways = hides(style.overflowX) && (box.left < outer.left - 1 || box.right > outer.right + 1);
        const below = hides(style.overflowY) && (box.top < outer.top - 2 || box.bottom > outer.bottom + 2);
        if (sideways || below) return say(`cut by <${e.tagName.toLowerCase()}>`, text);
        if (["auto", "scroll"].includes(style.overflowX)) break; // one can scroll to it
      }
      if (box.left + scrollX < -1) return say("left of the page", text);
    }
    return undefined;
  };

  const checkOverlap = (texts) => {
    const all = texts.flatMap((text) => text.boxes.map((box) => ({ text, box })));
    all.sort((a, b) => a.box.top - b.box.top);
    all.forEach(({ text, box }, i) => {
      for (let j = i + 1; j < all.length && all[j].box.top < box.bottom; j += 1) {
        const other = all[j];
        if (other.text === text) continue;
        const wide = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
        const high = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
        const least = Math.min(box.height, other.box.height);
        if (wide > 1.5 && high > 0.3 * least) say(`overlaps ${JSON.stringify(other.text.words.slice(0, 40))}`, text);
      }
    });
  };

  const scrollerOf = (element) => {
    for (let e = element.parentElement; e && e !== document.body; e = e.parentElement) {
      const { overflowX, overflowY } = getComputedStyle(e);
      if ([overflowX, overflowY].some((overflow) => overflow === "auto" || overflow === "scroll")) return e;
    }
    return null;
  };
  const isScrolledAway = ({ element, boxes }) => {
    const outer = scrollerOf(element)?.getBoundingClientRect();
    if (!outer) return false;
    const isBeside = (box) => box.right <= outer.left || box.left >= outer.right;
    const isAboveOrBelow = (box) => box.bottom <= outer.top || box.top >= outer.bottom;
    return boxes.every((box) => isBeside(box) || isAboveOrBelow(box));
  };

  const texts = [...textsOfDocument(), ...outlinedTexts()];
  if (!texts.length) faults.push("the page shows no text");
  texts.forEach(checkSize);
  texts.forEach(checkCut);
  checkOverlap(texts.filter((text) => !isScrolledAway(text)));
  if (document.documentElement.scrollWidth > innerWidth) {
    faults.push(`the page is ${document.documentElement.scrollWidth} px wide in a window of ${innerWidth}`);
  }
  const [x, y] = [scrollX, scrollY];
  texts.forEach(checkContrast);
  scrollTo(x, y);
  probe.remove();
  return [...new Set(faults)];
}
