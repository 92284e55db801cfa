// A graph as the service has laid it out, as elements of SVG; nodes lit by their state.

import { html, shown } from "./parts.js";

const path = (line) => `M${line.start.join(" ")}` + line.curves.map((curve) => `C${curve.flat().join(" ")}`).join("");

/** @param {{layout: object, states: Object<string, {state: string, count: number}>, sent?: (from: string, type: string) => number}} props */
export const Picture = ({ layout, states, sent }) => html`<div class="scroll"><svg class="graph" role="img" aria-label="the graph"
    viewBox=${`0 0 ${layout.width} ${layout.height}`} width=${layout.width} height=${layout.height}>
  <defs><marker id="tip" viewBox="0 0 10 10" refX="0" refY="5" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L10 5L0 10z" /></marker></defs>
  <${Drawn} layout=${layout} states=${states} sent=${sent} /></svg></div>`;

const nameOf = (box) => box.lines.map((line) => line.text).join("");

/** The name in the box at which a line begins. */
function fromOf(line, layout) {
  const [x, y] = line.start;
  const box = layout.boxes.find((each) => x >= each.left - 1 && x <= each.left + each.width + 1 && y >= each.top - 1 && y <= each.top + each.height + 1);
  return box ? nameOf(box) : "";
}

function Label({ label, n }) {
  const text = n ? `${shown(label.text)} ${n}` : shown(label.text), width = label.width + 2 + (n ? 7 * (String(n).length + 1) : 0);
  return html`<g><rect class="ground" x=${label.x - width / 2} y=${label.y - 7} width=${width} height="14" /><text class="type" x=${label.x} y=${label.y + 3.5}>${text}</text></g>`;
}

function Drawn({ layout, states, sent }) {
  return html`<g>
    ${layout.lines.map((line) => html`<path class=${`edge${line.is_dashed ? " dashed" : ""}`} d=${path(line)} marker-end="url(#tip)" />`)}
    ${layout.lines.flatMap((line) => line.labels.map((label) => html`<${Label} label=${label} n=${sent ? sent(fromOf(line, layout), label.text) : 0} />`))}
    ${layout.boxes.map((box) => {
      const found = states[nameOf(box)];
      return html`<g class=${`box ${box.shape} ${found ? found.state.replace(/\W/g, "-") : ""}`}>
        <rect x=${box.left} y=${box.top} width=${box.width} height=${box.height} rx=${box.shape === "pill" ? 16 : 4} />
        ${box.lines.map((line) => html`<text x=${line.x} y=${line.y + 4}>${shown(line.text)}</text>`)}
        ${found ? html`<text class="tally" x=${box.left + box.width} y=${box.top - 3}>${found.count}</text>` : null}
        ${box.inner ? html`<g transform=${`translate(${box.at[0]} ${box.at[1]})`}><${Drawn} layout=${box.inner} states=${{}} /></g>` : null}
      </g>`;
    })}</g>`;
}
