"""The style sheet of the report: system fonts, two schemes, one column on a phone."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root {
  color-scheme: light dark; --page: #fbfbf9; --card: #ffffff; --ink: #1c1d21; --soft: #62656d;
  --faint: #8b8e96; --edge: #e4e4df; --sunk: #f3f3ef; --accent: #2458c5; --good: #17703f;
  --good-bg: #e3f3e9; --bad: #b02a1f; --bad-bg: #fbe8e5; --s1: #2f62d0; --s2: #cf5f0e;
  --s3: #0d8471; --s4: #8a4bc2; --s5: #b8860b; --s6: #c43a72; --s7: #4b7f1d; --s8: #5c6470;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131417; --card: #1b1c20; --ink: #ececea; --soft: #a4a7af; --faint: #7f828b;
    --edge: #2e3036; --sunk: #222329; --accent: #8db2ff; --good: #74d69b; --good-bg: #163323;
    --bad: #ff9b8e; --bad-bg: #43201c; --s1: #7ea6ff; --s2: #f59a55; --s3: #46c9b2;
    --s4: #c394f5; --s5: #e0b84a; --s6: #f583b0; --s7: #9ccc65; --s8: #a9b0bc;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
main, header, footer { max-width: 1040px; margin: 0 auto; padding: 0 28px; }
header { padding-top: 56px; }
h1 {
  margin: 0; font-size: clamp(1.9rem, 5vw, 2.7rem); line-height: 1.12; letter-spacing: -0.022em;
  font-weight: 680; overflow-wrap: anywhere;
}
h2 { margin: 0 0 4px; font-size: 1.4rem; letter-spacing: -0.012em; line-height: 1.25; }
h3 { margin: 34px 0 12px; font-size: 1rem; font-weight: 620; }
p { margin: 0 0 12px; max-width: 68ch; text-wrap: pretty; }
a { color: var(--accent); text-underline-offset: 0.18em; }
a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 3px; border-radius: 4px;
}
section { margin-top: 64px; scroll-margin-top: 20px; }
.kicker { margin: 0 0 8px; color: var(--soft); font-size: 0.86rem; }
.lead { margin: 18px 0 0; font-size: 1.09rem; max-width: 62ch; }
.about { color: var(--soft); margin-bottom: 20px; }
.empty, .note { color: var(--soft); }
.note { margin: 6px 0 0; font-size: 0.82rem; line-height: 1.45; }
.verdict {
  display: flex; gap: 12px; align-items: baseline; margin: 18px 0 0; padding: 11px 16px;
  border-radius: 10px; background: var(--sunk); font-size: 0.95rem; max-width: none;
}
.verdict b { white-space: nowrap; }
.verdict.healthy { background: var(--good-bg); }
.verdict.healthy b { color: var(--good); }
.verdict.collapsed, .verdict.degrading { background: var(--bad-bg); }
.verdict.collapsed b, .verdict.degrading b { color: var(--bad); }
nav { margin-top: 30px; padding: 12px 0; border-block: 1px solid var(--edge); }
nav ul {
  display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 0; padding: 0; list-style: none;
}
nav a { color: var(--soft); text-decoration: none; font-size: 0.89rem; }
nav a:hover { color: var(--ink); text-decoration: underline; }
.tiles { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; margin-top: 30px; }
.tile {
  background: var(--card); border: 1px solid var(--edge); border-radius: 14px;
  padding: 20px 22px;
}
.tile h2 { font-size: 0.93rem; font-weight: 560; letter-spacing: 0; color: var(--soft); }
.tile .big {
  margin: 4px 0 10px; font-size: clamp(2.3rem, 7vw, 3.3rem); font-weight: 660; line-height: 1.1;
  letter-spacing: -0.035em;
}
.tile .big small { font-size: 0.9rem; font-weight: 450; letter-spacing: 0; color: var(--soft); }
.tile svg { display: block; width: 100%; height: 12px; border-radius: 6px; }
.bar-ground { fill: var(--sunk); }
.bar-10 { fill: var(--s1); opacity: 0.24; }
.bar-5 { fill: var(--s1); opacity: 0.38; }
.bar-1 { fill: var(--s1); }
.tile dl {
  display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 12px 0 0; font-size: 0.89rem;
}
.tile dl div { display: flex; gap: 7px; }
.tile dt { color: var(--soft); }
.tile dd { margin: 0; }
.scroll {
  overflow-x: auto; border: 1px solid var(--edge); border-radius: 12px; background: var(--card);
}
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; }
caption { text-align: left; padding: 12px 14px 4px; color: var(--soft); font-size: 0.86rem; }
th, td {
  padding: 9px 14px; text-align: right; white-space: nowrap; border-top: 1px solid var(--edge);
}
thead th { border-top: 0; color: var(--soft); font-weight: 520; font-size: 0.84rem; }
thead tr + tr th { padding-top: 0; }
th[scope=row], td.words, thead th.words { text-align: left; }
th[scope=row] {
  font-weight: 500; white-space: normal; min-width: 120px; max-width: 240px; line-height: 1.35;
}
th[scope=colgroup] { text-align: center; padding-bottom: 3px; }
th.split, td.split { padding-left: 26px; }
tr.chosen th, tr.chosen td { font-weight: 660; }
tr.chance th, tr.chance td { color: var(--soft); font-weight: 400; }
td.words { white-space: normal; overflow-wrap: anywhere; }
.facts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); gap: 22px 34px;
  margin: 0;
}
.facts dt { color: var(--soft); font-size: 0.84rem; }
.facts dd { margin: 1px 0 0; overflow-wrap: anywhere; }
.facts dd small { color: var(--soft); font-size: 0.86rem; }
.tasks .scroll, #collapse .scroll { max-width: 640px; }
.tasks { margin-top: 26px; }
#match .chart { max-width: 440px; }
.charts {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr));
  gap: 16px;
}
figure { margin: 0; }
.chart {
  background: var(--card); border: 1px solid var(--edge); border-radius: 14px;
  padding: 16px 18px 14px; min-width: 0;
}
.chart figcaption { font-weight: 600; font-size: 0.95rem; }
.chart svg { display: block; width: 100%; height: auto; margin-top: 8px; overflow: visible; }
.legend {
  display: flex; flex-wrap: wrap; gap: 1px 16px; margin: 4px 0 0; padding: 0; list-style: none;
  font-size: 0.83rem; color: var(--soft); line-height: 1.5;
}
.legend b { color: var(--ink); font-weight: 600; }
.key {
  display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin-right: 5px;
  vertical-align: 0.24em;
}
.key.reference {
  background: repeating-linear-gradient(90deg, var(--faint) 0 4px, transparent 4px 7px);
}
.grid { stroke: var(--edge); stroke-width: 1; }
.tick { fill: var(--soft); font-size: 11.5px; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.line.reference { stroke: var(--faint); stroke-width: 1.5; stroke-dasharray: 5 4; }
.line.dashed { stroke-dasharray: 6 5; }
.key.dashed {
  -webkit-mask: repeating-linear-gradient(90deg, #000 0 4px, #0000 4px 6px);
  mask: repeating-linear-gradient(90deg, #000 0 4px, #0000 4px 6px);
}
.band { stroke: none; opacity: 0.2; }
.dot { stroke: var(--card); stroke-width: 1; }
.images, .captions { margin: 0; padding: 0; list-style: none; }
.cards {
  display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr));
}
.card {
  background: var(--card); border: 1px solid var(--edge); border-radius: 14px;
  padding: 16px 18px; min-width: 0;
}
.card blockquote {
  margin: 0 0 12px; font-size: 0.97rem; line-height: 1.4; overflow-wrap: anywhere;
}
.card blockquote::before { content: "\\201C"; color: var(--faint); }
.card blockquote::after { content: "\\201D"; color: var(--faint); }
.card img, .absent {
  display: block; width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 8px;
  background: var(--sunk);
}
.absent { display: grid; place-items: center; color: var(--soft); font-size: 0.76rem; }
.images { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: 9px; }
.images .match img { outline: 3px solid var(--good); outline-offset: -1px; }
.energy { color: var(--soft); font-size: 0.8rem; white-space: nowrap; }
.images .energy { display: block; text-align: center; margin-top: 5px; }
.match .energy, .tick-mark { color: var(--good); font-weight: 660; }
.image_to_text .card {
  display: grid; grid-template-columns: minmax(84px, 124px) minmax(0, 1fr); gap: 16px;
  align-items: start;
}
.captions li {
  display: flex; justify-content: space-between; gap: 14px; padding: 5px 0; font-size: 0.88rem;
  line-height: 1.35; border-top: 1px solid var(--edge); align-items: baseline;
}
.captions li:first-child { border-top: 0; padding-top: 0; }
.captions .caption { overflow-wrap: anywhere; }
.captions .match .caption { font-weight: 600; }
.matrix {
  display: grid; grid-template-columns: minmax(0, 540px) minmax(200px, 1fr); gap: 34px;
  align-items: center;
}
.matrix .image {
  display: block; width: 100%; height: auto; image-rendering: pixelated; border-radius: 10px;
}
.scale img { display: block; width: 100%; height: 12px; border-radius: 6px; }
.scale p {
  display: flex; justify-content: space-between; margin: 5px 0 0; font-size: 0.84rem;
  color: var(--soft);
}
.matrix-words { margin-bottom: 20px; }
pre {
  margin: 0; padding: 14px 16px; overflow-x: auto; background: var(--sunk); border-radius: 10px;
  font: 0.84rem/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace;
}
pre.command { white-space: pre-wrap; overflow-wrap: anywhere; }
details {
  margin-top: 14px; border: 1px solid var(--edge); border-radius: 12px; background: var(--card);
  padding: 0 18px;
}
summary { padding: 13px 0; cursor: pointer; font-weight: 560; font-size: 0.95rem; }
details > :last-child { margin-bottom: 18px; }
details .scroll { border: 0; border-radius: 0; }
caption span {
  position: sticky; left: 16px; display: inline-block; max-width: calc(100vw - 68px);
}
.table-gap { margin-top: 16px; }
footer { margin-top: 72px; padding-bottom: 48px; color: var(--faint); font-size: 0.84rem; }
@media (max-width: 620px) {
  main, header, footer { padding-left: 16px; padding-right: 16px; }
  header { padding-top: 30px; }
  section { margin-top: 48px; }
  .tiles, .matrix { grid-template-columns: minmax(0, 1fr); gap: 14px; }
  .tile .big small { display: block; margin-top: 4px; line-height: 1.3; }
  .tick { font-size: 13.5px; }
  .facts { grid-template-columns: 1fr 1fr; gap: 18px 20px; }
  .verdict { display: block; }
  .verdict b { display: block; }
  th, td { padding: 8px 11px; }
  th.split, td.split { padding-left: 18px; }
  .chart, .card { padding: 14px; }
  .images { gap: 6px; }
  .energy { font-size: 0.72rem; }
  .image_to_text .card { grid-template-columns: 84px minmax(0, 1fr); gap: 12px; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
@media print { nav { display: none; } .chart, .card, .tile { break-inside: avoid; } }
""" + "\n".join(
    f".line.s{k}, .dot.s{k} {{ stroke: var(--s{k}); }} .key.s{k} {{ background: var(--s{k}); }}"
    f" .band.s{k}, .dot.s{k} {{ fill: var(--s{k}); }}"
    for k in range(1, 9)
)
