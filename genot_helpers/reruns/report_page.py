"""The page of a report, as a Jinja template: HTML and a little CSS, nothing from elsewhere."""

from __future__ import annotations

__all__ = ["PAGE"]

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  :root { color-scheme: light; }
  body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; color: #222; background: #fff;
         font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
  h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .2rem; }
  h2 { font-size: 1.15rem; margin: 1.8rem 0 .5rem; padding-top: .6rem; border-top: 1px solid #ccc; }
  .subtitle { color: #555; margin: 0; }
  p { margin: .5rem 0; max-width: 48rem; }
  ul { margin: .5rem 0; padding-left: 1.3rem; max-width: 48rem; }
  figure { margin: 1rem 0; break-inside: avoid; }
  figure img { max-width: 100%; height: auto; max-height: 24rem; }
  figcaption { color: #444; font-size: .9rem; max-width: 48rem; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; font-size: .88rem; margin: .6rem 0; }
  th, td { text-align: left; vertical-align: top; padding: .2rem .7rem .2rem 0;
           border-bottom: 1px solid #e4e4e4; overflow-wrap: anywhere; min-width: 3rem; }
  th { border-bottom: 2px solid #888; white-space: nowrap; overflow-wrap: normal; }
  td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
  td.look { background: #f9efb0; }
  td.mend { background: #d55e00; color: #fff; }
  .caveats { background: #fff8e1; border-left: 4px solid #e69f00; padding: .3rem 1rem; }
  .small { font-size: .85rem; color: #444; }
  @media print { body { font-size: 10pt; max-width: none; padding: 0; } h2 { break-after: avoid; } }
</style>
</head>
<body>
<header>
<h1>{{ title }}</h1>
<p class="subtitle">{{ subtitle }}{{ " · " if subtitle else "" }}{{ date }}</p>
</header>
{% for heading, blocks in sections.items() %}
<section>
<h2>{{ heading }}</h2>
{% for block in blocks %}
{% if block.kind == "text" %}
<p>{{ block.text }}</p>
{% elif block.kind == "list" %}
<ul>
{% for line in block.lines %}
<li>{{ line }}</li>
{% endfor %}
</ul>
{% elif block.kind == "figure" %}
<figure>
<img alt="{{ block.caption or heading }}" src="data:image/png;base64,{{ block.image }}">
{% if block.caption %}
<figcaption>{{ block.caption }}</figcaption>
{% endif %}
</figure>
{% else %}
<div class="scroll"><table>
<thead><tr>
{% for name in block.header %}
<th class="{{ "number" if block.numeric[loop.index0] else "" }}">{{ name }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in block.rows %}
<tr>
{% for value in row %}
{% set kind = value if value in ("look", "mend") else "" %}
<td class="{{ "number" if block.numeric[loop.index0] else kind }}">{{ value }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
{% endif %}
{% endfor %}
</section>
{% endfor %}
{% if caveats %}
<section>
<h2>What this cannot tell</h2>
<div class="caveats"><ul>
{% for line in caveats %}
<li>{{ line }}</li>
{% endfor %}
</ul></div>
</section>
{% endif %}
<section class="small">
<h2>How it was made</h2>
{% if parameters %}
<div class="scroll"><table>
<thead><tr><th>parameter</th><th>value</th></tr></thead>
<tbody>
{% for name, value in parameters.items() %}
<tr><td>{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}
</tbody>
</table></div>
{% endif %}
<p>Versions: {{ versions | join(", ") }}.</p>
{% if references %}
<p>To cite:</p>
<ul>
{% for line in references %}
<li>{{ line }}</li>
{% endfor %}
</ul>
{% endif %}
</section>
</body>
</html>
"""
