"""The style sheet of report.html, in light and dark mode, on screens and phones."""

CSS = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #24292f; --soft: #59636e; --line: #d8dee4; --card: #f6f8fa;
  --blue: #0072b2; --orange: #d55e00; --green: #009e73; --purple: #b0558a; --best: #fff1c2;
  --on-strong: #ffffff; --shadow: #8c959f; --s1: #fdebd3; --s2: #fbc58a; --s3: #ec8f45; --s4: #8c2d04;
  --h0: #e3eef7; --h1: #b5d3ea; --h2: #7fb2da; --h3: #4a8dc4; --h4: #1f66a5; --h5: #0b3c6e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6e9ec; --soft: #9aa4af; --line: #30363d;
  --card: #1c2128; --blue: #56b4e9; --orange: #f0863a; --green: #2fc79a; --purple: #dd9cc1; --best: #4a3b05;
  --on-strong: #14181d; --shadow: #6e7681; --s1: #3b2a1a; --s2: #6b3d14; --s3: #99500f; --s4: #ffb066;
  --h0: #1f3142; --h1: #264c6c; --h2: #2e6c9f; --h3: #4793cc; --h4: #84bce8; --h5: #d5eafc; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62.5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { margin: 0; font-size: 1.9rem; overflow-wrap: anywhere; }
h2 { margin: 2.75rem 0 .75rem; font-size: 1.2rem; }
h3 { margin: 1.25rem 0 .25rem; font-size: .95rem; }
p.soft, dt, th, .epoch { color: var(--soft); }
dl.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.5rem 0; }
dl.facts div { padding: .65rem .9rem; border: 1px solid var(--line); border-radius: .5rem; background: var(--card); }
dl.facts dt { font-size: .8rem; }
dl.facts dd { margin: 0; font-size: 1.15rem; font-weight: 600; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
figure { margin: 1.25rem 0; }
figure svg { display: block; width: 100%; height: auto; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption { margin-top: .5rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(27.5rem, 100%), 1fr)); gap: 0 1.5rem; }
.pair .wide { max-width: 30rem; }
.narrow { display: none; max-width: 30rem; }
@media screen and (max-width: 52rem) { .wide { display: none; } .narrow { display: block; } }
.tokens, .legend span { line-height: 1.9; }
.tokens span, .legend span { padding: .1em 0; border-radius: .2em; }
.legend span { padding: .1em .5em; border: 1px solid var(--line); white-space: nowrap; }
.s1 { background: var(--s1); }
.s2 { background: var(--s2); }
.s3 { background: var(--s3); }
.s4 { background: var(--s4); color: var(--on-strong); }
.h0 { fill: var(--h0); }
.h1 { fill: var(--h1); }
.h2 { fill: var(--h2); }
.h3 { fill: var(--h3); }
.h4 { fill: var(--h4); }
.h5 { fill: var(--h5); }
.keys span { display: inline-block; }
.key { width: .9em; height: .9em; margin-right: .4em; vertical-align: -.1em; }
.parted span { border-bottom: 2px solid var(--line); margin-right: .2em; }
.moments { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: 0 1.5rem; }
.moments h4 { margin: .75rem 0 .25rem; font-size: .85rem; color: var(--soft); }
.heads { display: grid; grid-template-columns: repeat(auto-fill, minmax(4.1rem, 1fr)); gap: .5rem; }
.heads figure { margin: 0; }
.heads svg { shape-rendering: crispEdges; }
.heads figcaption { margin-top: .15rem; font-size: .75rem; line-height: 1.25; overflow-wrap: anywhere; }
.likeliest th { text-align: left; white-space: pre-wrap; color: var(--ink); font-weight: 400; }
.likeliest th, .likeliest td { vertical-align: middle; }
.likeliest td { width: 4.5rem; }
.likeliest .bar { width: 40%; padding: .3rem 0; }
.bar svg { display: block; width: 100%; height: .9rem; }
.scroll { max-height: 32rem; overflow: auto; border: 1px solid var(--line); border-radius: .5rem; background:
  linear-gradient(90deg, var(--paper) 30%, transparent) 0 0 / 2.5rem 100% no-repeat local,
  linear-gradient(270deg, var(--paper) 30%, transparent) 100% 0 / 2.5rem 100% no-repeat local,
  linear-gradient(0deg, var(--paper) 30%, transparent) 0 100% / 100% 2.5rem no-repeat local,
  linear-gradient(90deg, var(--shadow), transparent) 0 0 / 1rem 100% no-repeat scroll,
  linear-gradient(270deg, var(--shadow), transparent) 100% 0 / 1rem 100% no-repeat scroll,
  linear-gradient(0deg, var(--shadow), transparent) 0 100% / 100% 1rem no-repeat scroll; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: bottom; }
.scroll thead { position: sticky; top: 0; background: var(--card); }
.scroll th[colspan] { text-align: center; border-bottom: 0; }
table.compared { width: auto; min-width: 100%; }
.compared th, .compared td { text-align: left; vertical-align: top; }
.compared thead th { min-width: 5.5rem; overflow-wrap: anywhere; }
.compared td { overflow-wrap: anywhere; }
tr.best td { font-weight: 700; background: var(--best); }
details { margin-top: 2.75rem; }
summary { cursor: pointer; font-size: 1.2rem; font-weight: 700; }
.groups { columns: 3 16rem; column-gap: 2rem; margin-top: 1rem; }
.groups section { break-inside: avoid; padding: .5rem 0; }
.groups h3 { margin-top: 0; }
.groups th, .groups td { padding: .15rem 0; font-weight: 400; overflow-wrap: anywhere; }
.groups th { text-align: left; padding-right: 1rem; white-space: nowrap; vertical-align: top; }
.samples { margin: 0; padding: 0; list-style: none; }
.samples li { display: grid; grid-template-columns: 6rem 1fr; gap: 1rem; padding: .5rem 0;
  border-top: 1px solid var(--line); }
.epoch { font-size: .9rem; }
.text, blockquote { white-space: pre-wrap; overflow-wrap: anywhere; font-family: Georgia, "DejaVu Serif", serif; }
.text { margin: 0; }
blockquote { margin: 0; padding: 1rem 1.25rem; border-left: 4px solid var(--blue); background: var(--card);
  font-size: 1.1rem; }
@media (max-width: 36rem) {
  body { padding: 1.25rem .75rem 2.5rem; }
  .scroll table { font-size: .75rem; }
  .scroll th, .scroll td { padding: .3rem .2rem; }
  .scroll th { font-size: .7rem; }
  .samples li { grid-template-columns: 1fr; gap: 0; }
}
@media print { .scroll { max-height: none; } }
"""
