"""The page's look: one sheet, light and dark by what the reader's system asks for."""

from __future__ import annotations

SHEET = """
:root { color-scheme: light dark; --ground: #fbfbfa; --card: #fff; --ink: #1c1f23; --soft: #5d656e; --rule: #e3e5e8;
  --a: #2563a8; --b: #c2571a; --c: #2f8a5b; --shade: #2563a81f; --bad: #b3261e; --good: #1d7a46; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --card: #1c2024; --ink: #e7eaed; --soft: #9aa4ae;
  --rule: #30363c; --a: #74b0f0; --b: #f0a061; --c: #6fcf9b; --shade: #74b0f02b; --bad: #ff8a80; --good: #79d6a1; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 40px 0 4px; }
p { margin: 4px 0 12px; color: var(--soft); max-width: 78ch; }
code { font: 13px ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 12px; margin-top: 20px; }
.card, .panel { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 14px 16px; }
.card b { display: block; font-size: 23px; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.25; }
.card span { color: var(--soft); font-size: 13px; }
.card i { font-style: normal; font-size: 13px; }
.worse { color: var(--bad); } .better { color: var(--good); }
.panel { overflow-x: auto; margin-top: 8px; }
svg { display: block; width: 100%; height: auto; }
.panel > svg { min-width: 720px; }
.grid { stroke: var(--rule); } .tick, .name { fill: var(--soft); font-size: 11.5px; } .name { fill: var(--ink); }
.line { fill: none; stroke-width: 2; } .line.a { stroke: var(--a); } .line.b { stroke: var(--b); } .line.c { stroke: var(--c); }
.dot.a { fill: var(--a); } .dot.b { fill: var(--b); } .dot.c { fill: var(--c); } .bar { fill: var(--a); }
.range { fill: var(--shade); stroke: var(--a); stroke-width: 1; } .bin { fill: var(--c); }
.keys { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 0 0 8px; color: var(--soft); font-size: 13px; }
.keys span::before { content: ""; display: inline-block; width: 14px; height: 3px; margin-right: 7px; vertical-align: middle; }
.keys .a::before { background: var(--a); } .keys .b::before { background: var(--b); } .keys .c::before { background: var(--c); }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--rule); padding: 6px 10px 6px 0;
  white-space: nowrap; }
td { border-bottom: 1px solid var(--rule); padding: 5px 10px 5px 0; vertical-align: top; white-space: nowrap; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 180px; max-width: 320px; }
td.n, th.n { text-align: right; } tr:last-child td { border-bottom: 0; }
.many { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 12px; margin-top: 8px; }
.many figure { margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 10px 12px; }
figcaption { font-size: 12.5px; color: var(--soft); overflow-wrap: anywhere; margin-bottom: 6px; }
figcaption b { color: var(--ink); font-weight: 600; }
.many img { width: 100%; max-height: 150px; object-fit: contain; image-rendering: pixelated; display: block; margin-bottom: 6px; }
footer { margin-top: 48px; color: var(--soft); font-size: 13px; }
@media print { main { max-width: none; } .panel, .many figure { break-inside: avoid; } }
"""
