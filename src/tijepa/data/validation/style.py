"""The style sheet of doctor.html: system fonts, two schemes, one column on a phone."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root {
  color-scheme: light dark; --page: #fbfbf9; --card: #fff; --ink: #1c1d21; --soft: #62656d;
  --edge: #e4e4df; --sunk: #f1f1ed; --bar: #2f62d0; --good: #17703f; --good-bg: #e3f3e9;
  --bad: #b02a1f; --bad-bg: #fbe8e5; --warn: #8a5a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131417; --card: #1b1c20; --ink: #ececea; --soft: #a4a7af; --edge: #2e3036;
    --sunk: #222329; --bar: #7ea6ff; --good: #74d69b; --good-bg: #163323; --bad: #ff9b8e;
    --bad-bg: #43201c; --warn: #e0b84a;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
header, main { max-width: 1040px; margin: 0 auto; padding: 0 28px; }
header { padding-top: 48px; }
main { padding-bottom: 72px; }
h1 { margin: 0; font-size: clamp(1.8rem, 5vw, 2.5rem); line-height: 1.15; letter-spacing: -0.02em; }
h2 { margin: 56px 0 6px; font-size: 1.35rem; letter-spacing: -0.01em; }
h3 { margin: 0; font-size: 1.02rem; }
p { margin: 0 0 10px; max-width: 70ch; }
.soft { color: var(--soft); font-size: 0.92rem; }
.verdict { margin: 20px 0 0; padding: 14px 18px; border-radius: 12px; background: var(--good-bg); }
.verdict b { color: var(--good); }
.verdict.unfit { background: var(--bad-bg); }
.verdict.unfit b { color: var(--bad); }
.verdict p:last-child { margin: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(122px, 1fr)); gap: 12px;
  margin: 20px 0 0; }
.tile, .card { background: var(--card); border: 1px solid var(--edge); border-radius: 12px;
  padding: 14px 18px; min-width: 0; }
.tile dt { color: var(--soft); font-size: 0.88rem; }
.tile dd { margin: 0; font-size: 1.6rem; font-weight: 640; letter-spacing: -0.02em; }
.card { margin-top: 14px; }
.card > header { display: flex; gap: 6px 14px; align-items: baseline; flex-wrap: wrap; padding: 0;
  margin: 0 0 4px; max-width: none; }
.count { color: var(--soft); font-size: 0.92rem; }
.count.bad { color: var(--bad); font-weight: 600; }
.count.warn { color: var(--warn); font-weight: 600; }
pre { margin: 4px 0 12px; padding: 11px 14px; background: var(--sunk); border-radius: 9px;
  white-space: pre-wrap;
  font: 0.86rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.examples, .groups { display: grid; gap: 12px; margin: 12px 0 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 200px), 1fr)); }
.groups { grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
.examples li, .groups > li { background: var(--sunk); border-radius: 9px; padding: 10px;
  font-size: 0.84rem; line-height: 1.4; min-width: 0; }
.examples img { display: block; width: 100%; height: 130px; object-fit: contain;
  margin-bottom: 8px; }
.examples q { display: block; color: var(--soft); margin-top: 4px; }
.side { display: flex; gap: 8px; flex-wrap: wrap; }
.side figure { margin: 0; flex: 1 1 120px; max-width: 180px; min-width: 0; }
.side img { display: block; width: 100%; height: 120px; object-fit: contain; }
.side figcaption { font-size: 0.8rem; color: var(--soft); margin-top: 4px; }
.scroll { overflow-x: auto; border: 1px solid var(--edge); border-radius: 12px;
  background: var(--card); margin-top: 12px; }
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; }
th, td { padding: 8px 14px; text-align: right; border-top: 1px solid var(--edge);
  overflow-wrap: normal; }
thead th { border-top: 0; color: var(--soft); font-weight: 520; font-size: 0.84rem; }
th:first-child { text-align: left; min-width: 120px; overflow-wrap: anywhere; }
tbody th { font-weight: 500; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr));
  gap: 14px; margin-top: 12px; }
.two .card { margin: 0; }
.bars { display: grid; grid-template-columns: max-content minmax(40px, 1fr) max-content;
  gap: 3px 10px; font-size: 0.85rem; align-items: center; margin: 8px 0 0; }
.bars dt { max-width: 42vw; }
.bars dd { margin: 0; }
.bars i { display: block; height: 12px; min-width: 1px; background: var(--bar); opacity: 0.85;
  border-radius: 3px; }
.bars dd:nth-of-type(2n) { text-align: right; color: var(--soft); }
@media (max-width: 620px) {
  header, main { padding-left: 16px; padding-right: 16px; }
  header { padding-top: 28px; }
  h2 { margin-top: 40px; }
  .card { padding: 12px 14px; }
}
"""
